/** Labels and descriptions of job options: scale, strength, audio, codec, model. */

import { get } from "./api.js";
import { formatTime } from "./format.js";

let presets = null;

/** Load the presets; they do not change while the server runs. */
export async function loadPresets() {
  presets ??= await get("/api/presets");
  return presets;
}

/** Load the custom models of this server; they may change at any time. */
export async function loadModels() {
  return get("/api/models");
}

/** Return the choices of a video model, with the preset's default first. */
export function modelChoices(models, chosen = "") {
  const words = models.map(({ name, scale }) => [name, `${name} (${SCALES[scale]})`]);
  // A selected model may have been removed; it is kept as a choice and marked.
  if (chosen && !models.some(({ name }) => name === chosen)) words.push([chosen, `${chosen} (no longer available)`]);
  return [["", "Preset default"], ...words];
}

/** Return a preset's title, or its name while the presets are not loaded. */
export function presetTitle(name) {
  return presets?.find((preset) => preset.name === name)?.title ?? name ?? "";
}

/** Return whether a preset processes audio alone. */
export function isAudioPreset(name) {
  return presets?.find((preset) => preset.name === name)?.copies_picture ?? false;
}

/** Labels of the scales. */
export const SCALES = { auto: "Auto", 1: "1×", 2: "2×", 4: "4×" };

/** Labels of the audio options. */
export const SOUNDS = { speech: "Reduce noise", full: "Full speech cleanup", repair: "Repair only", off: "Keep original" };

/** What the audio options do. */
export const SOUND_HINTS = {
  speech: "Removes background noise from speech.",
  full: "Removes hum, clicks, clipping and background noise, and evens out speakers.",
  repair: "Removes hum, clicks and clipping; suitable for music.",
  off: "The audio is copied bit for bit.",
};

/** Labels of the film grain. */
export const GRAINS = [
  ["0", "No grain"],
  ["0.5", "Half of the removed noise"],
  ["1", "All of the removed noise"],
];

/** Return choices of a share from 0 to 1 with `value` among them: one set through the API may be any other (null: none). */
export function withValue(choices, value) {
  if (value === null || choices.some(([known]) => known === String(value))) return choices;
  return [...choices, [String(value), `${Math.round(value * 100)}%`]];
}

/** Labels of the loudness standards. */
export const LOUDNESS = {
  off: "Keep level",
  podcast: "Podcast (−16 LUFS)",
  ebu: "Broadcast, EBU R 128 (−23 LUFS)",
  atsc: "Broadcast, ATSC A/85 (−24 LUFS)",
};

/** Labels of the output formats. */
export const FORMATS = {
  h264: "Plays everywhere (H.264)",
  hevc: "Smaller files (HEVC)",
  av1: "Smallest files, slow to encode (AV1)",
  prores: "For editing software (ProRes)",
  ffv1: "Lossless archive (FFV1)",
};

/** Describe a strength from 0 to 1. */
export function describeStrength(strength) {
  const percent = `${Math.round(strength * 100)}%`;
  if (strength <= 0.3) return `${percent} (light)`;
  if (strength <= 0.6) return `${percent} (medium)`;
  if (strength < 0.95) return `${percent} (strong)`;
  return `${percent} (full)`;
}

/** Describe the options of a job in one line; for audio only the audio enhancement. */
export function describeJob(job) {
  return job.is_sound ? describeSound(job.options) : describeChoices(job.options);
}

function describeSound(options) {
  if (!options || options.preset === "sound-only") return "Speech cleaned";
  return presetTitle(options.preset);
}

/** Describe job options in one line. */
export function describeChoices(options) {
  if (!options) return "";
  const parts = [presetTitle(options.preset)];
  if (options.scale && options.scale !== "auto") parts.push(SCALES[options.scale]);
  if (options.audio === "off") parts.push("audio unchanged");
  else if (options.audio) parts.push(SOUNDS[options.audio].toLowerCase());
  if (options.loudness && options.loudness !== "off") parts.push(LOUDNESS[options.loudness]);
  if (options.grain) parts.push("with film grain");
  if (options.model) parts.push(`with ${options.model}`);
  if (options.start_s || options.end_s) parts.push(describePart(options));
  if (options.codec) parts.push(FORMATS[options.codec].replace(/ \(.*/, "").toLowerCase());
  return parts.filter(Boolean).join(" · ");
}

// The part of the file, in seconds of the source.
function describePart({ start_s: start, end_s: end }) {
  if (end === null || end === undefined) return `from ${formatTime(start)}`;
  return `${formatTime(start ?? 0)} to ${formatTime(end)}`;
}

/** Describe a probed file: "1920 × 1080 · 2 min 5 s · no audio". */
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
