/** A page that the user may not open, or an address that names no page. */

import { fill, h } from "../dom.js";
import { icon } from "../icons.js";

export const title = "Not available";

const FORBIDDEN = [
  "You need an administrator account for this page",
  "Log in as an administrator, or ask one to do this for you.",
];
const MISSING = ["Page not found", "Check the address, or go to the queue."];

/** Show the view; `reason` is "forbidden", or empty for an unknown address. */
export async function show(root, reason) {
  const isForbidden = reason === "forbidden";
  const [heading, text] = isForbidden ? FORBIDDEN : MISSING;
  fill(
    root,
    h(
      "div",
      { class: "empty" },
      isForbidden && icon("lock", "big"),
      h("h1", {}, heading),
      h("p", {}, text),
      h("a", { class: "button primary", href: "#/" }, "Go to the queue"),
    ),
  );
}
