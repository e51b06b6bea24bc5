/** Saved presets: named options above the form of a new job. */

import { get, patch, post, remove } from "./api.js";
import { ask, askForm } from "./dialogs.js";
import { fill, h, newId } from "./dom.js";
import { checkbox, field, input, select } from "./forms.js";
import { icon } from "./icons.js";
import { notifyError, notify } from "./messages.js";
import { currentSession, mayAdminister } from "./session.js";

const KEY = "relume.choices";

/** Return the options of this user's last job in this browser, or null. */
export function lastChoices() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}")[currentSession().user.id] ?? null;
  } catch {
    return null;
  }
}

/** Remember the options of a job for the next one. */
export function rememberChoices(choices) {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    localStorage.setItem(KEY, JSON.stringify({ ...kept, [currentSession().user.id]: choices }));
  } catch {
    // Without storage the next job starts with the first preset.
  }
}

/**
 * Show the saved presets. With `begin` the form starts with the user's default preset, else with the options of the last job.
 *
 * `form` is an options form; `onChange` is called after a saved preset was applied to it.
 */
export async function savedPresets(form, { begin, onChange }, signal) {
  const box = h("div", { class: "saved-presets" });
  let saved = await get("/api/own-presets", {}, { signal });
  let chosen = "";

  function apply(id) {
    chosen = id;
    const preset = saved.find((one) => one.id === id);
    if (preset) form.setChoices(preset.choices);
    draw();
  }

  async function reload(id) {
    saved = await get("/api/own-presets", {}, { signal });
    chosen = saved.some((one) => one.id === id) ? id : "";
    draw();
  }

  function draw() {
    const preset = saved.find(({ id }) => id === chosen);
    const save = h("button", { type: "button", class: "button small" }, icon("plus"), "Save as preset");
    save.addEventListener("click", () => saveAs(form, reload).catch(notifyError));
    fill(box, saved.length > 0 && chooser(saved, chosen, apply, onChange), preset && actions(preset, reload), save);
  }

  const first = saved.find(({ is_default: isDefault }) => isDefault);
  if (begin && first) {
    apply(first.id);
  } else if (begin && lastChoices()) {
    form.setChoices(lastChoices());
  }
  draw();
  return box;
}

function chooser(saved, chosen, apply, onChange) {
  const id = newId("saved");
  const list = select(
    [["", "None"], ...saved.map((one) => [one.id, `${one.name}${one.shared ? " (everyone)" : ""}`])],
    chosen,
    { id, class: "small-select" },
  );
  list.addEventListener("change", () => {
    apply(list.value);
    document.getElementById(id)?.focus();
    onChange();
  });
  return [h("label", { for: id }, "Saved preset"), list];
}

function actions(preset, reload) {
  const isDefault = checkbox("Use as default for new jobs", preset.is_default);
  isDefault.control.addEventListener("change", () =>
    patch(`/api/own-presets/${preset.id}`, { is_default: isDefault.control.checked })
      .then(() => reload(preset.id))
      .catch(notifyError),
  );
  if (preset.shared && !mayAdminister()) return isDefault.box;
  const drop = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": `Delete preset: ${preset.name}`, title: "Delete preset" },
    icon("trash"),
  );
  drop.addEventListener("click", async () => {
    const sure = await ask({
      title: "Delete this preset?",
      text: `“${preset.name}” will be deleted${preset.shared ? " for everyone" : ""}. Existing jobs are not affected.`,
      yes: "Delete",
      no: "Keep preset",
      danger: true,
    });
    if (sure) await remove(`/api/own-presets/${preset.id}`).then(() => reload(""), notifyError);
  });
  return [isDefault.box, drop];
}

async function saveAs(form, reload) {
  const name = input({ maxlength: 60, required: true });
  const isDefault = checkbox("Use as default for new jobs", false);
  const shared = checkbox("Share with everyone", false);
  const saved = await askForm({
    title: "Save as preset",
    content: [field("Name", name), isDefault.box, mayAdminister() && shared.box],
    yes: "Save",
    send: async () => {
      const made = await post("/api/own-presets", {
        name: name.value,
        choices: form.choices(),
        shared: shared.control.checked,
      });
      if (isDefault.control.checked) await patch(`/api/own-presets/${made.id}`, { is_default: true });
      return made;
    },
  });
  if (saved === undefined) return;
  notify(`Preset “${saved.name}” saved.`);
  await reload(saved.id);
}
