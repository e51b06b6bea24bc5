/** Numbers, times and states in plain words. */

import { locale } from "./language.js";

// One locale for numbers and dates; asked for each time, since the user's language is known only after the log-in.
const NUMBER = { format: (value) => value.toLocaleString(locale(), { maximumFractionDigits: 1 }) };
const DATE_TIME = {
  format: (moment) => moment.toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }),
};
const TIME = { format: (moment) => moment.toLocaleTimeString(locale(), { timeStyle: "short" }) };

/** The states of a job: its word, its icon, and whether it is over. */
export const STATES = {
  queued: { word: "Waiting", icon: "clock", over: false },
  running: { word: "Processing", icon: "spark", over: false },
  paused: { word: "Paused", icon: "pause", over: false },
  done: { word: "Done", icon: "check", over: true },
  failed: { word: "Failed", icon: "alert", over: true },
  cancelled: { word: "Cancelled", icon: "close", over: true },
};

const STAGES = {
  opening: "Opening the file",
  enhancing: "Enhancing",
  joining: "Joining the parts",
  checking: "Checking every frame",
  publishing: "Saving the result",
  comparing: "Preparing the comparison",
  proxies: "Preparing the comparison",
};

// What follows the last frame: no rate and no time left can be told.
const FINISHING = new Set(["joining", "checking", "publishing", "comparing", "proxies"]);

/** Tell whether a running job has enhanced everything and is about to be done. */
export function isFinishing(job) {
  return job.state === "running" && FINISHING.has(job.stage);
}

/** Say what a running job is doing. */
export function describeStage(stage) {
  if (!stage) return "Getting ready";
  return STAGES[stage] ?? capitalise(stage);
}

/** Write a text with a capital first letter. */
export function capitalise(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Write a text as a sentence: a capital at its start, a mark at its end. */
export function sentence(text) {
  return capitalise(endSentence(text));
}

/** Put a full stop where a text has no mark at its end; what begins with a file's name keeps its case. */
export function endSentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Write a count with its noun: "1 file", "3 files". */
export function count(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString(locale())} ${number === 1 ? noun : plural}`;
}

/** Write a number to one decimal. */
export function formatNumber(value) {
  return NUMBER.format(value);
}

/** Write a size in bytes, as file managers do. */
export function describeBytes(bytes) {
  if (bytes === null || bytes === undefined) return "unknown";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit > 1 && value < 100 ? NUMBER.format(value) : Math.round(value)} ${units[unit]}`;
}

/** Write a duration roughly, as a person would say it: "about 12 minutes". */
export function describeRoughly(seconds) {
  if (seconds < 50) return "less than a minute";
  if (seconds < 90) return "about a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `about ${minutes} minutes`;
  const hours = Math.floor(minutes / 60);
  const rest = Math.round((minutes % 60) / 10) * 10;
  if (hours >= 6 || rest === 0) return `about ${count(Math.round(minutes / 60), "hour")}`;
  if (rest === 60) return `about ${count(hours + 1, "hour")}`;
  return `about ${count(hours, "hour")} ${rest} minutes`;
}

/** Say how long a running job will probably still take; honest when nobody knows yet. */
export function describeEta(job) {
  if (job.eta_s === null || job.eta_s === undefined) return "Estimating time left";
  return capitalise(`${describeRoughly(job.eta_s)} left`);
}

/** Write a place in a video to a tenth of a second: "0:04.2". */
export function describePlace(seconds) {
  const tenths = Math.floor(seconds * 10 + 0.001);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

/** Say how long the finished try of a job was worked on, and how long it was paused or waited in between. */
export function describeWorked(job) {
  const between = job.finished_at - job.started_at - job.worked_s;
  const worked = describeTook(job.worked_s);
  return between >= 60 ? `${worked} (paused for ${describeTook(between)})` : worked;
}

/** Write how long something took: "48 seconds", "12 minutes", "2 hours 5 minutes". */
export function describeTook(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 90) return count(whole, "second");
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return count(minutes, "minute");
  const rest = minutes % 60;
  return count(Math.floor(minutes / 60), "hour") + (rest ? ` ${count(rest, "minute")}` : "");
}

/** Write a moment (seconds since 1970): the time alone for today, else with the date. */
export function describeMoment(seconds) {
  if (!seconds) return "Never";
  const moment = new Date(seconds * 1000);
  const today = new Date().toDateString() === moment.toDateString();
  return today ? `Today, ${TIME.format(moment)}` : DATE_TIME.format(moment);
}

/** Write a moment as a person plans by it: the time to ten minutes, with the day where it is not today. */
export function describeClock(seconds) {
  const moment = new Date(Math.ceil(seconds / 600) * 600_000);
  const today = new Date().toDateString() === moment.toDateString();
  return today ? TIME.format(moment) : DATE_TIME.format(moment);
}

/** Give the share of a job that is done, from 0 to 1; null where its length is unknown. */
export function shareDone(job) {
  if (job.state === "done") return 1;
  if (!job.frames_total) return null;
  // What follows the last frame is still to be done.
  return Math.min(0.99, job.frames_done / job.frames_total);
}

/** Write a share as a percentage that says 100 only at the very end. */
export function describeShare(share) {
  return `${Math.floor(share * 100 + 1e-9)}%`;
}

/** Write a rate of frames. */
export function describeFps(fps) {
  return `${NUMBER.format(fps)} fps`;
}
