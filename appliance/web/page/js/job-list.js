/** The live queue in four sections: in progress, paused, waiting, recently finished. */

import { get } from "./api.js";
import { fill, h, keepFocus, showList } from "./dom.js";
import { count, formatClock, STATES } from "./format.js";
import { icon } from "./icons.js";
import { setQueuePaused, moveJob } from "./job-actions.js";
import { jobCard } from "./job-card.js";
import { translate } from "./language.js";
import { JobMap, listen } from "./live.js";
import { announce, notifyError } from "./messages.js";
import { selectable } from "./selection.js";
import { mayAdminister, describeAudience } from "./session.js";
import { makeSortable } from "./sortable.js";

const FINISHED_SHOWN = 5;
const LIMIT = 200;

/** Show the queue in `root` until the signal is aborted. */
export async function showJobs(root, signal) {
  const jobs = new JobMap();
  const sections = [
    section("working", "In progress", ["running"]),
    section("paused", "Paused", ["paused"]),
    section("waiting", "Waiting", ["queued"]),
    section("finished", "Recently finished", ["done", "failed", "cancelled"]),
  ];
  const empty = h(
    "div",
    { class: "empty small" },
    h(
      "p",
      {},
      `The queue is empty. Add files to get started; ${describeAudience()} can see their progress.`,
    ),
  );
  const more = h("a", { class: "more", href: "#/history" }, "All finished jobs");
  sections.at(-1).box.append(more);
  const select = selectable(root, signal);
  const pause = pauseControl(signal);
  root.append(
    h("div", { class: "queue-tools" }, pause.button, select.button),
    pause.note,
    empty,
    ...sections.map(({ box }) => box),
    select.bar,
  );

  let waitingTotal = 0;
  const waiting = () => [...jobs.values()].filter(({ state }) => state === "queued").sort(byQueueOrder);
  const moveBy = (id, by) => {
    const order = waiting();
    const at = order.findIndex((job) => job.id === id);
    const to = at + by;
    if (to < 0 || to >= order.length) return;
    moveJob(order[at], by < 0 ? order[to] : order[to + 1]);
    announce(`${order[at].title} is now number ${to + 1} in the queue.`);
  };
  const reorder = { up: (id) => moveBy(id, -1), down: (id) => moveBy(id, 1) };
  makeSortable(sections[2].list, (id, beforeId) => moveJob(jobs.get(id), jobs.get(beforeId)));

  const draw = () => {
    for (const { box, list, states, name, number } of sections) {
      let shown = [...jobs.values()].filter(({ state }) => states.includes(state));
      if (name === "finished") shown = shown.filter((job) => !job.preview_of)
        .sort((a, b) => b.finished_at - a.finished_at).slice(0, FINISHED_SHOWN);
      else shown.sort(byQueueOrder);
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
    pause.draw(jobs.size > 0);
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
    // Waiting jobs alone are returned in queue order. Finished ones are returned in the order of adding and sorted here by the time
    // they ended, so more of them are loaded than are shown.
    const found = await Promise.all([
      ask("running,paused", LIMIT),
      ask("queued", LIMIT),
      ask("done,failed,cancelled", 4 * FINISHED_SHOWN, false),
    ]);
    jobs.load(found);
    waitingTotal = found[1].counts.queued;
    pause.set(found[0].is_held);
    draw();
  };
  listen(
    "job",
    (job) => {
      const known = jobs.get(job.id);
      jobs.update(job);
      if (known && !job.removed && known.state !== job.state && STATES[job.state].over) {
        announce(`${job.title}: ${translate(STATES[job.state].word)}`);
      }
      drawSoon();
    },
    signal,
  );
  listen("reload", () => load().catch(notifyError), signal);
  await load();
}

function section(name, title, states) {
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

// "5 jobs, done about 18:40" if the duration of each job is known.
function describeWaiting(shown, total, jobs) {
  if (total > shown.length) return `${count(total, "job")}, first ${shown.length} shown`;
  const running = jobs.filter(({ state }) => state === "running");
  const times = [...running.map(({ eta_s: eta }) => eta), ...shown.map(({ estimate }) => estimate?.time_s)];
  if (times.some((time) => time === null || time === undefined)) return String(shown.length);
  const end = Date.now() / 1000 + times.reduce((sum, time) => sum + time, 0);
  return `${count(shown.length, "job")}, done about ${formatClock(end)}`;
}

// While the queue is paused, running jobs finish and no other job starts.
function pauseControl(signal) {
  let isPaused = false;
  const button = h("button", { type: "button", class: "button small", hidden: true });
  const note = h(
    "div",
    { class: "job-note", role: "status", hidden: true },
    icon("pause"),
    h("p", {}, "The queue is paused. Running jobs will finish; no new jobs will start."),
  );
  let hasJobs = false;
  const draw = (filled = hasJobs) => {
    hasJobs = filled;
    note.hidden = !isPaused;
    button.hidden = !mayAdminister() || (!hasJobs && !isPaused);
    fill(button, icon(isPaused ? "play" : "pause"), isPaused ? "Resume queue" : "Pause queue");
  };
  const set = (now) => {
    isPaused = now;
    draw();
  };
  button.addEventListener("click", () => setQueuePaused(!isPaused).then(() => set(!isPaused), notifyError));
  listen("queue", (now) => set(now.is_held), signal);
  return { button, note, draw, set };
}

function byQueueOrder(a, b) {
  return b.priority - a.priority || a.position - b.position;
}
