/** The queue: where files come in, and what happens to them. */

import { fill, h } from "../dom.js";
import { dropZone } from "../drop-zone.js";
import { icon } from "../icons.js";
import { showJobs } from "../job-list.js";
import { loadPresets } from "../choices.js";
import { showReady } from "../ready.js";
import { currentSession, mayMake } from "../session.js";
import { showUploads } from "../upload-list.js";
import { addFiles } from "../uploads.js";

export const title = "Queue";

/** Show the view. */
export async function show(root, _, signal) {
  const incoming = h("div", { class: "incoming" });
  const jobs = h("div", { class: "queue-jobs" });
  fill(
    root,
    h("h1", {}, "Queue"),
    mayMake()
      ? incoming
      : h(
          "p",
          { class: "lead" },
          "You can view jobs and download results. To add files, ask an administrator for operator rights.",
        ),
    jobs,
  );
  // The cards name their presets by title.
  await loadPresets();
  await Promise.all([mayMake() && fillIncoming(incoming, signal), showJobs(jobs, signal)]);
}

async function fillIncoming(box, signal) {
  const refused = h("div", { class: "error-box refused", role: "alert", hidden: true });
  const close = h("button", { type: "button", class: "plain-icon", "aria-label": "Close this message" }, icon("close"));
  close.addEventListener("click", () => {
    refused.hidden = true;
    document.getElementById("chooser").focus();
  });
  const take = (files) => {
    const bad = addFiles(files, currentSession().user);
    refused.hidden = bad.length === 0;
    fill(
      refused,
      icon("alert"),
      h(
        "div",
        { class: "refused-text" },
        bad.map(({ name, reason }) => h("p", {}, `“${name}” ${reason}. Check the file and add it again.`)),
      ),
      close,
    );
  };
  const uploads = h("div", {});
  const ready = h("div", {});
  fill(box, dropZone(take, signal), refused, uploads, ready);
  await Promise.all([showUploads(uploads, signal), showReady(ready, signal)]);
}
