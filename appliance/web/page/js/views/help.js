/** Help: quick start, questions, keyboard shortcuts and the API. */

import { fill, h } from "../dom.js";
import { mayAdminister } from "../session.js";
import { shortcutTables } from "../shortcuts.js";

export const title = "Help";

const STEPS = [
  ["Add files", "Open the queue and drop video or audio files on the page, or choose them. Interrupted uploads resume automatically."],
  ["Choose a preset", "Each preset describes what it does. The estimate shows the processing time and the disk space needed."],
  ["Preview", "A preview enhances a few seconds, so you can compare before the whole file is processed."],
  ["Start", "Jobs run one after the other. You can close the page: the server keeps working, even after a power failure."],
  ["Compare and download", "Open the finished job, drag the before/after slider, and download the result."],
];
const QUESTIONS = [
  ["Are my originals changed?", "No. Results are new files; originals are never changed."],
  ["Does anything leave this server?", "No. All processing happens on this server, without an internet connection."],
  ["A job failed. What now?", "The job shows the reason. Fix it and choose Retry; the job resumes where it stopped."],
  ["How do I process files automatically?", "Ask an administrator to add a watch folder. Files added to it are enhanced automatically."],
];

/** Show the view. */
export async function show(root) {
  fill(
    root,
    h("h1", {}, "Help"),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, "Quick start"),
      h(
        "ol",
        { class: "steps" },
        STEPS.map(([word, text]) => h("li", {}, h("strong", {}, word), h("p", {}, text))),
      ),
    ),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, "Questions"),
      h(
        "dl",
        { class: "questions" },
        QUESTIONS.map(([question, answer]) => h("div", {}, h("dt", {}, question), h("dd", {}, answer))),
      ),
    ),
    h("section", { class: "panel" }, h("h2", {}, "Keyboard shortcuts"), h("div", { class: "two" }, shortcutTables())),
    h(
      "section",
      { class: "panel" },
      h("h2", {}, "API"),
      h("p", {}, "Everything in the web interface is also available through the API. Create a token in your account."),
      h("p", {}, h("a", { href: "/openapi.json" }, "API description (OpenAPI)")),
      mayAdminister() && h("p", {}, h("a", { href: "#/administration" }, "Webhooks"), " · ", h("a", { href: "#/users" }, "Users")),
    ),
  );
}
