/** Selection of several jobs and actions on all of them. */

import { fill, h, setText } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { allowedActions, BULK, bulkButton } from "./job-actions.js";
import { notifyError } from "./messages.js";

/**
 * Add selection to the job cards in `host`.
 *
 * Returns `button`, which starts and ends the selection, and `bar` with the actions on the selected jobs.
 */
export function selectable(host, signal) {
  const chosen = new Set();
  const words = h("strong", { role: "status" });
  const all = h("button", { type: "button", class: "button small" });
  const actions = h("div", { class: "row" });
  const bar = h("div", { class: "bulk-bar", hidden: true, role: "group", "aria-label": "Selected jobs" });
  const button = h("button", { type: "button", class: "button small", "aria-pressed": "false" }, icon("check"), "Select");
  bar.append(words, all, actions);
  const cards = () => [...host.querySelectorAll(".job")];
  const selected = () =>
    cards()
      .map(({ job }) => job)
      .filter(({ id }) => chosen.has(id));

  function draw() {
    for (const card of cards()) card.querySelector(".job-check").checked = chosen.has(card.job.id);
    const jobs = selected();
    setText(words, `${count(jobs.length, "job")} selected`);
    setText(all, jobs.length > 0 && jobs.length === cards().length ? "Select none" : "Select all");
    const results = jobs.filter(({ state, has }) => state === "done" && has?.result);
    const focused = document.activeElement?.dataset?.bulk;
    fill(
      actions,
      BULK.map((name) => {
        const able = jobs.filter((job) => allowedActions(job).includes(name));
        return bulkButton(name, able, end);
      }),
      h(
        "a",
        {
          class: "button small",
          download: true,
          "aria-disabled": results.length === 0 ? "true" : null,
          href: results.length === 0 ? null : `/api/results.zip?jobs=${results.map(({ id }) => id).join(",")}`,
        },
        icon("download"),
        results.length > 0 ? `Download ${results.length} (ZIP)` : "Download",
      ),
    );
    if (focused) actions.querySelector(`[data-bulk="${focused}"]:not(:disabled)`)?.focus();
  }

  function toggle(on) {
    host.classList.toggle("selecting", on);
    button.setAttribute("aria-pressed", String(on));
    bar.hidden = !on;
    if (!on) chosen.clear();
    draw();
  }

  // Jobs whose action failed stay selected.
  function end(errors) {
    if (errors.length > 0) notifyError(errors[0]);
    else toggle(false);
    button.focus();
  }

  button.addEventListener("click", () => toggle(button.getAttribute("aria-pressed") !== "true"));
  all.addEventListener("click", () => {
    const none = selected().length === cards().length;
    chosen.clear();
    if (!none) for (const { job } of cards()) chosen.add(job.id);
    draw();
  });
  host.addEventListener("change", (event) => {
    const card = event.target.closest(".job-check") && event.target.closest(".job");
    if (!card) return;
    if (event.target.checked) chosen.add(card.job.id);
    else chosen.delete(card.job.id);
    draw();
  });
  // A job whose state changes gets a new card in another list.
  const watcher = new MutationObserver((changes) => {
    // Only the lists of jobs count; the bar itself changes with every selection.
    if (!changes.some(({ target }) => target.matches(".jobs"))) return;
    if (host.classList.contains("selecting")) draw();
    button.hidden = cards().length === 0;
  });
  watcher.observe(host, { childList: true, subtree: true });
  signal.addEventListener("abort", () => {
    watcher.disconnect();
    host.classList.remove("selecting");
  });
  button.hidden = cards().length === 0;
  return { button, bar };
}
