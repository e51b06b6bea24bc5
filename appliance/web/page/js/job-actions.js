/** What can be done with a job, as buttons: only what its state and the user's role allow. */

import { patch, post, remove } from "./api.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { complain, notify } from "./notices.js";
import { goTo } from "./router.js";
import { maySteer } from "./session.js";

/** The priorities that the page offers. */
export const PRIORITIES = [
  [10, "High"],
  [0, "Normal"],
  [-10, "Low"],
];

const ACTIONS = {
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
  },
  remove: {
    word: "Delete",
    symbol: "trash",
    states: ["done", "failed", "cancelled"],
    run: removeJob,
  },
};

/** Give the names of the actions that this user may take on the job now. */
export function allowedActions(job) {
  if (!maySteer(job)) return [];
  return Object.keys(ACTIONS).filter((name) => ACTIONS[name].states.includes(job.state));
}

/** Make a button for an action; as an icon alone it carries the job's title for screen readers. */
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
    small ? null : word,
  );
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await run(job);
    } catch (error) {
      complain(error);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

/** Change when a waiting job has its turn: before another job, or (null) after all. */
export async function moveJob(job, before) {
  try {
    await patch(`/api/jobs/${job.id}`, { before: before?.id ?? null });
  } catch (error) {
    complain(error);
  }
}

/** Change a job's priority. */
export async function prioritiseJob(job, priority) {
  try {
    await patch(`/api/jobs/${job.id}`, { priority });
    notify(`Priority of “${job.title}” changed.`);
  } catch (error) {
    complain(error);
  }
}

async function cancel(job) {
  // Also where it is paused or waits to be resumed: hours of work may be in it.
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
