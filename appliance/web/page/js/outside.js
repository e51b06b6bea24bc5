/** What set-up and log-in have in common: one quiet card beside a picture of what Relume does. */

import { fill, h } from "./dom.js";
import { mark } from "./icons.js";
import { themeButton } from "./shell.js";

/** Show a card with a heading, a sentence and what else belongs on it. */
export function showOutside(root, heading, sentence, ...content) {
  fill(
    root,
    h(
      "div",
      { class: "outside" },
      h(
        "main",
        { class: "outside-card" },
        h("div", { class: "brand large" }, mark(), h("span", {}, "Relume")),
        h("h1", {}, heading),
        h("p", { class: "lead" }, sentence),
        content,
      ),
      h("footer", { class: "outside-foot" }, themeButton()),
    ),
  );
}
