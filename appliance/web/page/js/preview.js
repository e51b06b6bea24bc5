/** Three seconds from the middle of a file, enhanced before hours are spent on all of it. */

import { get, post } from "./api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { progressBar } from "./job-card.js";
import { listen } from "./live.js";
import { announce } from "./notices.js";
import { STATES } from "./words.js";

// Someone waits in front of the page for it.
const NEXT = 50;

let ended = new AbortController();

/** Close the preview in `box`, if one is shown: it stops playing, and is told of no more. */
export function closePreview(box) {
  ended.abort();
  box.hidden = true;
  fill(box);
}

/** Make a preview of the file with these choices and show it in `box` when it is done. */
export async function showPreview(box, file, choices, signal) {
  closePreview(box);
  let job = await post("/api/jobs", { file: file.id, ...choices, preview: true, priority: NEXT });
  if (signal.aborted) return;
  const progress = progressBar(`the preview of ${file.name}`);
  const state = h("p", { class: "hint" });
  const close = h("button", { type: "button", class: "plain-icon", "aria-label": "Close the preview" }, icon("close"));
  const stage = h("div", {}, state, progress.box);
  fill(box, h("div", { class: "preview-head" }, h("h3", {}, `Preview of ${file.name}`), close), stage);
  box.hidden = false;
  box.scrollIntoView({ block: "nearest" });
  ended = new AbortController();
  const until = ended.signal;
  signal.addEventListener("abort", () => closePreview(box), { signal: until });
  close.addEventListener("click", () => closePreview(box));
  const follow = (now) => {
    if (now.id !== job.id || until.aborted || STATES[job.state].over) return;
    job = { ...job, ...now };
    state.textContent = job.state === "queued" ? "It comes next, as soon as the job at work is done." : "";
    progress.update(job);
    if (!STATES[job.state].over) return;
    if (job.state === "done") {
      announce("The preview is ready.");
      fill(stage);
      import("./compare.js").then(({ showComparison }) => showComparison(stage, job, until));
    } else {
      state.textContent = job.message || "The preview was cancelled.";
    }
  };
  const look = async () => follow(await get(`/api/jobs/${job.id}`, {}, { signal: until }));
  listen("job", follow, until);
  listen("reload", () => look().catch(() => {}), until);
  // It may have changed before this page began to listen.
  await look();
}
