/** Job progress outside the page: the title of the browser tab, and browser notifications. */

import { get } from "./api.js";
import { formatPercent, shareDone, STATES } from "./format.js";
import { translate } from "./language.js";
import { JobMap, listen } from "./live.js";
import { currentSession } from "./session.js";

let title = "";
let progress = "";

/** Set the title of the view or job that is shown. */
export function setTitle(text) {
  title = text;
  draw();
}

/** Set the progress that the title shows, such as "42%"; "" if no job is running. */
export function setTitleProgress(text) {
  progress = text;
  draw();
}

function draw() {
  document.title = [progress, translate(title), "Relume"].filter(Boolean).join(" · ");
}

const KEY = "relume.notify";

/** Return whether this browser can show notifications: only over HTTPS or on localhost. */
export function canNotify() {
  return "Notification" in window && window.isSecureContext;
}

/** Return whether the user enabled notifications in this browser and the browser allows them. */
export function wantsNotifications() {
  return canNotify() && Notification.permission === "granted" && read() === "on";
}

/** Enable or disable notifications. Returns whether they are enabled now, since the browser may refuse. */
export async function setNotifications(on) {
  const allowed = on && canNotify() && (await Notification.requestPermission()) === "granted";
  try {
    localStorage.setItem(KEY, allowed ? "on" : "off");
  } catch {
    // Without storage the choice is not kept.
  }
  return allowed;
}

/** Follow all jobs until the signal is aborted. */
export function watchJobs(signal) {
  const jobs = new JobMap();
  const draw = () => {
    const shares = [...jobs.values()].filter(({ state }) => state === "running").map((job) => shareDone(job) ?? 0);
    setTitleProgress(shares.length > 0 ? formatPercent(Math.max(...shares)) : "");
  };
  const follow = (job) => {
    const before = jobs.get(job.id)?.state;
    jobs.update(job);
    if (before && !job.removed && before !== job.state && STATES[job.state].over) showNotification(job);
    draw();
  };
  const load = async () => {
    jobs.load([await get("/api/jobs", { state: "running,queued,paused", limit: 200 }, { signal })]);
    draw();
  };
  listen("job", follow, signal);
  listen("reload", () => load().catch(() => {}), signal);
  signal.addEventListener("abort", () => setTitleProgress(""));
  load().catch(() => {});
}

function showNotification(job) {
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
