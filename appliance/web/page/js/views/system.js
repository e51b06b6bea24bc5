/** The machine: load, devices, models, engines, workers and the recent log. */

import { get } from "../api.js";
import { fill, h, setVars } from "../dom.js";
import { loadEngines } from "../engine-list.js";
import { count, formatBytes, formatDuration, formatNumber } from "../format.js";
import { select } from "../forms.js";
import { icon } from "../icons.js";
import { listen } from "../live.js";
import { table } from "../table.js";

export const title = "System";

const AGAIN_MS = 10000;
const LEVELS = [
  ["all", "All messages"],
  ["WARNING", "Warnings and errors"],
  ["ERROR", "Errors"],
];

/** Show the view. */
export async function show(root, _, signal) {
  const gauges = h("div", { class: "gauges" });
  const engines = h("section", { class: "panel", "aria-labelledby": "engines-title" });
  const built = h("section", { class: "panel", "aria-labelledby": "built-title" });
  const workers = h("section", { class: "panel", "aria-labelledby": "workers-title" });
  const log = h("pre", { class: "log", translate: "no", tabindex: "0", "aria-label": "Recent log" });
  const facts = h("dl", { class: "facts" });
  const level = select(LEVELS, "all", { "aria-label": "Show log entries", class: "small-select" });
  level.addEventListener("change", () => drawLog());
  fill(
    root,
    h("h1", {}, "System"),
    gauges,
    h("div", { class: "two" }, h("section", { class: "panel" }, h("h2", {}, "This machine"), facts), workers),
    engines,
    built,
    h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", {}, "Recent log"), level), log),
  );
  let known = {};
  const load = async () => {
    const system = await get("/api/system", {}, { signal });
    known = system;
    fill(gauges, drawGauges(system));
    fill(facts, drawFacts(system));
    // An open row of details stays open if nothing changed.
    const models = JSON.stringify(system.engines ?? []);
    if (engines.dataset.shown !== models) drawEngines(engines, system.engines ?? []);
    engines.dataset.shown = models;
    drawWorkers(workers, system.workers ?? []);
    await loadEngines(built, signal);
    tail = system.log_tail ?? [];
    drawLog();
  };
  let tail = [];
  const drawLog = () => {
    const lines = filterLog(tail, level.value).join("\n");
    const end = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    if (log.textContent !== lines) {
      log.textContent = lines || "No entries.";
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

function drawGauges({ disk, memory, temperature_c: temperature, load, cores = 1 }) {
  const usage = (symbol, word, { free: left, total }, most, note = "") => {
    const used = 1 - left / total;
    const shown = [`of ${formatBytes(total)} used`, note].filter(Boolean).join(" · ");
    return gauge(symbol, word, formatBytes(total - left), shown, used, used > most);
  };
  const hot = temperature > 85;
  return [
    disk && usage("disk", "Disk", disk, 0.9, disk.reserve ? `${formatBytes(disk.reserve)} reserved` : ""),
    memory && usage("system", "Memory", memory, 0.92),
    // Not every machine reports its temperature.
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
    gauge("spark", "CPU load", formatNumber(load), describeLoad(load, cores), Math.min(1, load / cores), false),
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

/** Spell the names of devices, backends and precisions: CPU, OpenVINO, FP16. */
function capitals(text) {
  const names = { openvino: "OpenVINO", tensorrt: "TensorRT", rtx: "TensorRT RTX" };
  return text?.replace(/\b(?:cpu|gpu|cuda|openvino|tensorrt|rtx|fp\d+|int\d+|bf16)\b/g, (word) => names[word] ?? word.toUpperCase());
}

function drawFacts(system) {
  const rows = [
    ["Relume", system.version],
    ["Device", system.device],
    ["Backend", capitals(system.backend)],
    ["Precision", capitals(system.precision)],
    ["Uptime", system.uptime_s ? formatDuration(system.uptime_s) : null],
  ];
  return rows.filter(([, value]) => value).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value)));
}

function drawWorkers(box, workers) {
  const none = "No worker is running, so jobs are waiting. If this persists, restart Relume.";
  fill(
    box,
    h("h2", { id: "workers-title" }, "Workers"),
    workers.length === 0 && h("p", { class: "quiet-text" }, none),
    h(
      "dl",
      { class: "facts" },
      workers.map((worker) => h("div", {}, h("dt", {}, capitals(worker.device)), h("dd", {}, describeWorker(worker)))),
    ),
  );
}

function describeWorker({ pid, job }) {
  if (pid === null) return "Starting";
  return job ? h("a", { href: `#/job/${job}` }, "Busy: open job") : "Idle";
}

function drawEngines(box, engines) {
  fill(
    box,
    h("h2", { id: "engines-title" }, "Models"),
    table(
      "Models",
      ["Model", "Runs on", "Details"],
      engines.map(({ name, title, backend, precision, reason, sha256, licence }) => [
        h("div", {}, h("strong", {}, name), h("p", { class: "hint" }, title)),
        `${capitals(backend)}, ${capitals(precision)}`,
        h(
          "details",
          { class: "model-details" },
          h("summary", { "aria-label": `Details: ${name}` }, "Show"),
          h("p", { class: "hint" }, [reason, sha256 && `build ${sha256.slice(0, 8)}`, licence].filter(Boolean).join(" · ")),
        ),
      ]),
    ),
  );
}

function describeLoad(load, cores) {
  const word = load > cores * 1.1 ? "overloaded" : load > cores * 0.7 ? "busy" : load > cores * 0.2 ? "normal" : "idle";
  return `on ${count(cores, "core")}: ${word}`;
}

/** Return the log lines of a level and above; lines without a level, such as a traceback, belong to the line before. */
function filterLog(lines, level) {
  if (level === "all") return lines;
  const wanted = level === "ERROR" ? ["ERROR", "CRITICAL"] : ["WARNING", "ERROR", "CRITICAL"];
  let shown = false;
  return lines.filter((line) => {
    const found = /\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b/.exec(line);
    if (found) shown = wanted.includes(found[1]);
    return shown;
  });
}
