/** Previews: a few seconds of a file, enhanced with the chosen options or with every preset. */

import { get, post } from "./api.js";
import { loadFacts, showComparison } from "./compare.js";
import { showPanel } from "./dialogs.js";
import { fill, h, setText, setVars } from "./dom.js";
import { formatTime, STATES } from "./format.js";
import { field, segments, select } from "./forms.js";
import { icon } from "./icons.js";
import { progressBar } from "./job-card.js";
import { listen } from "./live.js";
import { announce, notifyError } from "./messages.js";
import { SyncPlayer } from "./player.js";

/** Length of a preview. */
export const PREVIEW_S = 3;

// Before all other jobs, because a user is waiting for it.
const PRIORITY = 50;

/**
 * Open a dialog with a preview of one of `files`, each `{source, name, length_s, span}`, where `span` is the part of the file
 * that will be enhanced. The middle of the first file is enhanced immediately.
 */
export function openPreview(files, choices, signal) {
  const place = placeFields(files);
  const stage = h("div", { class: "preview-stage" });
  const again = h("button", { type: "button", class: "button" }, icon("retry"), "Preview this part");
  const head = h("div", { class: "preview-place" }, place.boxes, place.isChoice && again);
  const panel = showPanel({ title: "Preview", content: [head, stage], signal });
  let current = new AbortController();
  const run = async () => {
    current.abort();
    current = new AbortController();
    const own = AbortSignal.any([panel.ended, current.signal]);
    again.disabled = true;
    try {
      const job = await makePreview(place.body(), choices, own);
      follow(job, stage, own, (done) =>
        loadFacts(done, own).then((facts) => showComparison(stage, done, own, facts)),
      );
    } catch (error) {
      fill(stage, h("p", { class: "estimate-bad" }, icon("alert"), error.message));
      if (error.name !== "ApiError") notifyError(error);
    } finally {
      again.disabled = false;
    }
  };
  again.addEventListener("click", run);
  run();
}

/**
 * Preview the same seconds of a file with each of `presets` and show them side by side; `use(preset)` is called
 * when the user chooses one.
 */
export function openPresetTrial(file, presets, use, signal) {
  const place = placeFields([file]);
  const grid = h("div", { class: "trial-grid" });
  const again = h("button", { type: "button", class: "button" }, icon("retry"), "Try this part");
  const play = h("button", { type: "button", class: "button primary", disabled: true }, icon("play"), "Play all");
  const zoom = segments(
    "Zoom",
    [
      ["1", "Fit"],
      ["2", "2×"],
      ["4", "4×"],
    ],
    "1",
    (value) => setVars(grid, { "--zoom": value }),
  );
  const bar = h("div", { class: "trial-bar" }, play, zoom.box);
  const panel = showPanel({
    title: "Try all presets",
    content: [h("div", { class: "preview-place" }, place.boxes, place.isChoice && again), grid, bar],
    signal,
  });
  let current = new AbortController();
  const run = () => {
    current.abort();
    current = new AbortController();
    const own = AbortSignal.any([panel.ended, current.signal]);
    const player = new GridPlayer(play, own);
    const original = cell("Original", null);
    // One after the other, so that the jobs are created in the order of the cells.
    let turn = Promise.resolve();
    const cells = presets.map((preset) => {
      const made = cell(preset.title, () => {
        use(preset);
        panel.close();
      });
      const asked = turn.then(() => makePreview(place.body(), { preset: preset.name }, own));
      turn = asked.catch(() => {});
      asked
        .then((job) =>
          follow(job, made.stage, own, (done) => {
            if (!original.stage.firstChild && done.has.before) show(original, done, "before", player);
            if (done.has.after) show(made, done, "after", player);
          }),
        )
        .catch((error) => {
          if (error.name !== "AbortError") fill(made.stage, h("p", { class: "hint" }, error.message));
        });
      return made;
    });
    fill(
      grid,
      [original, ...cells].map(({ box }) => box),
    );
  };
  again.addEventListener("click", run);
  run();
}

function show({ stage }, job, part, player) {
  const video = h("video", {
    src: `/api/jobs/${job.id}/${part}`,
    playsinline: true,
    loop: true,
    "aria-label": stage.dataset.word,
    props: { muted: true },
  });
  fill(stage, video);
  player.add(video);
}

function cell(word, use) {
  const stage = h("div", { class: "trial-stage", "data-word": word });
  const button = use && h("button", { type: "button", class: "button small" }, "Use this");
  button?.setAttribute("aria-label", `Use this: ${word}`);
  button?.addEventListener("click", use);
  return {
    stage,
    box: h("figure", { class: "trial" }, stage, h("figcaption", {}, h("span", {}, word), button)),
  };
}

// Plays the videos that are ready in sync.
class GridPlayer {
  constructor(button, signal) {
    this.videos = [];
    this.player = null;
    this.button = button;
    button.disabled = true;
    button.addEventListener("click", () => this.player?.toggle(), { signal });
    signal.addEventListener("abort", () => this.player?.close());
  }

  add(video) {
    this.videos.push(video);
    this.player ??= new SyncPlayer([video]);
    if (this.videos.length > 1) this.player.follow(video);
    else
      this.player.addEventListener("time", () => {
        const word = this.player.isPlaying ? "Pause all" : "Play all";
        if (this.button.textContent !== word) fill(this.button, icon(this.player.isPlaying ? "pause" : "play"), word);
      });
    this.button.disabled = false;
  }
}

// Fields for the file and the position in it.
function placeFields(files) {
  const range = h("input", { type: "range", min: 0, max: 1000, step: 1, props: { value: 500 } });
  const words = h("output", {});
  const list = select(
    files.map(({ name }, index) => [index, name]),
    0,
  );
  const rangeBox = field("Position", range);
  rangeBox.append(words);
  let file = files[0];
  const span = () => file.span ?? [0, file.length_s ?? 0];
  const start = () => {
    const [from, to] = span();
    return from + (Math.max(0, to - from - PREVIEW_S) * range.value) / 1000;
  };
  const draw = () => {
    const [from, to] = span();
    rangeBox.hidden = to - from <= PREVIEW_S;
    setText(words, `${formatTime(start())} to ${formatTime(Math.min(to, start() + PREVIEW_S))}`);
    range.setAttribute("aria-valuetext", words.textContent);
    setVars(range, { "--share": range.value / 1000 });
  };
  range.addEventListener("input", draw);
  list.addEventListener("change", () => {
    file = files[Number(list.value)];
    draw();
  });
  draw();
  return {
    // A short file has only one part.
    isChoice: files.length > 1 || !rangeBox.hidden,
    boxes: [files.length > 1 && field("File", list), rangeBox],
    body: () => {
      const [from, to] = span();
      // All of a short file; the middle if the duration is unknown.
      if (to - from <= PREVIEW_S) return { ...file.source, ...(from > 0 && to > from ? { start_s: from, end_s: to } : {}) };
      const begin = Math.floor(start() * 1000) / 1000;
      return { ...file.source, start_s: begin, end_s: Math.round((begin + PREVIEW_S) * 1000) / 1000 };
    },
  };
}

async function makePreview(body, choices, signal) {
  const job = await post("/api/jobs", { ...body, ...choices, preview: true, priority: PRIORITY });
  if (signal.aborted) await post(`/api/jobs/${job.id}/cancel`).catch(() => {});
  return job;
}

// Show a job's progress in `stage` until it ends; `onDone(job)` shows the result.
function follow(start, stage, signal, onDone) {
  let job = start;
  const progress = progressBar("the preview");
  const state = h("p", { class: "hint" });
  fill(stage, state, progress.box);
  const change = (now) => {
    if (now.id !== job.id || now.revision < job.revision || signal.aborted || STATES[job.state].over) return;
    job = { ...job, ...now };
    setText(state, job.state === "queued" ? "Starts after the current job." : "");
    progress.update(job);
    if (!STATES[job.state].over) return;
    fill(stage);
    if (job.state === "done") {
      announce("The preview is ready.");
      onDone(job);
    } else {
      fill(stage, h("p", { class: "estimate-bad" }, icon("alert"), job.message || "The preview was cancelled."));
    }
  };
  // A preview that is no longer needed does not delay other jobs.
  signal.addEventListener("abort", () => {
    if (!STATES[job.state].over) post(`/api/jobs/${job.id}/cancel`).catch(() => {});
  });
  const look = async () => change(await get(`/api/jobs/${job.id}`, {}, { signal }));
  listen("job", change, signal);
  listen("reload", () => look().catch(() => {}), signal);
  // It may have changed before this page started listening.
  look().catch(() => {});
}
