/** All jobs that are over, with a search. */

import { get } from "../api.js";
import { loadPresets } from "../choices.js";
import { fill, h, setText, showList } from "../dom.js";
import { input, segments } from "../forms.js";
import { icon } from "../icons.js";
import { jobCard } from "../job-card.js";
import { listen } from "../live.js";
import { complain } from "../notices.js";
import { pager } from "../paging.js";

export const title = "History";

const PAGE = 20;
const SETTLE_MS = 250;
const OVER = "done,failed,cancelled";

/** Show the view. */
export async function show(root, _, signal) {
  await loadPresets();
  const wish = { text: "", state: OVER, offset: 0 };
  const search = input({ type: "search", placeholder: "Search by name", "aria-label": "Search by name" });
  const list = h("ul", { class: "jobs" });
  const empty = h("div", { class: "empty", hidden: true }, h("p", {}, ""));
  const states = segments(
    "Show",
    [
      [OVER, "All"],
      ["done", "Done"],
      ["failed", "Failed"],
      ["cancelled", "Cancelled"],
    ],
    OVER,
    (state) => {
      wish.state = state;
      change();
    },
  );
  const pages = pager((offset) =>
    load({ offset })
      .then(() => root.querySelector("h1").focus())
      .catch(complain),
  );
  let latest = null;

  async function load(changes = {}) {
    Object.assign(wish, changes);
    latest?.abort();
    latest = new AbortController();
    const asked = AbortSignal.any([signal, latest.signal]);
    const { jobs, counts } = await get("/api/jobs", { ...wish, previews: false, limit: PAGE + 1 }, { signal: asked });
    const total = totalOf(jobs, counts, wish);
    showList(
      list,
      jobs.slice(0, PAGE),
      ({ id }) => id,
      (job) => jobCard(job),
    );
    empty.hidden = jobs.length > 0;
    setText(
      empty.firstChild,
      wish.text || wish.state !== OVER
        ? "Nothing is found. Try a shorter word, or show all."
        : "Nothing has been finished yet.",
    );
    pages.update(wish.offset, PAGE, total);
  }
  let timer = 0;
  const change = () => {
    clearTimeout(timer);
    timer = setTimeout(() => load({ offset: 0 }).catch(complain), SETTLE_MS);
  };
  search.addEventListener("input", () => {
    wish.text = search.value.trim();
    change();
  });
  listen(
    "job",
    () => {
      clearTimeout(timer);
      timer = setTimeout(() => load().catch(complain), SETTLE_MS);
    },
    signal,
  );
  signal.addEventListener("abort", () => clearTimeout(timer));
  fill(
    root,
    h("h1", {}, "History"),
    h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search), states.box),
    empty,
    list,
    pages.box,
  );
  await load();
}

// The server counts by state; with a search text only what follows is known: whether there is more.
function totalOf(jobs, counts, { text, state, offset }) {
  if (text) return offset + jobs.length;
  return state.split(",").reduce((sum, name) => sum + (counts[name] ?? 0), 0);
}
