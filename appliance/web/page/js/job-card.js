/** A job in a list: thumbnail, title, state, progress and actions. */

import { fill, h, setText, setVars } from "./dom.js";
import {
  formatTimeLeft,
  formatFps,
  formatMoment,
  formatRoughDuration,
  formatPercent,
  describeStage,
  formatWorkTime,
  isFinishing,
  shareDone,
  STATES,
} from "./format.js";
import { select } from "./forms.js";
import { icon } from "./icons.js";
import { actionButton, allowedActions, PRIORITIES, prioritiseJob } from "./job-actions.js";
import { describeJob, isAudioPreset } from "./job-options.js";
import { mayManage } from "./session.js";

/**
 * Create a card; its method `update(job)` shows a newer state of the job.
 *
 * `reorder` adds a grip and buttons that move the job: an object with `up(id)` and `down(id)`.
 */
export function jobCard(job, { reorder = null } = {}) {
  const picture = h("div", { class: "thumb" });
  const title = h("a", { class: "job-title", translate: "no" });
  const state = h("span", { class: "state" });
  const facts = h("p", { class: "job-facts" });
  const progress = progressBar(job.title);
  const message = h("p", { class: "job-message" });
  const buttons = h("div", { class: "job-buttons" });
  const controls = reorder && mayManage(job) ? orderControls(job, reorder) : null;
  const card = h(
    "li",
    { class: "job", "data-job": job.id },
    h("input", { type: "checkbox", class: "job-check", "aria-label": `Select: ${job.title}` }),
    controls && h("span", { class: "grip", "aria-hidden": "true", title: "Drag to change the order" }, icon("grip")),
    picture,
    h("div", { class: "job-main" }, h("div", { class: "job-head" }, title, state), facts, progress.box, message),
    h("div", { class: "job-side" }, controls?.box, buttons),
  );
  let shownButtons = null;
  let shownPicture = null;
  card.update = (now) => {
    card.job = now;
    card.dataset.state = now.state;
    setText(title, now.title);
    title.href = `#/job/${now.id}`;
    setText(facts, describeFacts(now));
    progress.update(now);
    setText(message, ["failed", "paused", "cancelled"].includes(now.state) ? (now.message ?? "") : "");
    message.hidden = message.textContent === "";
    controls?.update(now);
    if (shownPicture !== Boolean(now.has?.thumbnail)) {
      shownPicture = Boolean(now.has?.thumbnail);
      fill(picture, thumbnail(now));
    }
    const wanted = [now.state, ...allowedActions(now)].join(" ");
    if (shownButtons !== wanted) {
      shownButtons = wanted;
      fill(state, icon(STATES[now.state].icon), STATES[now.state].word);
      state.className = `state state-${now.state}`;
      fill(
        buttons,
        downloadLink(now),
        allowedActions(now).map((name) => actionButton(name, now, { small: true })),
      );
    }
  };
  card.update(job);
  return card;
}

/** Create the thumbnail of a job, or an icon if there is none. */
export function thumbnail(job) {
  if (!job.has?.thumbnail) return icon(job.is_sound || isAudioPreset(job.options?.preset) ? "sound" : "film");
  const image = h("img", { src: `/api/jobs/${job.id}/thumbnail`, alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(icon("film")));
  return image;
}

/** Create a progress bar with its text; `box` is hidden unless the job is running, or paused with progress. */
export function progressBar(title) {
  const bar = h(
    "div",
    {
      class: "bar",
      role: "progressbar",
      "aria-label": `Progress of ${title}`,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    h("div", { class: "bar-fill" }),
  );
  const stage = h("span", { class: "stage" });
  const share = h("span", { class: "share" });
  const left = h("span", { class: "left" });
  const box = h("div", { class: "progress" }, bar, h("p", { class: "progress-words" }, share, stage, left));
  return {
    box,
    update: (job) => {
      const done = shareDone(job);
      box.hidden = !(job.state === "running" || (job.state === "paused" && job.frames_done > 0));
      if (box.hidden) return;
      bar.classList.toggle("bar-unknown", done === null);
      setVars(bar, { "--share": done ?? 0 });
      if (done === null) bar.removeAttribute("aria-valuenow");
      else bar.setAttribute("aria-valuenow", String(Math.floor(done * 100)));
      setText(share, done === null ? "" : formatPercent(done));
      setText(stage, job.state === "paused" ? "Paused" : describeStage(job.stage));
      setText(left, job.state === "paused" ? "" : describePace(job));
      bar.setAttribute("aria-valuetext", `${share.textContent} ${stage.textContent}, ${left.textContent}`);
    },
  };
}

function describePace(job) {
  if (isFinishing(job)) return "Almost done";
  const eta = formatTimeLeft(job);
  return job.fps > 0 ? `${eta} · ${formatFps(job.fps)}` : eta;
}

function describeFacts(job) {
  const parts = [job.preview_of ? "Preview" : null, describeJob(job)];
  if (job.state === "done" && job.started_at) {
    parts.push(formatMoment(job.finished_at), `took ${formatWorkTime(job)}`);
  } else if (STATES[job.state].over) parts.push(formatMoment(job.finished_at));
  else if (job.state === "queued") {
    if (job.priority !== 0) parts.push(job.priority > 0 ? "high priority" : "low priority");
    if (job.estimate?.time_s) parts.push(formatRoughDuration(job.estimate.time_s));
  }
  if (job.owner_name) parts.push(`by ${job.owner_name}`);
  else if (job.origin === "watch") parts.push("from a watch folder");
  return parts.filter(Boolean).join(" · ");
}

function downloadLink(job) {
  if (job.state !== "done" || !job.has?.result) return null;
  return h(
    "a",
    {
      class: "plain-icon",
      href: `/api/jobs/${job.id}/result`,
      download: true,
      "aria-label": `Download: ${job.title}`,
      title: "Download",
    },
    icon("download"),
    h("span", { class: "button-word" }, "Download"),
  );
}

function orderControls(job, reorder) {
  const button = (word, symbol, act) => {
    const made = h(
      "button",
      { type: "button", class: "plain-icon", "aria-label": `${word}: ${job.title}`, title: word },
      icon(symbol),
    );
    made.addEventListener("click", () => act(job.id));
    return made;
  };
  const up = button("Move up", "arrowUp", reorder.up);
  const down = button("Move down", "arrowDown", reorder.down);
  const priority = select(PRIORITIES, 0, { class: "small-select", "aria-label": `Priority: ${job.title}` });
  priority.addEventListener("change", () => prioritiseJob(job, Number(priority.value)));
  const more = h(
    "button",
    {
      type: "button",
      class: "plain-icon more-button",
      "aria-expanded": "false",
      "aria-label": `More: ${job.title}`,
      title: "More",
    },
    icon("more"),
  );
  const box = h("div", { class: "job-controls" }, h("div", { class: "job-order" }, priority, up, down), more);
  more.addEventListener("click", () => {
    const open = box.classList.toggle("open");
    more.setAttribute("aria-expanded", String(open));
  });
  return {
    box,
    update: (now) => {
      if (document.activeElement !== priority)
        priority.value = String(now.priority > 0 ? 10 : now.priority < 0 ? -10 : 0);
    },
  };
}
