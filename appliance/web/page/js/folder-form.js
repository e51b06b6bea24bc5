/** The form of a watch folder, and the dialog that browses folders of the server. */

import { get } from "./api.js";
import { askForm } from "./dialogs.js";
import { fill, h, setText } from "./dom.js";
import { checkbox, errorBox, field, FormError, input, select, showError } from "./forms.js";
import { icon } from "./icons.js";
import { FORMATS, GRAINS, LOUDNESS, modelChoices, SCALES, SOUNDS, withValue } from "./job-options.js";

const DEFAULTS = {
  path: "",
  destination: "",
  preset: "",
  scale: null,
  strength: null,
  grain: null,
  audio: null,
  loudness: null,
  codec: null,
  model: null,
  allow_damaged: false,
  schedule: null,
  hold_s: 10,
  include: [],
  exclude: [],
  polling: false,
  done_folder: null,
  enabled: true,
};
const PRESET_DECIDES = ["", "Preset default"];
const STRENGTHS = [PRESET_DECIDES, ...[30, 50, 75, 100].map((percent) => [String(percent / 100), `${percent}%`])];

/** Create the fields of a watch folder (null: a new one) with the installed custom `models`. Returns `boxes` and `read()`, the values for the API. */
export function folderFields(folder, presets, models) {
  const now = { ...DEFAULTS, ...folder };
  const plain = (name, attributes = {}) => input({ name, spellcheck: "false", ...attributes });
  const path = plain("path", { props: { value: now.path } });
  const destination = plain("destination", { props: { value: now.destination } });
  const done = plain("done_folder", { props: { value: now.done_folder ?? "" } });
  const preset = select(
    presets.map(({ name, title }) => [name, title]),
    now.preset || presets[0].name,
  );
  const own = now.model ?? "";
  const model = select(modelChoices(models, own), own);
  const scale = select([PRESET_DECIDES, ...entries(SCALES)], now.scale ?? "");
  const strength = select(withValue(STRENGTHS, now.strength), now.strength ?? "");
  const audio = select([PRESET_DECIDES, ...entries(SOUNDS)], now.audio ?? "");
  const loudness = select([PRESET_DECIDES, ...entries(LOUDNESS)], now.loudness ?? "");
  const grain = select(withValue([PRESET_DECIDES, ...GRAINS], now.grain), now.grain ?? "");
  const codec = select([PRESET_DECIDES, ...entries(FORMATS)], now.codec ?? "");
  const hours = hourFields(now.schedule);
  const include = plain("include", { props: { value: now.include.join(", ") }, placeholder: "*.mp4, *.mkv" });
  const exclude = plain("exclude", { props: { value: now.exclude.join(", ") }, placeholder: "test*" });
  const hold = input({ name: "hold_s", type: "number", min: 0, max: 86400, props: { value: now.hold_s } });
  const damaged = checkbox(
    "Process damaged files",
    now.allow_damaged,
    "Enhance the readable part of damaged files instead of reporting them.",
  );
  const polling = checkbox(
    "Network share (NFS, SMB)",
    now.polling,
    "Relume then polls the folder, because network shares do not report changes.",
  );
  return {
    boxes: [
      pathField("Folder to watch", path, "Full path on the server; subfolders included."),
      pathField("Folder for results", destination, "The subfolder structure is kept."),
      h("p", { class: "hint" }, "With Docker, use the path inside the container: the right-hand side of the volume (host:container)."),
      field("Enhancement", preset),
      ...hours.boxes,
      h(
        "details",
        { class: "more-fields" },
        h("summary", {}, "More options"),
        h(
          "div",
          { class: "stack" },
          h("div", { class: "pair" }, field("Size", scale), field("Strength", strength)),
          h("div", { class: "pair" }, field("Audio", audio), field("Loudness", loudness)),
          h("div", { class: "pair" }, field("Format", codec), field("Film grain", grain)),
          models.length > 0 || own ? field("Video model", model) : null,
          field("Only these files", include, "Separated by commas. Empty: all video and audio files."),
          field("Exclude files or folders", exclude),
          field(
            "Wait until a file is unchanged for (seconds)",
            hold,
            "Files that are still growing are never processed.",
          ),
          damaged.box,
          polling.box,
          pathField("Move originals to", done, "Empty: originals stay where they are."),
        ),
      ),
    ],
    read: () => {
      if (!path.value.trim()) throw new FormError("Enter or choose the folder to watch.", path);
      if (!destination.value.trim()) throw new FormError("Enter or choose the folder for results.", destination);
      return {
        path: path.value.trim(),
        destination: destination.value.trim(),
        preset: preset.value,
        scale: scale.value === "" || scale.value === "auto" ? scale.value || null : Number(scale.value),
        strength: strength.value === "" ? null : Number(strength.value),
        grain: grain.value === "" ? null : Number(grain.value),
        audio: audio.value || null,
        loudness: loudness.value || null,
        codec: codec.value || null,
        model: model.value || null,
        allow_damaged: damaged.control.checked,
        schedule: hours.read(),
        hold_s: Number(hold.value),
        include: split(include.value),
        exclude: split(exclude.value),
        polling: polling.control.checked,
        done_folder: done.value.trim() || null,
        enabled: now.enabled,
      };
    },
  };
}

function hourFields(schedule) {
  const nights = checkbox(
    "Only during certain hours",
    schedule !== null,
    "For example at night, to keep the server free during the day.",
  );
  const from = input({ name: "from", type: "time", props: { value: schedule?.from ?? "22:00" } });
  const to = input({ name: "to", type: "time", props: { value: schedule?.to ?? "06:00" } });
  const hours = h("div", { class: "pair" }, field("From", from), field("To", to));
  const show = () => {
    hours.hidden = !nights.control.checked;
  };
  nights.control.addEventListener("change", show);
  show();
  return {
    boxes: [nights.box, hours],
    read: () => (nights.control.checked ? { from: from.value, to: to.value } : null),
  };
}

function entries(words) {
  return Object.entries(words);
}

function split(text) {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
}

/** Create a labelled path field with a button that opens the folder dialog. */
export function pathField(label, control, hint) {
  const made = field(label, control, hint);
  const browse = h("button", { type: "button", class: "button", "aria-label": `Browse: ${label}` }, "Browse");
  const row = h("div", { class: "path-row" });
  control.replaceWith(row);
  row.append(control, browse);
  browse.addEventListener("click", async () => {
    const chosen = await pickFolder(label, control.value.trim());
    if (chosen === undefined) return;
    control.value = chosen;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  });
  return made;
}

async function pickFolder(title, start) {
  const here = h("p", { class: "path", role: "status" });
  const list = h("ul", { class: "places" });
  const errorPanel = errorBox();
  let path = "/";
  const open = async (to) => {
    showError(errorPanel, null);
    const place = await get("/api/folders/places", { path: to });
    path = place.path;
    setText(here, place.path);
    fill(
      list,
      place.parent !== null && item("..", "arrowUp", () => go(place.parent)),
      place.folders.map(({ name, path: inner }) => item(name, "folder", () => go(inner))),
      place.folders.length === 0 && h("li", { class: "quiet-text" }, "No subfolders."),
      place.more && h("li", { class: "quiet-text" }, "Too many folders to list. Enter the path instead."),
    );
  };
  const go = async (to) => {
    try {
      await open(to);
      list.querySelector("button")?.focus();
    } catch (error) {
      showError(errorPanel, error);
    }
  };
  const shown = askForm({
    title,
    content: h("div", { class: "stack" }, here, list, errorPanel),
    yes: "Choose this folder",
    send: () => path,
  });
  // A typed path that does not exist yet starts at the root.
  await open(start || "/").catch(() => go("/"));
  list.querySelector("button")?.focus();
  return shown;
}

function item(name, symbol, act) {
  const button = h("button", { type: "button", class: "place" }, icon(symbol), h("span", {}, name));
  button.addEventListener("click", act);
  return h("li", {}, button);
}
