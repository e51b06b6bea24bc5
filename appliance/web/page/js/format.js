/** Formats numbers, times and job states for users. */

import { locale } from "./language.js";

// Read on each call: the user's language is known only after login.
const NUMBER = { format: (value) => value.toLocaleString(locale(), { maximumFractionDigits: 1 }) };
const DATE_TIME = {
  format: (moment) => moment.toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }),
};
const TIME = { format: (moment) => moment.toLocaleTimeString(locale(), { timeStyle: "short" }) };

/** Job states: label, icon, and whether the job has ended. */
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
  merging: "Joining the parts",
  checking: "Checking every frame",
  publishing: "Saving the result",
  comparing: "Preparing the comparison",
};

// Stages after the last frame, in which rate and time left are unknown.
const FINISHING = new Set(["merging", "checking", "publishing", "comparing"]);

/** Return whether a running job has enhanced all frames and is about to finish. */
export function isFinishing(job) {
  return job.state === "running" && FINISHING.has(job.stage);
}

/** Describe the stage of a running job. */
export function describeStage(stage) {
  if (!stage) return "Getting ready";
  return STAGES[stage] ?? capitalise(stage);
}

/** Capitalise the first letter of a text. */
export function capitalise(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Format a text as a sentence: capitalised, with punctuation at its end. */
export function sentence(text) {
  return capitalise(endSentence(text));
}

/** Add a full stop to a text without punctuation at its end; a leading file name keeps its case. */
export function endSentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Format a count with its noun: "1 file", "3 files". */
export function count(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString(locale())} ${number === 1 ? noun : plural}`;
}

/** Format a number to one decimal. */
export function formatNumber(value) {
  return NUMBER.format(value);
}

/** Format a size with decimal units. */
export function formatBytes(bytes) {
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

/** Format an estimated duration: "about 12 minutes". */
export function formatRoughDuration(seconds) {
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

/** Format the estimated time left of a running job. */
export function formatTimeLeft(job) {
  if (job.eta_s === null || job.eta_s === undefined) return "Estimating time left";
  return capitalise(`${formatRoughDuration(job.eta_s)} left`);
}

/** Format a position in a video to a tenth of a second: "0:04.2". */
export function formatPosition(seconds) {
  const tenths = Math.floor(seconds * 10 + 0.001);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

/** Format the processing time of a finished job, without the time that it was paused or waiting. */
export function formatWorkTime(job) {
  const between = job.finished_at - job.started_at - job.worked_s;
  const worked = formatDuration(job.worked_s);
  return between >= 60 ? `${worked} (paused for ${formatDuration(between)})` : worked;
}

/** Format an exact duration: "48 seconds", "12 minutes", "2 hours 5 minutes". */
export function formatDuration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 90) return count(whole, "second");
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return count(minutes, "minute");
  const rest = minutes % 60;
  return count(Math.floor(minutes / 60), "hour") + (rest ? ` ${count(rest, "minute")}` : "");
}

/** Format a point in time (Unix seconds): only the time if it is today, else date and time. */
export function formatMoment(seconds) {
  if (!seconds) return "Never";
  const moment = new Date(seconds * 1000);
  const today = new Date().toDateString() === moment.toDateString();
  return today ? `Today, ${TIME.format(moment)}` : DATE_TIME.format(moment);
}

/** Format an estimated end, rounded up to ten minutes, with the date if it is not today. */
export function formatClock(seconds) {
  const moment = new Date(Math.ceil(seconds / 600) * 600_000);
  const today = new Date().toDateString() === moment.toDateString();
  return today ? TIME.format(moment) : DATE_TIME.format(moment);
}

/** Return the progress of a job from 0 to 1; null if its length is unknown. */
export function shareDone(job) {
  if (job.state === "done") return 1;
  if (!job.frames_total) return null;
  // The stages after the last frame are still to come.
  return Math.min(0.99, job.frames_done / job.frames_total);
}

/** Format a share as a percentage; 100% only at the very end. */
export function formatPercent(share) {
  return (Math.floor(share * 100 + 1e-9) / 100).toLocaleString(locale(), { style: "percent" });
}

/** Format a frame rate. */
export function formatFps(fps) {
  return `${NUMBER.format(fps)} fps`;
}

/** Format a time in a file: "1:02.5", "1:00:00". */
export function formatTime(seconds) {
  const tenths = Math.round(seconds * 10);
  const [hours, minutes, rest] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, (tenths % 600) / 10];
  const fraction = tenths % 10 ? `.${tenths % 10}` : "";
  const text = String(Math.floor(rest)).padStart(2, "0") + fraction;
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${text}` : `${minutes}:${text}`;
}

/** Parse a typed time, "62.5", "1:02.5" or "1:00:00"; null if it is not valid. */
export function parseTime(text) {
  const match = /^(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)$/.exec(text.trim());
  if (match === null) return null;
  const [, hours = 0, minutes = 0, seconds] = match;
  return Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds.replace(",", "."));
}
