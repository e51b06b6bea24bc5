/** Tells what a job will make and take before it starts: the result's size, the time, and whether it fits. */

import { post } from "./api.js";
import { FORMATS } from "./choices.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { listen } from "./live.js";
import { count, describeBytes, describeRoughly } from "./words.js";

// A trial that was started is not taken back by the server, so it starts when the choosing has come to rest.
const SETTLE_MS = 1000;
const SHOWN_AT_ONCE_MS = 120;
const AT_ONCE = 4;

/**
 * Make the lines that show the estimate.
 *
 * `ask(sources, choices)` shows at once what is known, and after a short rest lets the server try the first file; what
 * that tells is used for all. `onFit(fits)` is called with each answer; `onResult(result)` with what a single file
 * becomes, null for several.
 */
export function estimateLine({ onFit, onResult = () => {} }, signal) {
  const box = h("div", { class: "estimate", "aria-live": "polite" });
  let timers = [];
  let asking = null;
  // What was not tried because a job was running is tried when none is any more.
  let isOpen = false;
  let again = () => {};
  listen(
    "counts",
    ({ running }) => {
      if (isOpen && running === 0) again();
    },
    signal,
  );
  const stop = () => {
    timers.forEach(clearTimeout);
    asking?.abort();
  };
  signal.addEventListener("abort", stop);

  async function askAll(sources, choices, quick, mine) {
    const answers = [];
    for (let at = 0; at < sources.length; at += AT_ONCE) {
      const some = sources.slice(at, at + AT_ONCE);
      answers.push(
        ...(await Promise.all(
          some.map((source) => post("/api/estimates", { ...source, ...choices, quick }, { signal: mine })),
        )),
      );
    }
    return answers;
  }

  function tell(answers, busy) {
    show(box, answers, busy);
    onFit(answers.every(({ fits }) => fits));
    onResult(answers.length === 1 ? answers[0].result : null);
  }

  async function guess(sources, choices, mine) {
    const answers = await askAll(sources, choices, true, mine);
    tell(answers, !answers[0].is_measured);
    return answers;
  }

  async function refine(sources, choices, mine) {
    const [first] = await askAll(sources.slice(0, 1), choices, false, mine);
    isOpen = !first.is_measured;
    if (sources.length === 1) tell([first], false);
    else tell(await askAll(sources, choices, true, mine), false);
  }

  const guarded = (act) => async () => {
    try {
      await act();
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(box, h("p", { class: "estimate-bad" }, icon("alert"), error.message));
      // What fails here says something about the job; whether to start it all the same is the user's choice.
      onFit(true);
    }
  };

  return {
    box,
    ask: function ask(sources, choices) {
      stop();
      isOpen = false;
      again = () => ask(sources, choices);
      if (sources.length === 0) {
        fill(box);
        onResult(null);
        return;
      }
      asking = new AbortController();
      const mine = asking.signal;
      let isKnown = false;
      timers = [
        setTimeout(
          guarded(async () => {
            isKnown = (await guess(sources, choices, mine))[0].is_measured;
          }),
          SHOWN_AT_ONCE_MS,
        ),
        setTimeout(
          guarded(async () => {
            if (!isKnown) await refine(sources, choices, mine);
          }),
          SETTLE_MS,
        ),
      ];
    },
  };
}

/** Write what a single file becomes: "320 × 180 → 1280 × 720 (4×), H.264". */
export function describeOutcome(result) {
  if (!result?.width) return result ? (result.has_video ? "Speech cleaned, video unchanged" : "Speech cleaned") : "";
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
  const facts = [outcome, size === null ? null : `about ${describeBytes(size)}`].filter(Boolean).join(", ");
  // A guess from earlier jobs is told as one.
  const duration =
    time !== null
      ? `${describeRoughly(time)}${answers.length > 1 ? " in total" : ""}`
      : busy
        ? "estimating time …"
        : "time not known yet";
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
        `${describeBytes(needed)} of disk space needed, ${describeBytes(answers[0].disk_free_bytes)} free`,
      ],
    ),
  );
}
