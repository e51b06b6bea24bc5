/** A list of jobs that follows the server's events, in four parts: at work, paused, waiting, just finished. */

import { get } from "./api.js";
import { h, showList } from "./dom.js";
import { jobCard } from "./job-card.js";
import { moveJob } from "./job-actions.js";
import { makeSortable } from "./reorder.js";
import { listen } from "./live.js";
import { announce, complain } from "./notices.js";
import { STATES } from "./words.js";

const FINISHED_SHOWN = 5;
const LIMIT = 200;

/** Show the queue in `root`, until the signal is aborted. */
export async function showJobs(root, signal) {
  const jobs = new Map();
  const parts = [
    part("working", "In progress", ["running"]),
    part("paused", "Paused", ["paused"]),
    part("waiting", "Waiting", ["queued"]),
    part("finished", "Recently finished", ["done", "failed", "cancelled"]),
  ];
  const empty = h(
    "div",
    { class: "empty small" },
    h(
      "p",
      {},
      "The queue is empty. Add files to get started; everyone with an account can see their progress.",
    ),
  );
  const more = h("a", { class: "more", href: "#/history" }, "All finished jobs");
  parts.at(-1).box.append(more);
  root.append(empty, ...parts.map(({ box }) => box));

  let waitingTotal = 0;
  const waiting = () => [...jobs.values()].filter(({ state }) => state === "queued").sort(byTurn);
  const step = (id, by) => {
    const order = waiting();
    const at = order.findIndex((job) => job.id === id);
    const to = at + by;
    if (to < 0 || to >= order.length) return;
    moveJob(order[at], by < 0 ? order[to] : order[to + 1]);
    announce(`${order[at].title} is now number ${to + 1} in the queue.`);
  };
  const reorder = { up: (id) => step(id, -1), down: (id) => step(id, 1) };
  makeSortable(parts[2].list, (id, beforeId) => moveJob(jobs.get(id), jobs.get(beforeId)));

  const draw = () => {
    for (const { box, list, states, name, number } of parts) {
      let shown = [...jobs.values()].filter(({ state }) => states.includes(state));
      if (name === "finished") shown = shown.sort((a, b) => b.finished_at - a.finished_at).slice(0, FINISHED_SHOWN);
      else shown.sort(byTurn);
      box.hidden = shown.length === 0;
      number.textContent = name === "waiting" ? describeWaiting(shown.length, waitingTotal) : "";
      showList(
        list,
        shown,
        ({ id }) => id,
        (job) => jobCard(job, { reorder: name === "waiting" ? reorder : null }),
      );
    }
    empty.hidden = jobs.size > 0;
  };
  listen(
    "counts",
    (counts) => {
      waitingTotal = counts.queued ?? 0;
      drawSoon();
    },
    signal,
  );
  let drawing = 0;
  const drawSoon = () => {
    drawing ||= requestAnimationFrame(() => {
      drawing = 0;
      if (!signal.aborted) draw();
    });
  };
  const load = async () => {
    const ask = (state, limit) => get("/api/jobs", { state, limit }, { signal });
    // The waiting ones alone, since then the server gives them in the order of their turn. Of those that are over, more than are
    // shown: the server's order is that of adding, here it is that of ending.
    const found = await Promise.all([
      ask("running,paused", LIMIT),
      ask("queued", LIMIT),
      ask("done,failed,cancelled", 4 * FINISHED_SHOWN),
    ]);
    jobs.clear();
    for (const job of found.flatMap((answer) => answer.jobs)) jobs.set(job.id, job);
    waitingTotal = found[1].counts.queued;
    draw();
  };
  listen(
    "job",
    (job) => {
      const known = jobs.get(job.id);
      if (job.removed) jobs.delete(job.id);
      else if (!known || known.revision <= job.revision) jobs.set(job.id, job);
      if (known && !job.removed && known.state !== job.state && STATES[job.state].over) {
        announce(`${job.title}: ${STATES[job.state].word}`);
      }
      drawSoon();
    },
    signal,
  );
  listen("reload", () => load().catch(complain), signal);
  await load();
}

function part(name, title, states) {
  const list = h("ul", { class: "jobs" });
  const number = h("span", { class: "number" });
  const id = `part-${name}`;
  const box = h(
    "section",
    { class: "jobs-part", "aria-labelledby": id, hidden: true },
    h("h2", { id }, title, " ", number),
    list,
  );
  return { name, states, list, number, box };
}

function describeWaiting(shown, total) {
  return total > shown ? `${total}, showing the next ${shown}` : String(shown);
}

function byTurn(a, b) {
  return b.priority - a.priority || a.position - b.position;
}
