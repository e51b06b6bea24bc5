/** Watch folders: files added to them are enhanced automatically. */

import { get, patch, post, remove } from "../api.js";
import { ask, askForm } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { folderFields } from "../folder-form.js";
import { count, formatMoment, sentence } from "../format.js";
import { icon } from "../icons.js";
import { describeChoices, loadModels, loadPresets } from "../job-options.js";
import { listen } from "../live.js";
import { notifyError, notify } from "../messages.js";

export const title = "Watch folders";

const SETTLE_MS = 500;

/** Show the view. */
export async function show(root, _, signal) {
  const [presets, models] = await Promise.all([loadPresets(), loadModels()]);
  const add = h("button", { type: "button", class: "button primary" }, icon("plus"), "Add watch folder");
  const place = h("div", { class: "stack" });
  let shown = "";
  const load = async (always = true) => {
    const folders = await get("/api/folders", {}, { signal });
    const now = JSON.stringify(folders);
    // Redrawn only if something changed: an open list of problems stays open, and a button keeps its focus.
    if (!always && now === shown) return;
    shown = now;
    const kept = always ? null : document.activeElement?.dataset?.focus;
    fill(place, folders.length > 0 ? folders.map((folder) => card(folder, presets, models, load)) : none(() => add.click()));
    if (kept) place.querySelector(`[data-focus="${CSS.escape(kept)}"]`)?.focus();
  };
  let timer = 0;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => load(false).catch(() => {}), SETTLE_MS);
  };
  listen("folders", soon, signal);
  listen("reload", soon, signal);
  signal.addEventListener("abort", () => clearTimeout(timer));
  add.addEventListener("click", () => edit(null, presets, models, load));
  fill(
    root,
    h("div", { class: "head" }, h("h1", {}, "Watch folders"), add),
    h(
      "p",
      { class: "lead" },
      "Files added to a watch folder are enhanced automatically. Originals are never changed.",
    ),
    place,
  );
  await load();
}

function none(add) {
  const button = h("button", { type: "button", class: "button primary" }, icon("plus"), "Add watch folder");
  button.addEventListener("click", add);
  return h(
    "div",
    { class: "empty" },
    icon("folder", "big"),
    h(
      "p",
      {},
      "No watch folders yet. Add a folder that receives new files, for example a recorder’s network share.",
    ),
    button,
  );
}

function card(folder, presets, models, load) {
  const change = h("button", { type: "button", class: "button", "data-focus": `edit ${folder.id}` }, icon("settings"), "Edit");
  const hold = h(
    "button",
    { type: "button", class: "button", "data-focus": `hold ${folder.id}` },
    icon(folder.enabled ? "pause" : "play"),
    folder.enabled ? "Pause" : "Resume",
  );
  const drop = h("button", { type: "button", class: "button subdued", "data-focus": `drop ${folder.id}` }, icon("trash"), "Remove");
  const after = (work) => async () => {
    try {
      await work();
      await load();
    } catch (error) {
      notifyError(error);
    }
  };
  change.addEventListener("click", () => edit(folder, presets, models, load));
  hold.addEventListener(
    "click",
    after(() => patch(`/api/folders/${folder.id}`, { enabled: !folder.enabled })),
  );
  drop.addEventListener(
    "click",
    after(async () => {
      const sure = await ask({
        title: "Stop watching this folder?",
        text: `${folder.path} will no longer be watched. Its files, jobs and results are kept.`,
        yes: "Remove",
        danger: true,
      });
      if (sure) await remove(`/api/folders/${folder.id}`);
    }),
  );
  return h(
    "article",
    { class: "panel folder" },
    h(
      "div",
      { class: "folder-head" },
      icon("folder"),
      h("h2", { class: "path", translate: "no" }, folder.path),
      h("span", { class: folder.enabled ? "state state-done" : "state" }, folder.enabled ? "Watching" : "Paused"),
    ),
    h(
      "dl",
      { class: "facts" },
      facts(folder).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value))),
    ),
    activity(folder),
    problems(folder.problems ?? []),
    h("div", { class: "row" }, change, hold, drop),
  );
}

function facts(folder) {
  return [
    ["Results", folder.destination],
    ["Enhancement", describeChoices(folder)],
    ["Hours", folder.schedule ? `${folder.schedule.from} – ${folder.schedule.to}` : "Any time"],
    ["Files", describeFiles(folder)],
    folder.done_folder && ["Originals are moved to", folder.done_folder],
  ].filter(Boolean);
}

function problems(list) {
  if (list.length === 0) return null;
  return h(
    "details",
    { class: "problems", open: list.length < 4 },
    h("summary", {}, icon("alert"), summary(list)),
    h(
      "ul",
      {},
      list.map(({ file, reason, tries }) =>
        h(
          "li",
          {},
          h("strong", { class: "path", translate: file ? "no" : null }, file || "Folder"),
          h("span", {}, sentence(reason), tries > 1 && [" ", `Tried ${tries} times.`]),
        ),
      ),
    ),
  );
}

function summary(list) {
  const files = list.filter(({ file }) => file).length;
  if (files === 0) return "The folder cannot be watched";
  return files === 1 ? "1 file could not be processed" : `${files} files could not be processed`;
}

function describeFiles({ include = [], exclude = [] }) {
  const all = include.join(", ") || "All video and audio files";
  return exclude.length > 0 ? `${all}, except ${exclude.join(", ")}` : all;
}

/** Create the counts of a folder's files with links to its jobs. */
function activity({ id, activity: now, enabled }) {
  if (!now) return null;
  const number = (value, word, state = "") =>
    h(
      "div",
      { class: state === "failed" && value > 0 ? "tally tally-bad" : "tally" },
      h("dt", {}, word),
      h("dd", {}, state && value > 0 ? h("a", { href: `#/history?folder=${id}&state=${state}` }, String(value)) : String(value)),
    );
  const names = now.passed_over_names.join(", ");
  return h(
    "div",
    { class: "stack" },
    h(
      "dl",
      { class: "tallies" },
      number(now.waiting, "Waiting"),
      number(now.working, "Processing"),
      number(now.done_today, "Done today", "done"),
      number(now.failed, "Failed", "failed"),
    ),
    h(
      "p",
      { class: "hint" },
      now.last_at ? ["Last file", ": ", now.last_file, ", ", formatMoment(now.last_at)] : enabled && "No file has arrived yet.",
      now.last_at && [" · ", h("a", { href: `#/history?folder=${id}` }, "Show jobs")],
    ),
    now.passed_over > 0 &&
      h("p", { class: "hint" }, `${count(now.passed_over, "other file")} ignored (${names}${now.passed_over > now.passed_over_names.length ? ", …" : ""})`),
  );
}

async function edit(folder, presets, models, load) {
  const fields = folderFields(folder, presets, models);
  const made = await askForm({
    title: folder ? "Edit watch folder" : "Add watch folder",
    content: fields.boxes,
    yes: folder ? "Save" : "Add",
    send: async () => {
      const values = fields.read();
      const send = (create) => {
        const body = { ...values, create };
        return folder ? patch(`/api/folders/${folder.id}`, body) : post("/api/folders", body);
      };
      try {
        return await send(false);
      } catch (error) {
        if (error.code !== "folder_missing" || !(await confirmCreate(values[error.field]))) throw error;
        return send(true);
      }
    },
  });
  if (!made) return;
  notify(folder ? "Saved." : "Watching the folder.");
  await load().catch(notifyError);
}

function confirmCreate(path) {
  return ask({ title: "This folder does not exist", text: `Create ${path}?`, yes: "Create" });
}
