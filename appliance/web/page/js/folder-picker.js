/** Chooses a folder of the server: a field for its path, and beside it a dialog that walks through the folders. */

import { get } from "./api.js";
import { askForm } from "./dialogs.js";
import { fill, h, setText } from "./dom.js";
import { errorBox, field, showError } from "./forms.js";
import { icon } from "./icons.js";

/** Make a labelled field for a path with a button that opens the dialog. */
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
  const trouble = errorBox();
  let path = "/";
  const open = async (to) => {
    showError(trouble, null);
    const place = await get("/api/folders/places", { path: to });
    path = place.path;
    setText(here, place.path);
    fill(
      list,
      place.parent !== null && item("..", "arrowUp", () => go(place.parent)),
      place.folders.map(({ name, path: inner }) => item(name, "folder", () => go(inner))),
      place.folders.length === 0 && h("li", { class: "quiet-text" }, "No subfolders."),
      place.more && h("li", { class: "quiet-text" }, "More folders than can be listed: type the path instead."),
    );
  };
  const go = async (to) => {
    try {
      await open(to);
      list.querySelector("button")?.focus();
    } catch (error) {
      showError(trouble, error);
    }
  };
  const shown = askForm({
    title,
    content: h("div", { class: "stack" }, here, list, trouble),
    yes: "Choose this folder",
    send: () => path,
  });
  // A path that was typed and is not there yet begins at the root.
  await open(start || "/").catch(() => go("/"));
  list.querySelector("button")?.focus();
  return shown;
}

function item(name, symbol, act) {
  const button = h("button", { type: "button", class: "place" }, icon(symbol), h("span", {}, name));
  button.addEventListener("click", act);
  return h("li", {}, button);
}
