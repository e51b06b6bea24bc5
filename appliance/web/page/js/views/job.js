/** A job: its progress or result, with comparison, report and downloads. */

import { readOrigin } from "../address.js";
import { get } from "../api.js";
import { loadFacts, showComparison } from "../compare.js";
import { fill, h, setText } from "../dom.js";
import { actionOfFailure, drawFailure } from "../failures.js";
import { formatMoment, formatWorkTime, STATES } from "../format.js";
import { icon } from "../icons.js";
import { actionButton, allowedActions, formLinks } from "../job-actions.js";
import { progressBar, thumbnail } from "../job-card.js";
import { describeJob, loadPresets } from "../job-options.js";
import { translate } from "../language.js";
import { listen } from "../live.js";
import { announce } from "../messages.js";
import { setTitle } from "../notifications.js";

export const title = "Job";

/** Show the job with this id. */
export async function show(root, id, signal) {
  await loadPresets();
  const parts = frame(root);
  let job = null;
  let early = null;
  let shown = "";
  const draw = async () => {
    setText(parts.title, job.title);
    setText(parts.facts, [job.preview_of ? "Preview" : "", describeJob(job)].filter(Boolean).join(" · "));
    parts.progress.update(job);
    // Parts that depend on the state are redrawn only when it changes, so that a comparison keeps playing.
    const now = JSON.stringify([job.state, job.has, job.message, job.wish, job.frames_done > 0]);
    if (now === shown) return;
    shown = now;
    fill(parts.state, icon(STATES[job.state].icon), STATES[job.state].word);
    parts.state.className = `state state-${job.state}`;
    fill(
      parts.actions,
      downloads(job),
      formLinks(job),
      allowedActions(job)
        .filter((name) => name !== actionOfFailure(job))
        .map((name) => actionButton(name, job)),
    );
    drawMessage(parts.message, job);
    parts.now.hidden = STATES[job.state].over;
    fill(parts.thumb, thumbnail(job));
    drawTimes(parts.times, job);
    if (STATES[job.state].over) await drawResult(parts, job, signal);
  };
  const change = (now) => {
    if (now.id !== id) return;
    if (job === null) {
      early = now;
      return;
    }
    if (now.removed) {
      fill(root, deletedNotice());
      return;
    }
    if (now.revision < job.revision) return; // an answer that was requested before the last event
    const before = job.state;
    job = now;
    if (before !== now.state) announce(`${now.title}: ${translate(STATES[now.state].word)}`);
    draw().catch(() => {});
  };
  listen("job", change, signal);
  job = await get(`/api/jobs/${encodeURIComponent(id)}`, {}, { signal });
  setTitle(job.title);
  listen("reload", async () => change(await get(`/api/jobs/${id}`, {}, { signal })), signal);
  await draw();
  if (early !== null) change(early);
}

function frame(root) {
  const origin = readOrigin();
  const parts = {
    title: h("h1", { class: "job-name", translate: "no" }),
    state: h("span", { class: "state" }),
    facts: h("p", { class: "lead" }),
    actions: h("div", { class: "row job-actions" }),
    message: h("div", { class: "job-note", hidden: true }),
    progress: progressBar("this job"),
    thumb: h("div", { class: "thumb large" }),
    compare: h("div", { class: "job-compare" }),
    report: h("section", { class: "panel report", "aria-labelledby": "report-title", hidden: true }),
    times: h("dl", { class: "times" }),
  };
  parts.now = h("section", { class: "panel job-now", "aria-label": "Progress" }, parts.thumb, parts.progress.box);
  fill(
    root,
    h("a", { class: "back", href: origin.hash }, icon("arrowLeft"), origin.word),
    h(
      "div",
      { class: "job-top" },
      h("div", {}, h("div", { class: "title-line" }, parts.title, parts.state), parts.facts),
      parts.actions,
    ),
    parts.message,
    parts.now,
    parts.compare,
    h(
      "div",
      { class: "job-below" },
      parts.report,
      h(
        "section",
        { class: "panel", "aria-labelledby": "times-title" },
        h("h2", { id: "times-title" }, "Details"),
        parts.times,
      ),
    ),
  );
  return parts;
}

async function drawResult(parts, job, signal) {
  if (job.state === "done") {
    const facts = await loadFacts(job, signal);
    showComparison(parts.compare, job, signal, facts);
  }
  if (!job.has?.report) return;
  const { lines } = await get(`/api/jobs/${job.id}/report/text`, {}, { signal });
  parts.report.hidden = false;
  fill(
    parts.report,
    h("h2", { id: "report-title" }, "What was done"),
    h("ul", { class: "report-lines" }, lines.map(reportLine)),
  );
}

function reportLine(line) {
  const note = line.startsWith("Note:");
  return h("li", { class: note ? "report-note" : null }, icon(note ? "info" : "check"), h("span", {}, line));
}

function downloads(job) {
  if (job.state !== "done") return null;
  const link = (name, word, className) =>
    h("a", { class: className, href: `/api/jobs/${job.id}/${name}`, download: true }, icon("download"), word);
  return [
    job.has?.result && link("result", "Download result", "button primary"),
    job.has?.report &&
      h(
        "a",
        { class: "button", href: `/api/jobs/${job.id}/report/page`, target: "_blank", rel: "noopener" },
        icon("file"),
        "Report",
      ),
    job.has?.report && link("report", "JSON", "button subdued"),
  ];
}

function drawMessage(box, job) {
  const bad = job.state === "failed";
  const text = job.wish ? (job.wish === "pause" ? "Pausing …" : "Cancelling …") : job.message;
  box.hidden = !text && !bad;
  box.className = bad ? "job-note bad" : "job-note";
  if (bad) drawFailure(box, job);
  else if (text) fill(box, icon("info"), h("p", {}, text));
}

function drawTimes(list, job) {
  const rows = [
    ["Added", formatMoment(job.created_at)],
    ["Started", job.started_at && formatMoment(job.started_at)],
    ["Finished", job.finished_at && formatMoment(job.finished_at)],
    ["Duration", job.finished_at && job.started_at ? formatWorkTime(job) : null],
    ["Added by", job.owner_name ?? (job.origin === "watch" ? "A watch folder" : "The command line")],
    ["Attempts", job.attempts > 1 ? String(job.attempts) : null],
  ];
  fill(
    list,
    rows.filter(([, value]) => value).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value))),
  );
}

function deletedNotice() {
  return h(
    "div",
    { class: "empty" },
    h("h1", {}, "This job was deleted"),
    h("p", {}, "It was deleted while this page was open."),
    h("a", { class: "button primary", href: "#/" }, "Go to the queue"),
  );
}
