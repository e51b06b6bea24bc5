/** First steps on a new server, each with a link. */

import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { currentSession, mayAdminister } from "../session.js";

export const title = "First steps";

const STEPS = [
  ["plus", "Add a file", "Drop a video or audio file on the queue and try a preview.", "#/", "Open the queue"],
  ["users", "Add users", "Give everyone who uses this server their own account.", "#/users", "Add users"],
  ["folder", "Add a watch folder", "New recordings are then enhanced automatically.", "#/folders", "Add a watch folder"],
  ["settings", "Check the settings", "Certificate, disk reserve, e-mail and privacy.", "#/settings", "Open settings"],
  ["bell", "Set up notifications", "In the browser or by e-mail, when a job is done.", "#/account", "Open your account"],
];

/** Show the view. */
export async function show(root) {
  const steps = mayAdminister() ? STEPS : [STEPS[0], STEPS.at(-1)];
  fill(
    root,
    h("h1", {}, "Welcome"),
    h("p", { class: "lead" }, `Hello ${currentSession().user.name}. This server is ready to use. Next steps:`),
    h(
      "ul",
      { class: "first-steps" },
      steps.map(([symbol, word, text, href, action]) =>
        h(
          "li",
          { class: "panel" },
          icon(symbol, "big"),
          h("h2", {}, word),
          h("p", {}, text),
          h("a", { class: "button", href }, action),
        ),
      ),
    ),
    !/^(localhost|127\.|\[::1\])/.test(location.hostname) && h(
      "p",
      { class: "hint" },
      "On a phone on the same network, open this address: ",
      h("strong", {}, location.origin),
    ),
    h("p", {}, h("a", { class: "button primary", href: "#/" }, "Go to the queue")),
  );
}
