/** Tables that become cards on a phone. */

import { h } from "./dom.js";

/** Make a table; `rows` are lists of cells (nodes or texts), one for each of the headings. */
export function table(caption, headings, rows) {
  return h(
    "table",
    { class: "table" },
    h("caption", { class: "unseen" }, caption),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        headings.map((word) => h("th", { scope: "col" }, word || h("span", { class: "unseen" }, "Actions"))),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map((cells) =>
        h(
          "tr",
          {},
          cells.map((cell, index) => h("td", { "data-heading": headings[index] }, cell)),
        ),
      ),
    ),
  );
}
