/** The machine: how it is, what does the work, and its newest messages. */

import { get } from "../api.js";
import { fill, h, setVars } from "../dom.js";
import { loadEngines } from "../engine-list.js";
import { icon } from "../icons.js";
import { listen } from "../live.js";
import { describeBytes, describeTook } from "../words.js";

export const title = "System";

const AGAIN_MS = 10000;

/** Show the view. */
export async function show(root, _, signal) {
  const gauges = h("div", { class: "gauges" });
  const engines = h("section", { class: "panel", "aria-labelledby": "engines-title" });
  const built = h("section", { class: "panel", "aria-labelledby": "built-title" });
  const workers = h("section", { class: "panel", "aria-labelledby": "workers-title" });
  const log = h("pre", { class: "log", tabindex: "0", "aria-label": "Newest messages" });
  const facts = h("dl", { class: "facts" });
  fill(
    root,
    h("h1", {}, "System"),
    gauges,
    h("div", { class: "two" }, h("section", { class: "panel" }, h("h2", {}, "This machine"), facts), workers),
    engines,
    built,
    h("section", { class: "panel" }, h("h2", {}, "Newest messages"), log),
  );
  let known = {};
  const load = async () => {
    const system = await get("/api/system", {}, { signal });
    known = system;
    fill(gauges, drawGauges(system));
    fill(facts, drawFacts(system));
    drawEngines(engines, system.engines ?? []);
    drawWorkers(workers, system.workers ?? []);
    await loadEngines(built, signal);
    const lines = (system.log_tail ?? []).join("\n");
    const end = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    if (log.textContent !== lines) {
      log.textContent = lines || "There are none.";
      if (end) log.scrollTop = log.scrollHeight;
    }
  };
  await load();
  const timer = setInterval(() => document.hidden || load().catch(() => {}), AGAIN_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  listen(
    "system",
    (system) => {
      known = { ...known, ...system };
      fill(gauges, drawGauges(known));
    },
    signal,
  );
}

function drawGauges({ disk, memory, temperature_c: temperature, load }) {
  const free = (symbol, word, { free: left, total }, most) => {
    const used = 1 - left / total;
    return gauge(symbol, word, describeBytes(left), `of ${describeBytes(total)}`, used, used > most);
  };
  const hot = temperature > 85;
  return [
    disk && free("disk", "Free disk", disk, 0.9),
    memory && free("system", "Free memory", memory, 0.92),
    // Not every machine tells its temperature.
    temperature !== null &&
      temperature !== undefined &&
      gauge(
        "thermometer",
        "Temperature",
        `${Math.round(temperature)} °C`,
        hot ? "Hot: check the fan" : "",
        Math.min(1, temperature / 100),
        hot,
      ),
    gauge("spark", "Load", load.toFixed(1), "programs at work on average", null, false),
  ];
}

function gauge(symbol, word, value, note, share, bad) {
  const bar =
    share === null ? null : h("div", { class: "bar slim", "aria-hidden": "true" }, h("div", { class: "bar-fill" }));
  if (bar) setVars(bar, { "--share": share });
  return h(
    "div",
    { class: bad ? "gauge gauge-bad" : "gauge" },
    h("p", { class: "gauge-word" }, icon(symbol), word),
    h("p", { class: "gauge-value" }, value),
    note && h("p", { class: "hint" }, note),
    bar,
  );
}

function drawFacts(system) {
  const rows = [
    ["Relume", system.version],
    ["Device", system.device],
    ["Runs with", system.backend],
    ["Precision", system.precision],
    ["Running for", system.uptime_s ? describeTook(system.uptime_s) : null],
  ];
  return rows.filter(([, value]) => value).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value)));
}

function drawWorkers(box, workers) {
  const none = "No worker runs. Jobs wait until one is started; if this stays so, start Relume again.";
  fill(
    box,
    h("h2", { id: "workers-title" }, "Who works"),
    workers.length === 0 && h("p", { class: "quiet-text" }, none),
    h(
      "dl",
      { class: "facts" },
      workers.map((worker) => h("div", {}, h("dt", {}, worker.device), h("dd", {}, describeWorker(worker)))),
    ),
  );
}

function describeWorker({ pid, job }) {
  if (pid === null) return "Is being started";
  return job ? h("a", { href: `#/job/${job}` }, "Works on a job") : "Waits for work";
}

function drawEngines(box, engines) {
  fill(box, h("h2", { id: "engines-title" }, "Models"), h("ul", { class: "engines" }, engines.map(drawEngine)));
}

function drawEngine({ name, title, backend, precision, reason, sha256, licence }) {
  const facts = [title, `${backend} ${precision} (${reason})`, sha256 && `build ${sha256.slice(0, 8)}`, licence];
  return h("li", {}, h("strong", {}, name), h("span", {}, facts.filter(Boolean).join(" · ")));
}
