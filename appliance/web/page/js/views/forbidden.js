/** A page for administrators, asked for by someone else. */

import { fill, h } from "../dom.js";
import { icon } from "../icons.js";

export const title = "Not allowed";

/** Show the view. */
export async function show(root) {
  fill(
    root,
    h(
      "div",
      { class: "empty" },
      icon("lock", "big"),
      h("h1", {}, "You need an administrator account for this page"),
      h("p", {}, "Log in as an administrator, or ask one to do this for you."),
      h("a", { class: "button primary", href: "#/" }, "Go to the queue"),
    ),
  );
}
