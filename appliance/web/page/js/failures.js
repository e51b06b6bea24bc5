/** Why a job failed, in the page's own words, and what helps; the server's sentence serves for a code without an entry. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { actionButton, allowedActions } from "./job-actions.js";
import { mayAdminister, maySteer } from "./session.js";
import { endSentence, sentence } from "./words.js";

const OTHER_OPTIONS = (job) => maySteer(job) && link(`#/new/again/${job.id}`, "settings", "Choose other options");

// By the job's code: what happened and what to do, and where the page can do it, a button or a link.
const FAILURES = {
  source_damaged: {
    say: (job) =>
      job.options?.allow_damaged
        ? "The file is too damaged to be enhanced. Copy it again from where it came from."
        : "The file is damaged. Copy it again from where it came from, or enhance what can be read.",
    help: "salvage",
  },
  source_unreadable: { say: () => "The file could not be read. Copy or upload it again." },
  source_unsupported: { say: () => "Relume cannot enhance this kind of file. Convert it first, or choose another file." },
  result_failed: {
    say: () => "The result could not be written in this format. Choose another output format.",
    help: OTHER_OPTIONS,
  },
  result_place: { say: () => "The result could not be saved. Check the folder for results, then retry.", help: "retry" },
  model: {
    say: () => "The model could not run on this device. Choose another device or backend in the settings, then retry.",
    help: () => mayAdminister() && link("#/settings", "settings", "Open settings"),
  },
  option: { say: () => "These options do not suit this file. Choose others.", help: OTHER_OPTIONS },
  memory: { say: () => "There was not enough memory for this job. Choose a smaller size.", help: OTHER_OPTIONS },
  disk_full: {
    say: () => "The server’s disk is full. Delete old results, then retry.",
    help: () => link("#/history", "trash", "Delete old results"),
  },
  unverified: { say: sayUnverified, help: "retry" },
};

/** Give the action of `job-actions.js` that is offered with the reason of this job's failure, or null. */
export function actionOfFailure(job) {
  const help = job.state === "failed" ? FAILURES[job.code]?.help : null;
  return typeof help === "string" && allowedActions(job).includes(help) ? help : null;
}

/** Show in `box` why the job failed. */
export function drawFailure(box, job) {
  const known = FAILURES[job.code];
  // A file's name keeps its case.
  const told = job.message && (job.message.startsWith(job.title) ? endSentence : sentence)(job.message);
  const nothing = "The job stopped unexpectedly. Retry it; if it fails again, ask your administrator.";
  const action = actionOfFailure(job);
  const help = action ? actionButton(action, job) : typeof known?.help === "function" && known.help(job);
  fill(
    box,
    icon("alert"),
    h(
      "div",
      { class: "job-failure" },
      h("p", {}, known ? known.say(job) : told || nothing),
      known && told && h("p", { class: "hint" }, told),
      help,
    ),
  );
}

function sayUnverified(job) {
  const name = /; it is kept as (.+): look at it$/s.exec(job.message)?.[1];
  const kept = name
    ? `The file was kept as ${name}, ${placeOf(job)}.`
    : "The file was kept beside the result’s place, as NAME.unverified.SUFFIX.";
  return `The finished file failed its check, so it is not offered as the result. ${kept} Play it: use it if it is complete, otherwise retry the job.`;
}

function placeOf(job) {
  const folder = job.target?.replace(/\/[^/]*$/, "");
  return folder ? `in ${folder}` : `in results/${job.id} of the server’s data directory`;
}

function link(href, symbol, word) {
  return h("a", { class: "button", href }, icon(symbol), word);
}
