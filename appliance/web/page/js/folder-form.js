/** The fields of a watch folder. */

import { modelChoices } from "./choices.js";
import { h } from "./dom.js";
import { checkbox, field, FormError, input, select } from "./forms.js";

const DEFAULTS = {
  path: "",
  destination: "",
  preset: "",
  model: null,
  schedule: null,
  hold_s: 10,
  include: [],
  exclude: [],
  polling: false,
  done_folder: null,
  enabled: true,
};

/** Make the fields for a folder (null: a new one); `models` are the box's own. Gives `boxes` and `read()`, which gives what the server takes. */
export function folderFields(folder, presets, models) {
  const now = { ...DEFAULTS, ...folder };
  const path = input({ spellcheck: "false", props: { value: now.path } });
  const destination = input({ spellcheck: "false", props: { value: now.destination } });
  const preset = select(
    presets.map(({ name, title }) => [name, title]),
    now.preset || presets[0].name,
  );
  const own = now.model ?? "";
  const model = select(modelChoices(models, own), own);
  const nights = checkbox(
    "Only at certain hours",
    now.schedule !== null,
    "For instance at night, so that the machine is free during the day.",
  );
  const from = input({ type: "time", props: { value: now.schedule?.from ?? "22:00" } });
  const to = input({ type: "time", props: { value: now.schedule?.to ?? "06:00" } });
  const hours = h("div", { class: "pair" }, field("From", from), field("To", to));
  const show = () => {
    hours.hidden = !nights.control.checked;
  };
  nights.control.addEventListener("change", show);
  show();
  const include = input({ spellcheck: "false", props: { value: now.include.join(", ") }, placeholder: "*.mp4, *.mkv" });
  const exclude = input({ spellcheck: "false", props: { value: now.exclude.join(", ") }, placeholder: "test*" });
  const hold = input({ type: "number", min: 0, max: 86400, props: { value: now.hold_s } });
  const polling = checkbox(
    "It is on another machine",
    now.polling,
    "For shares (NFS, SMB): Relume then looks again and again, because such shares do not tell when something changes.",
  );
  const done = input({ spellcheck: "false", props: { value: now.done_folder ?? "" } });
  return {
    boxes: [
      field("Folder to watch", path, "Its full path on the machine that runs Relume, with all folders in it."),
      field("Where results go", destination, "Another folder; it gets the same folders inside."),
      field("What shall happen", preset),
      nights.box,
      hours,
      h(
        "details",
        { class: "more-fields" },
        h("summary", {}, "More choices"),
        h(
          "div",
          { class: "stack" },
          models.length > 0 || own ? field("Video model", model) : null,
          field("Only these files", include, "Separated by commas. Empty: all that can be read."),
          field("Not these files", exclude),
          field(
            "Seconds of rest before a file is taken",
            hold,
            "A file that still grows is never taken; this is the time it must have been quiet.",
          ),
          polling.box,
          field("Move originals to", done, "Empty: originals stay where they are."),
        ),
      ),
    ],
    read: () => {
      if (!path.value.trim()) throw new FormError("Type the path of the folder to watch.");
      if (!destination.value.trim()) throw new FormError("Type the path of the folder where results go.");
      return {
        path: path.value.trim(),
        destination: destination.value.trim(),
        preset: preset.value,
        model: model.value || null,
        schedule: nights.control.checked ? { from: from.value, to: to.value } : null,
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

function split(text) {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
}
