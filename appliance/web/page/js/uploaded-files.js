/** Uploaded files without a job: which of them to enhance, and which cannot be used. */

import { get } from "./api.js";
import { fill, h, setText, showList } from "./dom.js";
import { count, formatBytes, endSentence, sentence } from "./format.js";
import { icon } from "./icons.js";
import { describeMedia } from "./job-options.js";
import { announce, notifyError, offerUndo, UNDO_MS } from "./messages.js";
import { byName, isBeingRemoved, undoRemoval, listenArrivals, removeFile, removeFileLater } from "./uploads.js";

const LOOK_AGAIN_MS = 1500;
const SETTLE_MS = 200;

/** Load the uploaded files of this user that have no job, without those that are about to be removed. */
export async function loadFiles(signal) {
  return (await get("/api/files", {}, { signal })).filter(({ id }) => !isBeingRemoved(id)).sort(byName);
}

/**
 * Show the uploaded files in `root` until the signal is aborted.
 *
 * Returns `chosen()`, the files to enhance, and `reload()`; `onChange` is called after every change.
 */
export async function showReady(root, onChange, signal) {
  const deselected = new Set();
  // Damaged files that were shown: they stay deselected until the user selects them.
  const warned = new Set();
  let files = [];
  let timer = 0;
  const list = h("ul", { class: "files" });
  const title = h("h2", { id: "ready-title" }, "Files");
  const all = h("button", { type: "button", class: "button small" });
  const bad = h("details", { class: "bad-files", hidden: true });
  const box = h(
    "section",
    { class: "panel ready", "aria-labelledby": "ready-title", hidden: true },
    h("div", { class: "head" }, title, all),
    list,
    bad,
  );
  root.append(box);
  const usable = () => files.filter(isUsable);
  const chosen = () => usable().filter(({ id }) => !deselected.has(id));

  function draw() {
    const shown = files.filter(({ error }) => !error);
    const number = chosen().length;
    box.hidden = files.length === 0;
    setText(title, shown.length > 1 ? `${number} of ${count(shown.length, "file")} selected` : "File");
    all.hidden = usable().length < 2;
    setText(all, number === usable().length ? "Select none" : "Select all");
    showList(
      list,
      shown,
      ({ id }) => id,
      (file) => fileRow(file, deselected, changed, load),
    );
    drawBad(
      bad,
      files.filter(({ error }) => error),
      load,
    );
  }

  function changed() {
    draw();
    onChange();
  }

  async function load() {
    clearTimeout(timer);
    files = await loadFiles(signal);
    for (const { id } of files.filter((file) => file.probe?.damage && !warned.has(file.id))) {
      warned.add(id);
      deselected.add(id);
    }
    if (files.some((file) => !file.probe && !file.error)) {
      timer = setTimeout(() => load().catch(notifyError), LOOK_AGAIN_MS);
    }
    changed();
  }

  all.addEventListener("click", () => {
    const every = chosen().length === usable().length;
    for (const { id } of usable()) {
      if (every) deselected.add(id);
      else deselected.delete(id);
    }
    changed();
  });
  listenArrivals((upload) => {
    announce(`${upload.file.name} has been uploaded.`);
    // Several small files may arrive within a moment.
    clearTimeout(timer);
    timer = setTimeout(() => load().catch(notifyError), SETTLE_MS);
  }, signal);
  signal.addEventListener("abort", () => clearTimeout(timer));
  await load();
  return { chosen, reload: load };
}

function isUsable(file) {
  return Boolean(file.probe) && !file.error;
}

function fileRow(file, deselected, changed, load) {
  const id = `file-${file.id}`;
  const check = h("input", { type: "checkbox", id });
  const facts = h("span", { class: "file-facts" });
  const picture = h("span", { class: "thumb small" });
  const drop = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": `Remove: ${file.name}`, title: "Remove" },
    icon("trash"),
  );
  const row = h(
    "li",
    { class: "file" },
    check,
    picture,
    h("label", { for: id }, h("span", { class: "file-name" }, file.name), facts),
    drop,
  );
  check.addEventListener("change", () => {
    if (check.checked) deselected.delete(file.id);
    else deselected.add(file.id);
    changed();
  });
  drop.addEventListener("click", () => {
    removeFileLater(file.id, UNDO_MS, notifyError);
    const next = row.nextElementSibling ?? row.previousElementSibling;
    const redraw = () => load().catch(notifyError);
    offerUndo(`“${file.name}” was removed.`, async () => {
      undoRemoval(file.id);
      await redraw();
      document.getElementById(id)?.focus();
    });
    redraw();
    (next?.querySelector("button") ?? document.getElementById("chooser"))?.focus();
  });
  let shown = null;
  row.update = (now) => {
    check.disabled = !isUsable(now);
    check.checked = isUsable(now) && !deselected.has(now.id);
    const what = now.probe ? describeMedia(now.probe) : "Checking …";
    const damage = now.probe?.damage;
    const warning = damage ? ` · ${sentence(damage)} Select it to enhance what can be read.` : "";
    setText(facts, [what, formatBytes(now.size_bytes)].join(" · ") + warning);
    row.classList.toggle("file-bad", Boolean(damage));
    if (shown === String(now.has_thumbnail) + Boolean(now.probe)) return;
    shown = String(now.has_thumbnail) + Boolean(now.probe);
    fill(
      picture,
      now.has_thumbnail
        ? h("img", { src: `/api/files/${now.id}/thumbnail`, alt: "", loading: "lazy" })
        : icon(now.probe?.has_picture === false ? "sound" : "film"),
    );
  };
  row.update(file);
  return row;
}

// All unusable files share one line.
function drawBad(box, files, load) {
  box.hidden = files.length === 0;
  const drop = h("button", { type: "button", class: "button small" }, files.length > 1 ? "Remove all" : "Remove");
  drop.addEventListener("click", async () => {
    drop.disabled = true;
    try {
      // Nothing is lost: the server has deleted the data and only kept the reason.
      for (const { id } of files) await removeFile(id);
    } catch (error) {
      notifyError(error);
    }
    await load().catch(notifyError);
    document.getElementById("chooser")?.focus();
  });
  fill(
    box,
    h("summary", {}, icon("alert"), `${count(files.length, "file")} cannot be used`, h("span", { class: "more" }, "Show")),
    h(
      "ul",
      {},
      files.map(({ name, error }) => h("li", {}, h("strong", {}, name), h("span", {}, endSentence(error)))),
    ),
    drop,
  );
}
