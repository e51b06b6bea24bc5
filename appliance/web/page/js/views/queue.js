/** The queue: where files come in, and what happens to them. */

import { loadPresets } from "../choices.js";
import { fill, h } from "../dom.js";
import { icon } from "../icons.js";
import { showIncoming } from "../incoming.js";
import { showJobs } from "../job-list.js";
import { loadFiles } from "../ready.js";
import { goTo } from "../router.js";
import { mayMake } from "../session.js";
import { listenArrivals } from "../uploads.js";
import { count } from "../words.js";

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
  await showIncoming(box, { onTaken: () => goTo("new") }, signal);
  const waiting = h("div", { class: "waiting-files", hidden: true });
  box.append(waiting);
  const draw = async () => {
    const files = (await loadFiles(signal)).filter(({ error }) => !error);
    waiting.hidden = files.length === 0;
    fill(
      waiting,
      icon("film"),
      h("p", {}, `${count(files.length, "uploaded file")} ${files.length === 1 ? "is" : "are"} ready to enhance.`),
      h("a", { class: "button primary", href: "#/new" }, "Set up job"),
    );
  };
  listenArrivals(() => draw().catch(() => {}), signal);
  await draw();
}
