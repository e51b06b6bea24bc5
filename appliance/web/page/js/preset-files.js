/** Export and import of the saved presets as a file. */

import { ApiError, post } from "./api.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { notify, notifyError } from "./messages.js";

const NOT_A_FILE = "This is not a file of presets. Choose one that was exported from Relume.";

/** Return the section of the account page. */
export function presetFiles() {
  const chosen = h("input", { type: "file", accept: ".json,application/json", class: "unseen", "aria-label": "File of presets" });
  const load = h("button", { type: "button", class: "button" }, icon("upload"), "Import");
  load.addEventListener("click", () => chosen.click());
  chosen.addEventListener("change", async () => {
    const [file] = chosen.files;
    chosen.value = "";
    if (file) await importFile(file).catch(notifyError);
  });
  return h(
    "section",
    { class: "panel" },
    h(
      "div",
      { class: "head" },
      h("h2", {}, "Saved presets"),
      h(
        "div",
        { class: "row" },
        h("a", { class: "button", href: "/api/own-presets/export", download: true }, icon("download"), "Export"),
        load,
        chosen,
      ),
    ),
    h("p", { class: "hint" }, "Take your presets to another server, or pass them on. Presets of the same name are replaced."),
  );
}

async function importFile(file) {
  let content;
  try {
    content = JSON.parse(await file.text());
  } catch {
    throw new ApiError(422, "file", NOT_A_FILE);
  }
  if (!Array.isArray(content?.presets)) throw new ApiError(422, "file", NOT_A_FILE);
  const saved = await post("/api/own-presets/import", content);
  notify(saved.length === 1 ? "1 preset imported." : `${saved.length} presets imported.`);
}
