/** An address that names no view. */

import { fill, h } from "../dom.js";

export const title = "Not found";

/** Show the view. */
export async function show(root) {
  fill(
    root,
    h(
      "div",
      { class: "empty" },
      h("h1", {}, "There is no such page"),
      h("p", {}, "The address may be mistyped, or the page has moved."),
      h("a", { class: "button primary", href: "#/" }, "To the queue"),
    ),
  );
}
