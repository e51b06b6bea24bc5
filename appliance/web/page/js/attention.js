/** Tells of jobs to whoever looks elsewhere: the share that is done in the tab's title, and notifications of the browser. */

import { get } from "./api.js";
import { listen } from "./live.js";
import { setShare } from "./page-title.js";
import { currentSession } from "./session.js";
import { describeShare, shareDone, STATES } from "./words.js";

const KEY = "relume.notify";

/** Tell whether this browser can show notifications at all: only over https, or on the machine itself. */
export function canNotify() {
  return "Notification" in window && window.isSecureContext;
}

/** Tell whether the user wants notifications in this browser, and the browser allows them. */
export function wantsNotifications() {
  return canNotify() && Notification.permission === "granted" && read() === "on";
}

/** Switch notifications on or off; gives whether they are on now, which the browser may refuse. */
export async function setNotifications(on) {
  const allowed = on && canNotify() && (await Notification.requestPermission()) === "granted";
  try {
    localStorage.setItem(KEY, allowed ? "on" : "off");
  } catch {
    // Without storage there is nowhere to remember it.
  }
  return allowed;
}

/** Follow the jobs until the signal is aborted. */
export function watchJobs(signal) {
  const running = new Map();
  const states = new Map();
  const draw = () => {
    const shares = [...running.values()].map((job) => shareDone(job) ?? 0);
    setShare(shares.length > 0 ? describeShare(Math.max(...shares)) : "");
  };
  const follow = (job) => {
    const before = states.get(job.id);
    if (job.removed) {
      running.delete(job.id);
      states.delete(job.id);
    } else {
      states.set(job.id, job.state);
      if (job.state === "running") running.set(job.id, job);
      else running.delete(job.id);
      if (before && before !== job.state && STATES[job.state].over) tell(job);
    }
    draw();
  };
  const load = async () => {
    const { jobs } = await get("/api/jobs", { state: "running,queued,paused", limit: 200 }, { signal });
    running.clear();
    for (const job of jobs) follow(job);
    draw();
  };
  listen("job", follow, signal);
  listen("reload", () => load().catch(() => {}), signal);
  signal.addEventListener("abort", () => setShare(""));
  load().catch(() => {});
}

function tell(job) {
  if (!document.hidden || !wantsNotifications() || job.owner !== currentSession().user?.id || job.preview_of) return;
  if (job.state === "cancelled") return;
  const shown = new Notification(job.title, {
    body: job.state === "done" ? "Done" : `Failed: ${job.message}`,
    icon: "/page/icons/relume.svg",
    tag: job.id,
  });
  shown.addEventListener("click", () => {
    window.focus();
    location.hash = `#/job/${job.id}`;
    shown.close();
  });
}

function read() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
