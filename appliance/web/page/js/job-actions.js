/** Buttons for the actions that a job's state and the user's role allow. */

import { goTo } from "./address.js";
import { patch, post, remove } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { notifyError, notify } from "./messages.js";
import { mayManage } from "./session.js";

/** The priorities that the page offers. */
export const PRIORITIES = [
  [10, "High"],
  [0, "Normal"],
  [-10, "Low"],
];

const ACTIONS = {
  retryDamaged: {
    word: "Enhance what can be read",
    symbol: "spark",
    states: ["failed"],
    applies: (job) => job.code === "source_damaged" && !job.options?.allow_damaged,
    run: (job) => post(`/api/jobs/${job.id}/retry`, { allow_damaged: true }),
  },
  pause: {
    word: "Pause",
    symbol: "pause",
    states: ["queued", "running"],
    run: (job) => post(`/api/jobs/${job.id}/pause`),
  },
  resume: {
    word: "Resume",
    symbol: "play",
    states: ["paused"],
    run: (job) => post(`/api/jobs/${job.id}/resume`),
  },
  retry: {
    word: "Retry",
    symbol: "retry",
    states: ["failed", "cancelled"],
    run: (job) => post(`/api/jobs/${job.id}/retry`),
  },
  cancel: {
    word: "Cancel",
    symbol: "close",
    states: ["queued", "running", "paused"],
    run: cancel,
    runAll: (job) => post(`/api/jobs/${job.id}/cancel`),
  },
  remove: {
    word: "Delete",
    symbol: "trash",
    states: ["done", "failed", "cancelled"],
    run: removeJob,
    runAll: (job) => remove(`/api/jobs/${job.id}`),
  },
};

/** Return the names of the actions that this user may take on the job now. */
export function allowedActions(job) {
  if (!mayManage(job)) return [];
  return Object.keys(ACTIONS).filter(
    (name) => ACTIONS[name].states.includes(job.state) && (ACTIONS[name].applies?.(job) ?? true),
  );
}

/** Create a button for an action; as an icon its accessible name includes the job's title. */
export function actionButton(name, job, { small = false } = {}) {
  const { word, symbol, run } = ACTIONS[name];
  const button = h(
    "button",
    small
      ? { type: "button", class: "plain-icon", "aria-label": `${word}: ${job.title}`, title: word, "data-action": name }
      : {
          type: "button",
          class: name === "remove" || name === "cancel" ? "button subdued" : "button",
          "data-action": name,
        },
    icon(symbol),
    // Lists show the word where there is room.
    small ? h("span", { class: "button-word" }, word) : word,
  );
  let busy = false;
  button.addEventListener("click", async () => {
    // Not disabled meanwhile, because a disabled button loses the focus.
    if (busy) return;
    busy = true;
    button.setAttribute("aria-busy", "true");
    try {
      await run(job);
    } catch (error) {
      notifyError(error);
    } finally {
      busy = false;
      button.removeAttribute("aria-busy");
    }
  });
  return button;
}

/** Actions on several jobs at once, in the order of their buttons. */
export const BULK = ["pause", "resume", "retry", "cancel", "remove"];

/** Create the button for an action on several jobs; `onEnd(errors)` is called after the last request. */
export function bulkButton(name, jobs, onEnd) {
  const { word, symbol, runAll } = ACTIONS[name];
  const button = h(
    "button",
    { type: "button", class: "button small", "data-bulk": name, disabled: jobs.length === 0 },
    icon(symbol),
    jobs.length > 0 ? `${word} ${jobs.length}` : word,
  );
  button.addEventListener("click", async () => {
    button.disabled = true;
    if (BULK_QUESTIONS[name] && !(await ask(BULK_QUESTIONS[name](jobs)))) {
      button.disabled = false;
      return;
    }
    const errors = [];
    for (const job of jobs) await (runAll ?? ACTIONS[name].run)(job).catch((error) => errors.push(error));
    onEnd(errors);
  });
  return button;
}

const BULK_QUESTIONS = {
  cancel: (jobs) => ({
    title: `Cancel ${count(jobs.length, "job")}?`,
    text: "Progress so far will be lost.",
    yes: "Cancel jobs",
    no: "Keep jobs",
    danger: true,
  }),
  remove: (jobs) => ({
    title: `Delete ${count(jobs.length, "job")}?`,
    text: "The jobs and their results will be deleted from this server. Files that you have downloaded are kept.",
    yes: "Delete",
    no: "Keep jobs",
    danger: true,
  }),
};

/** Pause or resume the queue: while it is paused no job starts. */
export function setQueuePaused(on) {
  return post(`/api/queue/${on ? "pause" : "resume"}`);
}

/** Create the link to the options form: edit a waiting job, or enhance the file of a finished one again. */
export function formLinks(job) {
  if (!mayManage(job)) return null;
  const link = (mode, word, symbol) =>
    h("a", { class: "button", href: `#/new/${mode}/${job.id}` }, icon(symbol), word);
  if (["queued", "paused"].includes(job.state) && !job.frames_done) return link("edit", "Edit", "settings");
  if (["done", "failed", "cancelled"].includes(job.state)) return link("again", "Enhance again", "spark");
  return null;
}

/** Move a waiting job before another one, or (null) to the end. */
export async function moveJob(job, before) {
  try {
    await patch(`/api/jobs/${job.id}`, { before: before?.id ?? null });
  } catch (error) {
    notifyError(error);
  }
}

/** Change a job's priority. */
export async function prioritiseJob(job, priority) {
  try {
    await patch(`/api/jobs/${job.id}`, { priority });
    notify(`Priority of “${job.title}” changed.`);
  } catch (error) {
    notifyError(error);
  }
}

async function cancel(job) {
  // A paused or resumed job may also have hours of progress.
  if (job.state === "running" || job.frames_done > 0) {
    const pause = job.state === "running" ? " Pause the job instead to keep it." : "";
    const sure = await ask({
      title: "Cancel this job?",
      text: `“${job.title}” has started. Progress so far will be lost.${pause}`,
      yes: "Cancel job",
      no: "Keep job",
      danger: true,
    });
    if (!sure) return;
  }
  await post(`/api/jobs/${job.id}/cancel`);
}

async function removeJob(job) {
  const sure = await ask({
    title: "Delete this job?",
    text: `“${job.title}” and its result will be deleted from this server. Files that you have downloaded are kept.`,
    yes: "Delete",
    no: "Keep job",
    danger: true,
  });
  if (!sure) return;
  await remove(`/api/jobs/${job.id}`);
  notify(`“${job.title}” was deleted.`);
  if (location.hash.startsWith(`#/job/${job.id}`)) goTo("history");
}
