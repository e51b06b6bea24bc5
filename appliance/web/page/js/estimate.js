/** Asks what a job will take before it starts: time, disk, and whether it fits. */

import { post } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { capitalise, count, describeBytes, describeRoughly } from "./words.js";

// A trial that was begun is not taken back by the server, so it begins when the choosing has come to rest.
const SETTLE_MS = 1000;
const ASKED_AT_MOST = 3;

/**
 * Make the line that shows the estimate.
 *
 * `ask(files, choices)` begins anew after a short rest; `onFit(fits)` is called when the answer is there.
 */
export function estimateLine(onFit, signal) {
  const box = h("div", { class: "estimate", "aria-live": "polite" });
  let timer = 0;
  let asking = null;
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    asking?.abort();
  });

  async function ask(files, choices) {
    asking = new AbortController();
    const mine = asking.signal;
    fill(
      box,
      h("p", { class: "estimate-busy" }, icon("clock"), "Trying two seconds of it, to see how long it takes …"),
    );
    try {
      const answers = [];
      for (const file of files.slice(0, ASKED_AT_MOST)) {
        answers.push(await post("/api/estimates", { file: file.id, ...choices }, { signal: mine }));
      }
      show(box, answers, files.length);
      onFit(answers.every(({ fits }) => fits));
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(box, h("p", { class: "estimate-bad" }, icon("alert"), error.message));
      // A trial that fails says something about the job; whether to start it all the same is the user's choice.
      onFit(true);
    }
  }

  return {
    box,
    ask: (files, choices) => {
      clearTimeout(timer);
      asking?.abort();
      if (files.length === 0) fill(box);
      else timer = setTimeout(() => ask(files, choices), SETTLE_MS);
    },
  };
}

function show(box, answers, total) {
  const sum = (name) => answers.reduce((all, answer) => all + (answer[name] ?? 0), 0);
  const bad = answers.find(({ fits }) => !fits);
  if (bad) {
    fill(box, h("p", { class: "estimate-bad" }, icon("alert"), bad.message));
    return;
  }
  const known =
    answers.length < total
      ? ` for the first ${answers.length} of ${count(total, "file")}`
      : total > 1
        ? ` for ${count(total, "file")}`
        : "";
  const time = answers.some(({ time_s: time_s }) => time_s === null || time_s === undefined);
  fill(
    box,
    h(
      "p",
      {},
      icon("clock"),
      time
        ? "How long it takes will show soon after the start"
        : `${capitalise(describeRoughly(sum("time_s")))}${known}`,
    ),
    h(
      "p",
      {},
      icon("disk"),
      `Needs ${describeBytes(sum("disk_needed_bytes"))}, ${describeBytes(answers[0].disk_free_bytes)} are free`,
    ),
  );
}
