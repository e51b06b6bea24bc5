/** The estimate of a job before it starts: size of the result, time, and whether the disk has room. */

import { post } from "./api.js";
import { fill, h } from "./dom.js";
import { count, formatBytes, formatRoughDuration } from "./format.js";
import { icon } from "./icons.js";
import { FORMATS } from "./job-options.js";
import { listen } from "./live.js";

// The server does not stop a test run that has started, so it starts once the options have stopped changing.
const SETTLE_MS = 1000;
const SHOWN_AT_ONCE_MS = 120;
const MAX_PARALLEL = 4;

/**
 * Create the lines that show the estimate.
 *
 * `ask(sources, choices)` shows a first estimate at once and then has the server do a test run of the first file, which improves
 * the estimate of all; `stop()` ends it. `onFit(fits)` is called with each estimate; `onResult(result)` with the result of a single file, null
 * for several.
 */
export function estimateLine({ onFit, onResult = () => {} }, signal) {
  const box = h("div", { class: "estimate", "aria-live": "polite" });
  let timers = [];
  let asking = null;
  // A test run that was skipped because a job was running is repeated when no job is running.
  let isSkipped = false;
  let again = () => {};
  listen(
    "counts",
    ({ running }) => {
      if (isSkipped && running === 0) again();
    },
    signal,
  );
  const stop = () => {
    isSkipped = false;
    timers.forEach(clearTimeout);
    asking?.abort();
  };
  signal.addEventListener("abort", stop);

  async function askAll(sources, choices, quick, own) {
    const answers = [];
    for (let at = 0; at < sources.length; at += MAX_PARALLEL) {
      const some = sources.slice(at, at + MAX_PARALLEL);
      answers.push(
        ...(await Promise.all(
          some.map((source) => post("/api/estimates", { ...source, ...choices, quick }, { signal: own })),
        )),
      );
    }
    return answers;
  }

  function showAnswers(answers, busy) {
    show(box, answers, busy);
    onFit(answers.every(({ fits }) => fits));
    onResult(answers.length === 1 ? answers[0].result : null);
  }

  async function estimateQuickly(sources, choices, own) {
    const answers = await askAll(sources, choices, true, own);
    showAnswers(answers, !answers[0].is_measured);
    return answers;
  }

  async function measure(sources, choices, own) {
    const [first] = await askAll(sources.slice(0, 1), choices, false, own);
    isSkipped = !first.is_measured;
    if (sources.length === 1) showAnswers([first], false);
    else showAnswers(await askAll(sources, choices, true, own), false);
  }

  const guarded = (act) => async () => {
    try {
      await act();
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(box, h("p", { class: "estimate-bad" }, icon("alert"), error.message));
      // The error may concern the job itself; the user decides whether to start it anyway.
      onFit(true);
    }
  };

  return {
    box,
    stop,
    ask: function ask(sources, choices) {
      stop();
      again = () => ask(sources, choices);
      if (sources.length === 0) {
        fill(box);
        onResult(null);
        return;
      }
      asking = new AbortController();
      const own = asking.signal;
      let isKnown = false;
      timers = [
        setTimeout(
          guarded(async () => {
            isKnown = (await estimateQuickly(sources, choices, own))[0].is_measured;
          }),
          SHOWN_AT_ONCE_MS,
        ),
        setTimeout(
          guarded(async () => {
            if (!isKnown) await measure(sources, choices, own);
          }),
          SETTLE_MS,
        ),
      ];
    },
  };
}

/** Format the result of a single file: "320 × 180 → 1280 × 720 (4×), H.264". */
export function describeOutcome(result) {
  if (!result?.width) return result ? (result.has_video ? "Audio enhanced, video unchanged" : "Audio enhanced") : "";
  const format = (FORMATS[result.codec] ?? "").replace(/.*\((.*)\).*/, "$1");
  const [before, after] = [
    `${result.source_width} × ${result.source_height}`,
    `${result.width} × ${result.height}`,
  ];
  const size = result.scale === 1 ? after : `${before} → ${after} (${result.scale}×)`;
  return format ? `${size}, ${format}` : size;
}

function show(box, answers, busy) {
  const bad = answers.find(({ fits }) => !fits);
  if (bad) {
    fill(box, h("p", { class: "estimate-bad" }, icon("alert"), bad.message));
    return;
  }
  const sum = (read) => (answers.some((answer) => read(answer) === null) ? null : answers.reduce((all, answer) => all + read(answer), 0));
  const time = sum(({ time_s: time_s }) => time_s);
  const size = sum(({ result }) => result.size_bytes);
  const needed = sum(({ disk_needed_bytes: bytes }) => bytes);
  const outcome = answers.length > 1 ? count(answers.length, "file") : describeOutcome(answers[0].result);
  const facts = [outcome, size === null ? null : `about ${formatBytes(size)}`].filter(Boolean).join(", ");
  // An estimate from earlier jobs is marked as such.
  const duration =
    time !== null
      ? `${formatRoughDuration(time)}${answers.length > 1 ? " in total" : ""}`
      : busy
        ? "estimating time …"
        : "duration unknown";
  fill(
    box,
    h("p", { class: "outcome" }, facts),
    h(
      "p",
      { class: "estimate-facts" },
      icon("clock"),
      duration,
      needed !== null && [
        " · ",
        `${formatBytes(needed)} of disk space needed, ${formatBytes(answers[0].disk_free_bytes)} free`,
      ],
    ),
  );
}
