/** A list of jobs that follows the server's events, in four parts: at work, paused, waiting, just finished. */

import { get } from "./api.js";
import { fill, h, keepFocus, showList } from "./dom.js";
import { icon } from "./icons.js";
import { jobCard } from "./job-card.js";
import { holdQueue, moveJob } from "./job-actions.js";
import { makeSortable } from "./reorder.js";
import { listen } from "./live.js";
import { announce, complain } from "./notices.js";
import { selectable } from "./selection.js";
import { mayAdminister, whoSeesJobs } from "./session.js";
import { count, describeClock, STATES } from "./words.js";

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
      `The queue is empty. Add files to get started; ${whoSeesJobs()} can see their progress.`,
    ),
  );
  const more = h("a", { class: "more", href: "#/history" }, "All finished jobs");
  parts.at(-1).box.append(more);
  const select = selectable(root, signal);
  const held = holding(signal);
  root.append(
    h("div", { class: "queue-tools" }, held.button, select.button),
    held.note,
    empty,
    ...parts.map(({ box }) => box),
    select.bar,
  );

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
      if (name === "finished") shown = shown.filter((job) => !job.preview_of)
        .sort((a, b) => b.finished_at - a.finished_at).slice(0, FINISHED_SHOWN);
      else shown.sort(byTurn);
      box.hidden = shown.length === 0;
      number.textContent = name === "waiting" ? describeWaiting(shown, waitingTotal, [...jobs.values()]) : "";
      showList(
        list,
        shown,
        ({ id }) => id,
        (job) => jobCard(job, { reorder: name === "waiting" ? reorder : null }),
      );
    }
    empty.hidden = jobs.size > 0;
    held.draw(jobs.size > 0);
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
      if (!signal.aborted) keepFocus(root, draw);
    });
  };
  const load = async () => {
    const ask = (state, limit, previews) => get("/api/jobs", { state, limit, previews }, { signal });
    // The waiting ones alone, since then the server gives them in the order of their turn. Of those that are over, more than are
    // shown: the server's order is that of adding, here it is that of ending.
    const found = await Promise.all([
      ask("running,paused", LIMIT),
      ask("queued", LIMIT),
      ask("done,failed,cancelled", 4 * FINISHED_SHOWN, false),
    ]);
    jobs.clear();
    for (const job of found.flatMap((answer) => answer.jobs)) jobs.set(job.id, job);
    waitingTotal = found[1].counts.queued;
    held.set(found[0].is_held);
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

// "5, done about 18:40" where it is known how long each takes.
function describeWaiting(shown, total, jobs) {
  if (total > shown.length) return `${total}, showing the next ${shown.length}`;
  const running = jobs.filter(({ state }) => state === "running");
  const times = [...running.map(({ eta_s: eta }) => eta), ...shown.map(({ estimate }) => estimate?.time_s)];
  if (times.some((time) => time === null || time === undefined)) return String(shown.length);
  const end = Date.now() / 1000 + times.reduce((sum, time) => sum + time, 0);
  return `${count(shown.length, "job")}, done about ${describeClock(end)}`;
}

// The whole queue can be held: what runs goes on, and nothing else starts.
function holding(signal) {
  let isHeld = false;
  const button = h("button", { type: "button", class: "button small", hidden: true });
  const note = h(
    "div",
    { class: "job-note", role: "status", hidden: true },
    icon("pause"),
    h("p", {}, "The queue is paused. Running jobs will finish; no new job will start."),
  );
  let someone = false;
  const draw = (isFilled = someone) => {
    someone = isFilled;
    note.hidden = !isHeld;
    button.hidden = !mayAdminister() || (!isFilled && !isHeld);
    fill(button, icon(isHeld ? "play" : "pause"), isHeld ? "Resume queue" : "Pause queue");
  };
  const set = (now) => {
    isHeld = now;
    draw();
  };
  button.addEventListener("click", () => holdQueue(!isHeld).then(() => set(!isHeld), complain));
  listen("queue", (now) => set(now.is_held), signal);
  return { button, note, draw, set };
}

function byTurn(a, b) {
  return b.priority - a.priority || a.position - b.position;
}
