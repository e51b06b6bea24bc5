/** Tables that become cards on a phone, and the pager of long lists. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";

/** Create a table; `rows` are lists of cells (nodes or texts), one for each heading. */
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

/** Create the buttons "Newer" and "Older"; `go(offset)` loads another page. */
export function pager(go) {
  const box = h("nav", { class: "pager", "aria-label": "More entries" });
  return {
    box,
    update: (offset, limit, total) => {
      box.hidden = total <= limit;
      const button = (word, symbol, to, possible) => {
        const made = h("button", { type: "button", class: "button", disabled: !possible }, icon(symbol), word);
        made.addEventListener("click", () => go(to));
        return made;
      };
      fill(
        box,
        button("Newer", "arrowUp", Math.max(0, offset - limit), offset > 0),
        h("span", { role: "status" }, `${offset + 1}–${Math.min(total, offset + limit)} of ${total}`),
        button("Older", "arrowDown", offset + limit, offset + limit < total),
      );
    },
  };
}
