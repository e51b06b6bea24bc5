/** The files that have arrived and wait for a decision: choose files, choose what shall happen, look, start. */

import { get, post } from "./api.js";
import { describeMedia, loadModels, loadPresets } from "./choices.js";
import { composer } from "./composer.js";
import { fill, h, setText, showList } from "./dom.js";
import { estimateLine } from "./estimate.js";
import { icon } from "./icons.js";
import { announce, complain, notify, offerUndo, UNDO_MS } from "./notices.js";
import { closePreview, showPreview } from "./preview.js";
import { isRemoved, keepFile, listenArrivals, removeFileLater } from "./uploads.js";
import { count, describeBytes, endSentence } from "./words.js";

const LOOK_AGAIN_MS = 1500;
const SETTLE_MS = 200;

/** Show the arrived files in `root`, until the signal is aborted. */
export async function showReady(root, signal) {
  const [presets, models] = await Promise.all([loadPresets(), loadModels()]);
  const left = new Set();
  let files = [];
  let timer = 0;

  const list = h("ul", { class: "files" });
  const title = h("h2", { id: "ready-title" });
  const start = h("button", { type: "button", class: "button primary large", id: "start" });
  const look = h("button", { type: "button", class: "button large" }, icon("eye"), "Preview 3 seconds");
  const previewBox = h("div", { class: "preview", hidden: true });
  let fits = true;
  const estimate = estimateLine((answer) => {
    fits = answer;
    drawButtons();
  }, signal);
  const form = composer(presets, models, () => reconsider());
  const box = h(
    "section",
    { class: "panel ready", "aria-labelledby": "ready-title", hidden: true },
    title,
    list,
    form.box,
    h("div", { class: "ready-end" }, estimate.box, h("div", { class: "row" }, look, start)),
    previewBox,
  );
  root.append(box);

  const chosen = () => files.filter((file) => isUsable(file) && !left.has(file.id));

  function drawButtons() {
    const number = chosen().length;
    fill(start, icon("spark"), number > 1 ? `Start ${number} jobs` : "Start");
    start.disabled = number === 0 || !fits;
    look.disabled = number === 0;
  }

  function reconsider() {
    fits = true;
    form.describeFor(chosen().length === 1 ? chosen()[0].probe : null);
    drawButtons();
    estimate.ask(chosen(), form.choices());
  }

  const load = async () => {
    clearTimeout(timer);
    files = (await get("/api/files", {}, { signal })).filter(({ id }) => !isRemoved(id));
    box.hidden = files.length === 0;
    setText(title, files.length === 1 ? "Ready to start" : `Ready to start: ${count(files.length, "file")}`);
    showList(
      list,
      files,
      ({ id }) => id,
      (file) => fileRow(file, left, reconsider, load),
    );
    if (files.some((file) => !file.probe && !file.error))
      timer = setTimeout(() => load().catch(complain), LOOK_AGAIN_MS);
    reconsider();
  };

  start.addEventListener("click", async () => {
    start.disabled = true;
    const wanted = chosen();
    const choices = form.choices();
    let made = 0;
    try {
      for (const file of wanted) {
        if (wanted.length > 1) fill(start, icon("spark"), `Starting ${made + 1} of ${wanted.length} …`);
        await post("/api/jobs", { file: file.id, ...choices });
        made += 1;
      }
      notify(made === 1 ? `“${wanted[0].name}” is in the queue.` : `${made} jobs are in the queue.`);
      closePreview(previewBox);
    } catch (error) {
      complain(error);
    }
    await load().catch(complain);
  });
  look.addEventListener("click", async () => {
    look.disabled = true;
    try {
      await showPreview(previewBox, chosen()[0], form.choices(), signal);
    } catch (error) {
      complain(error);
    }
    drawButtons();
  });
  listenArrivals((upload) => {
    announce(`${upload.file.name} has arrived.`);
    // Of many small files several arrive in a moment.
    clearTimeout(timer);
    timer = setTimeout(() => load().catch(complain), SETTLE_MS);
  }, signal);
  signal.addEventListener("abort", () => clearTimeout(timer));
  await load();
}

function isUsable(file) {
  return Boolean(file.probe) && !file.error;
}

function fileRow(file, left, changed, load) {
  const id = `file-${file.id}`;
  const check = h("input", { type: "checkbox", id });
  const facts = h("span", { class: "file-facts" });
  const drop = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": `Remove: ${file.name}`, title: "Remove" },
    icon("trash"),
  );
  const row = h(
    "li",
    { class: "file" },
    check,
    h("label", { for: id }, h("span", { class: "file-name" }, file.name), facts),
    drop,
  );
  check.addEventListener("change", () => {
    if (check.checked) left.delete(file.id);
    else left.add(file.id);
    changed();
  });
  drop.addEventListener("click", () => {
    removeFileLater(file.id, UNDO_MS, complain);
    const next = row.nextElementSibling ?? row.previousElementSibling;
    const redraw = () => load().catch(complain);
    offerUndo(`“${file.name}” was removed.`, () => {
      keepFile(file.id);
      redraw();
    });
    redraw();
    (next?.querySelector("button") ?? document.getElementById("chooser"))?.focus();
  });
  row.update = (now) => {
    check.disabled = !isUsable(now);
    check.checked = isUsable(now) && !left.has(now.id);
    row.classList.toggle("file-bad", Boolean(now.error));
    const what = now.error
      ? `${endSentence(now.error)} Remove it here and choose another file.`
      : now.probe
        ? describeMedia(now.probe)
        : "Checking …";
    setText(facts, now.error ? what : [what, describeBytes(now.size_bytes)].join(" · "));
  };
  row.update(file);
  return row;
}
