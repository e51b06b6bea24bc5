/** The queue: new files and all jobs that have not ended. */

import { showIncoming } from "../add-files.js";
import { goTo } from "../address.js";
import { fill, h } from "../dom.js";
import { count } from "../format.js";
import { icon } from "../icons.js";
import { showJobs } from "../job-list.js";
import { loadPresets } from "../job-options.js";
import { mayUpload } from "../session.js";
import { loadFiles } from "../uploaded-files.js";
import { listenArrivals } from "../uploads.js";

export const title = "Queue";

/** Show the view. */
export async function show(root, _, signal) {
  const incoming = h("div", { class: "incoming" });
  const jobs = h("div", { class: "queue-jobs" });
  fill(
    root,
    h("h1", {}, "Queue"),
    mayUpload()
      ? incoming
      : h(
          "p",
          { class: "lead" },
          "You can view jobs and download results. To add files, ask an administrator for the operator role.",
        ),
    jobs,
  );
  // The cards show preset titles.
  await loadPresets();
  await Promise.all([mayUpload() && fillIncoming(incoming, signal), showJobs(jobs, signal)]);
}

async function fillIncoming(box, signal) {
  await showIncoming(box, { onAdded: () => goTo("new") }, signal);
  const waiting = h("div", { class: "waiting-files", hidden: true });
  box.append(waiting);
  const draw = async () => {
    const files = (await loadFiles(signal)).filter(({ error }) => !error);
    waiting.hidden = files.length === 0;
    fill(
      waiting,
      icon("film"),
      h("p", {}, count(files.length, "uploaded file is ready to enhance.", "uploaded files are ready to enhance.")),
      h("a", { class: "button primary", href: "#/new" }, "Set up job"),
    );
  };
  listenArrivals(() => draw().catch(() => {}), signal);
  await draw();
}
