/** Help: how one gets from a file to a better one, the shortcuts, and where more is told. */

import { fill, h } from "../dom.js";
import { shortcutTables } from "../help-keys.js";
import { mayAdminister } from "../session.js";

export const title = "Help";

const STEPS = [
  ["Add files", "Open the queue and drop video or audio files on the page, or choose them. Interrupted uploads resume."],
  ["Choose a preset", "Each preset says what it does. The estimate shows how long it takes and how much disk space it needs."],
  ["Preview", "A preview enhances a few seconds, so you can compare before the whole file is processed."],
  ["Start", "Jobs run one after the other. You can close the page: the server keeps working, even after a power failure."],
  ["Compare and download", "Open the finished job, drag the line across the video, and download the result."],
];
const QUESTIONS = [
  ["Is my original changed?", "No. Results are new files; originals are never changed."],
  ["Does anything leave this server?", "No. Video and audio are processed on this server only, without the internet."],
  ["A job failed. What now?", "The job says why. Fix the cause and choose Retry: it resumes where it stopped."],
  ["How do files get processed automatically?", "An administrator adds a watch folder: files added to it are enhanced."],
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
      h("h2", {}, "For other programs"),
      h("p", {}, "Everything on this page can also be done over the API. Create a token under your account."),
      h("p", {}, h("a", { href: "/openapi.json" }, "API description (OpenAPI)")),
      mayAdminister() && h("p", {}, h("a", { href: "#/administration" }, "Webhooks"), " · ", h("a", { href: "#/users" }, "Users")),
    ),
  );
}
