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
      h("h1", {}, "Page not found"),
      h("p", {}, "Check the address, or go to the queue."),
      h("a", { class: "button primary", href: "#/" }, "Go to the queue"),
    ),
  );
}
