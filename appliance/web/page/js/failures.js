/** Why a job failed and what to do about it; for codes without an entry the server's message is shown. */

import { fill, h } from "./dom.js";
import { endSentence, sentence } from "./format.js";
import { icon } from "./icons.js";
import { actionButton, allowedActions } from "./job-actions.js";
import { mayAdminister, mayManage } from "./session.js";

const OTHER_OPTIONS = (job) => mayManage(job) && link(`#/new/again/${job.id}`, "settings", "Choose other options");

// By the code of the job: the text, and an action of `job-actions.js` or a link that helps.
const FAILURES = {
  source_damaged: {
    text: (job) =>
      job.options?.allow_damaged
        ? "The file is too damaged to be enhanced. Copy it again from the source."
        : "The file is damaged. Copy it again from the source, or enhance what can be read.",
    help: "retryDamaged",
  },
  source_unreadable: { text: () => "The file could not be read. Copy or upload it again." },
  source_unsupported: { text: () => "This type of file is not supported. Convert it, or choose another file." },
  result_failed: {
    text: () => "The result could not be written in this format. Choose another output format.",
    help: OTHER_OPTIONS,
  },
  result_place: { text: () => "The result could not be saved. Check the results folder, then retry.", help: "retry" },
  model: {
    text: () => "The model could not run on this device. Choose another device or backend in the settings, then retry.",
    help: () => mayAdminister() && link("#/settings", "settings", "Open settings"),
  },
  option: { text: () => "These options do not work with this file. Choose other options.", help: OTHER_OPTIONS },
  memory: { text: () => "Not enough memory for this job. Choose a smaller size.", help: OTHER_OPTIONS },
  disk_full: {
    text: () => "The server’s disk is full. Delete old results, then retry.",
    help: () => link("#/history", "trash", "Delete old results"),
  },
  unverified: { text: describeUnverified, help: "retry" },
};

/** Return the action of `job-actions.js` that is shown with the failure of this job, or null. */
export function actionOfFailure(job) {
  const help = job.state === "failed" ? FAILURES[job.code]?.help : null;
  return typeof help === "string" && allowedActions(job).includes(help) ? help : null;
}

/** Show in `box` why the job failed. */
export function drawFailure(box, job) {
  const known = FAILURES[job.code];
  // A file name keeps its case.
  const detail = job.message && (job.message.startsWith(job.title) ? endSentence : sentence)(job.message);
  const nothing = "The job stopped unexpectedly. Retry it; if it fails again, ask your administrator.";
  const action = actionOfFailure(job);
  const help = action ? actionButton(action, job) : typeof known?.help === "function" && known.help(job);
  fill(
    box,
    icon("alert"),
    h(
      "div",
      { class: "job-failure" },
      h("p", {}, known ? known.text(job) : detail || nothing),
      known && detail && h("p", { class: "hint" }, detail),
      help,
    ),
  );
}

function describeUnverified(job) {
  const name = /\bas (.+?\.unverified(?:-\d+)?\.\w+)/s.exec(job.message)?.[1];
  const kept = name
    ? `The file was kept as ${name}, ${folderOf(job)}.`
    : "The file was kept next to the result as NAME.unverified.SUFFIX.";
  return `The finished file failed verification, so it is not offered as the result. ${kept} Play it to check it: if it is complete, use it; otherwise retry the job.`;
}

function folderOf(job) {
  const folder = job.target?.replace(/\/[^/]*$/, "");
  return folder ? `in ${folder}` : `in results/${job.id} in the server’s data directory`;
}

function link(href, symbol, word) {
  return h("a", { class: "button", href }, icon(symbol), word);
}
