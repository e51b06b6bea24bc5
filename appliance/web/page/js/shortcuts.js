/** The list of keyboard shortcuts, which the key "?" opens on every page. */

import { showNote } from "./dialogs.js";
import { h } from "./dom.js";

const SHORTCUTS = [
  ["Everywhere", [["?", "Show this list"], ["Tab", "Next control"], ["Esc", "Close a dialog or the menu"]]],
  [
    "Comparison",
    [
      ["Space", "Play or pause"],
      ["← →", "Previous or next frame"],
      ["B", "Hold to see the original"],
      ["1 – 5", "Choose the view"],
      ["+ − 0", "Zoom in, out, or fit"],
      ["F", "Full screen"],
      ["M", "Mute"],
      ["S", "Switch between original and enhanced audio"],
    ],
  ],
];

/** Create the tables of shortcuts. */
export function shortcutTables() {
  return SHORTCUTS.map(([heading, rows]) =>
    h(
      "section",
      { class: "shortcuts" },
      h("h3", {}, heading),
      h(
        "dl",
        {},
        rows.map(([keys, what]) => h("div", {}, h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what))),
      ),
    ),
  );
}

/** Open the list on the key "?" until the signal is aborted. */
export function listenForShortcutHelp(signal) {
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest?.("input, select, textarea, dialog, [contenteditable]")) return;
      event.preventDefault();
      showNote({ title: "Keyboard shortcuts", content: shortcutTables() });
    },
    { signal },
  );
}
