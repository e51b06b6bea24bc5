/** Finished jobs with search and filters, which are kept in the address. */

import { replaceQuery } from "../address.js";
import { get } from "../api.js";
import { fill, h, keepFocus, setText, showList } from "../dom.js";
import { field, input, segments, select } from "../forms.js";
import { icon } from "../icons.js";
import { jobCard } from "../job-card.js";
import { loadPresets } from "../job-options.js";
import { listen } from "../live.js";
import { notifyError } from "../messages.js";
import { selectable } from "../selection.js";
import { currentSession, mayAdminister, mayUpload } from "../session.js";
import { pager } from "../table.js";

export const title = "History";

const PAGE = 20;
const SETTLE_MS = 250;
const FINISHED = "done,failed,cancelled";
const STATES = [
  ["", "All"],
  ["done", "Done"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
];
const FILTERS = ["text", "state", "owner", "folder", "preset", "from", "to"];

/** Show the view. */
export async function show(root, _, signal, query = new URLSearchParams()) {
  const [presets, owners, folders] = await Promise.all([loadPresets(), loadOwners(signal), loadFolders(signal)]);
  const filters = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  let offset = Math.max(0, Math.floor(Number(query.get("offset"))) || 0);
  const list = h("ul", { class: "jobs" });
  const empty = h("div", { class: "empty", hidden: true }, h("p", {}, ""));
  const found = h("p", { class: "quiet-text", role: "status" });
  const pages = pager((to) =>
    load(to)
      .then(() => root.querySelector("h1").focus())
      .catch(notifyError),
  );
  let latest = null;

  async function load(to = offset) {
    offset = to;
    latest?.abort();
    latest = new AbortController();
    replaceQuery("history", { ...filters, offset: offset || "" });
    const { from, to: until, state, ...rest } = filters;
    const { jobs, total } = await get(
      "/api/jobs",
      { ...rest, state: state || FINISHED, since: startOf(from), until: startOf(until, 1), previews: false, limit: PAGE, offset },
      { signal: AbortSignal.any([signal, latest.signal]) },
    );
    // The last job of the last page was deleted.
    if (jobs.length === 0 && offset > 0) return load(Math.max(0, offset - PAGE));
    keepFocus(root, () =>
      showList(
        list,
        jobs,
        ({ id }) => id,
        (job) => jobCard(job),
      ),
    );
    const filtered = FILTERS.some((name) => filters[name]);
    empty.hidden = jobs.length > 0;
    setText(empty.firstChild, filtered ? "No results." : "No finished jobs yet.");
    setText(found, filtered && total > 0 ? `${total} found` : "");
    pages.update(offset, PAGE, total);
  }
  let timer = 0;
  const soon = (...to) => {
    clearTimeout(timer);
    timer = setTimeout(() => load(...to).catch(notifyError), SETTLE_MS);
  };
  const change = (name, value) => {
    filters[name] = value;
    soon(0);
  };
  listen("job", () => soon(), signal);
  listen("reload", () => soon(), signal);
  signal.addEventListener("abort", () => clearTimeout(timer));
  const search = input({
    type: "search",
    placeholder: "Search by name",
    "aria-label": "Search by name",
    props: { value: filters.text },
  });
  search.addEventListener("input", () => change("text", search.value.trim()));
  const many = selectable(root, signal);
  fill(
    root,
    h("h1", {}, "History"),
    h(
      "div",
      { class: "filters" },
      h("div", { class: "search" }, icon("search"), search),
      segments("Show", STATES, filters.state, (state) => change("state", state)).box,
      many.button,
    ),
    moreFilters(filters, { presets, owners, folders }, change),
    found,
    empty,
    list,
    pages.box,
    many.bar,
  );
  await load();
}

function moreFilters(filters, { presets, owners, folders }, change) {
  const choice = (name, label, choices) => {
    const control = select([["", "All"], ...choices], filters[name]);
    control.addEventListener("change", () => change(name, control.value));
    return field(label, control);
  };
  const day = (name, label) => {
    const control = input({ type: "date", props: { value: filters[name] } });
    control.addEventListener("change", () => change(name, control.value));
    return field(label, control);
  };
  const open = ["owner", "folder", "preset", "from", "to"].some((name) => filters[name]);
  return h(
    "details",
    { class: "more-fields", open },
    h("summary", {}, "More filters"),
    h(
      "div",
      { class: "filter-fields" },
      owners.length > 0 && choice("owner", "User", owners),
      folders.length > 0 && choice("folder", "Watch folder", folders),
      choice(
        "preset",
        "Preset",
        presets.map(({ name, title: word }) => [name, word]),
      ),
      day("from", "From"),
      day("to", "To"),
    ),
  );
}

async function loadOwners(signal) {
  const { user } = currentSession();
  if (!mayAdminister()) return mayUpload() ? [[user.id, "Only mine"]] : [];
  const users = await get("/api/users", {}, { signal });
  return users.map(({ id, name }) => [id, name]);
}

async function loadFolders(signal) {
  if (!mayAdminister()) return [];
  const folders = await get("/api/folders", {}, { signal });
  return folders.map(({ id, path }) => [id, path]);
}

/** Return the Unix time at which a day (such as "2026-05-01") starts locally, or a later day. */
function startOf(day, more = 0) {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(day)) return "";
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + more).getTime() / 1000;
}
