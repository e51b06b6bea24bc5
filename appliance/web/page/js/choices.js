/** The plain choices of a job: words for what the server calls scale, strength, audio and codec. */

import { get } from "./api.js";
import { writeTime } from "./timeline.js";

let presets = null;

/** Load the presets; they do not change while the server runs. */
export async function loadPresets() {
  presets ??= await get("/api/presets");
  return presets;
}

/** Load the box's own models; a few at most, and new ones may have come. */
export async function loadModels() {
  return get("/api/models");
}

/** Make the choice of a picture model from the box's own, with the value of the preset's own first. */
export function modelChoices(models, chosen = "") {
  const words = models.map(({ name, scale }) => [name, `${name} (${SCALES[scale]})`]);
  // One that is chosen already may be gone from the folder; it is not changed without a word.
  if (chosen && !models.some(({ name }) => name === chosen)) words.push([chosen, `${chosen} (no longer available)`]);
  return [["", "Preset default"], ...words];
}

/** Give a preset's title; its name where the presets are not loaded. */
export function presetTitle(name) {
  return presets?.find((preset) => preset.name === name)?.title ?? name ?? "";
}

/** Words for the scales. */
export const SCALES = { auto: "Auto", 1: "1×", 2: "2×", 4: "4×" };

/** Words for what happens to the sound. */
export const SOUNDS = { speech: "Reduce noise", off: "Keep original" };

/** Words for the output formats. */
export const FORMATS = {
  h264: "Plays everywhere (H.264)",
  hevc: "Smaller files (HEVC)",
  av1: "Smallest files, slow to encode (AV1)",
  prores: "For editing software (ProRes)",
  ffv1: "Lossless archive (FFV1)",
};

/** Say in a word how strong a strength from 0 to 1 is. */
export function describeStrength(strength) {
  const percent = `${Math.round(strength * 100)}%`;
  if (strength <= 0.3) return `${percent} (light)`;
  if (strength <= 0.6) return `${percent} (medium)`;
  if (strength < 0.95) return `${percent} (strong)`;
  return `${percent} (full)`;
}

/** Write what a job does as one line; of a recording only what happens to its sound. */
export function describeJob(job) {
  return job.is_sound ? "Speech cleaned" : describeChoices(job.options);
}

/** Write a job's choices as one line. */
export function describeChoices(options) {
  if (!options) return "";
  const parts = [presetTitle(options.preset)];
  if (options.scale && options.scale !== "auto") parts.push(SCALES[options.scale]);
  if (options.audio === "off") parts.push("audio unchanged");
  if (options.model) parts.push(`with ${options.model}`);
  if (options.start_s || options.end_s) parts.push(describePart(options));
  if (options.codec) parts.push(FORMATS[options.codec].replace(/ \(.*/, "").toLowerCase());
  return parts.filter(Boolean).join(" · ");
}

// A job tells its part by the seconds of its file.
function describePart({ start_s: start, end_s: end }) {
  if (end === null || end === undefined) return `from ${writeTime(start)}`;
  return `${writeTime(start ?? 0)} to ${writeTime(end)}`;
}

/** Write what a probed file holds: "1920 × 1080 · 2:05 · with sound". */
export function describeMedia(probe) {
  if (!probe) return "";
  const parts = [];
  if (probe.width) parts.push(`${probe.width} × ${probe.height}`);
  else if (probe.has_picture === false) parts.push("audio only");
  if (probe.duration_s) parts.push(lengthOf(probe.duration_s));
  if (probe.has_sound === false) parts.push("no audio");
  return parts.join(" · ");
}

function lengthOf(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
