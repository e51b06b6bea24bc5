/** Watch folders: what lands in them is enhanced by itself. */

import { get, patch, post, remove } from "../api.js";
import { loadModels, loadPresets, presetTitle } from "../choices.js";
import { ask, askForm } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { folderFields } from "../folder-form.js";
import { icon } from "../icons.js";
import { complain, notify } from "../notices.js";
import { count } from "../words.js";

export const title = "Watch folders";

/** Show the view. */
export async function show(root, _, signal) {
  const [presets, models] = await Promise.all([loadPresets(), loadModels()]);
  const add = h("button", { type: "button", class: "button primary" }, icon("plus"), "Add a folder");
  const place = h("div", { class: "stack" });
  const load = async () => {
    const folders = await get("/api/folders", {}, { signal });
    fill(place, folders.length > 0 ? folders.map((folder) => card(folder, presets, models, load)) : none());
  };
  add.addEventListener("click", () => edit(null, presets, models, load));
  fill(
    root,
    h("div", { class: "head" }, h("h1", {}, "Watch folders"), add),
    h(
      "p",
      { class: "lead" },
      "What is copied into such a folder is enhanced by itself. The originals are never changed.",
    ),
    place,
  );
  await load();
}

function none() {
  return h(
    "div",
    { class: "empty" },
    icon("folder", "big"),
    h(
      "p",
      {},
      "There is no watch folder yet. Add one for the place where recordings arrive, for instance the share of a recorder.",
    ),
  );
}

function card(folder, presets, models, load) {
  const change = h("button", { type: "button", class: "button" }, icon("settings"), "Change");
  const hold = h(
    "button",
    { type: "button", class: "button" },
    icon(folder.enabled ? "pause" : "play"),
    folder.enabled ? "Switch off" : "Switch on",
  );
  const drop = h("button", { type: "button", class: "button subdued" }, icon("trash"), "Remove");
  const after = (work) => async () => {
    try {
      await work();
      await load();
    } catch (error) {
      complain(error);
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
        title: "Watch this folder no more?",
        text: `${folder.path} is watched no more. Its files stay as they are.`,
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
      h("h2", { class: "path" }, folder.path),
      h("span", { class: folder.enabled ? "state state-done" : "state" }, folder.enabled ? "Watched" : "Switched off"),
    ),
    h(
      "dl",
      { class: "facts" },
      facts(folder).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value))),
    ),
    problems(folder.problems ?? []),
    h("div", { class: "row" }, change, hold, drop),
  );
}

function facts(folder) {
  return [
    ["Results go to", folder.destination],
    ["What happens", [presetTitle(folder.preset), folder.model].filter(Boolean).join(", with ")],
    ["When", folder.schedule ? `From ${folder.schedule.from} to ${folder.schedule.to}` : "At any time"],
    ["Files", (folder.include ?? []).join(", ") || "All"],
    folder.done_folder && ["Originals move to", folder.done_folder],
  ].filter(Boolean);
}

function problems(list) {
  if (list.length === 0) return null;
  return h(
    "details",
    { class: "problems", open: list.length < 4 },
    h("summary", {}, icon("alert"), `${count(list.length, "file")} could not be read`),
    h(
      "ul",
      {},
      list.map(({ file, reason, tries }) =>
        h("li", {}, h("strong", { class: "path" }, file), h("span", {}, `${reason} (${count(tries, "try", "tries")})`)),
      ),
    ),
  );
}

async function edit(folder, presets, models, load) {
  const fields = folderFields(folder, presets, models);
  const made = await askForm({
    title: folder ? "Change the folder" : "Add a folder",
    content: fields.boxes,
    yes: folder ? "Save" : "Add",
    send: () => (folder ? patch(`/api/folders/${folder.id}`, fields.read()) : post("/api/folders", fields.read())),
  });
  if (!made) return;
  notify(folder ? "Saved." : "The folder is watched now.");
  await load().catch(complain);
}
