/** Table of the optimised engines of this machine: built, being built, and failed. */

import { get, post } from "./api.js";
import { fill, h } from "./dom.js";
import { formatBytes, formatMoment } from "./format.js";
import { icon } from "./icons.js";
import { notifyError, notify } from "./messages.js";
import { mayAdminister } from "./session.js";
import { table } from "./table.js";

const STATES = {
  ready: "Ready",
  outdated: "Outdated",
  building: "Building",
  waiting: "Waiting until no job runs",
  quarantined: "Failed",
  "built, not tested": "For another device",
};
const AGAIN = new Set(["ready", "outdated", "quarantined"]);
const NONE = "No optimised engines yet. They are optional and only make processing faster.";

/** Load the engines and draw them into a box if they changed, so that a button keeps its focus. */
export async function loadEngines(box, signal) {
  const engines = await get("/api/engines", {}, { signal });
  const shown = JSON.stringify(engines);
  if (box.dataset.shown === shown) return;
  box.dataset.shown = shown;
  fill(
    box,
    h("h2", { id: "built-title" }, "Engines"),
    engines.length === 0
      ? h("p", { class: "quiet-text" }, NONE)
      : table(
          "Engines",
          ["Engine", "State", "Size", "Last used", ...(mayAdminister() ? [""] : [])],
          engines.map((engine) => row(engine, () => loadEngines(box, signal))),
        ),
  );
}

function row(engine, load) {
  const { model, precision, sizes, flavour, state, reason, size_bytes: size, last_used: used } = engine;
  const bad = state === "quarantined";
  return [
    h(
      "div",
      { title: engine.name },
      h("strong", {}, model),
      h("p", { class: "hint" }, [precision, sizes, flavour].filter(Boolean).join(" · ")),
    ),
    h(
      "div",
      {},
      h("span", { class: bad ? "state state-failed" : "state" }, STATES[state] ?? state),
      reason && h("p", { class: "hint" }, reason),
    ),
    size ? formatBytes(size) : "",
    used === null ? "" : formatMoment(used),
    ...(mayAdminister() ? [AGAIN.has(state) ? rebuildButton(engine, load) : ""] : []),
  ];
}

function rebuildButton({ name, model }, load) {
  const button = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": `Rebuild: ${model}, ${name}`, title: "Rebuild" },
    icon("retry"),
  );
  button.addEventListener("click", async () => {
    try {
      await post(`/api/engines/${encodeURIComponent(name)}/rebuild`);
      notify(`The engine for ${model} will be rebuilt when no job is running.`);
      await load();
    } catch (error) {
      notifyError(error);
    }
  });
  return h("div", { class: "row end" }, button);
}
