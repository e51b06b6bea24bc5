/** Where files come in: the drop zone, what was refused of them, and the uploads. */

import { dropZone } from "./drop-zone.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { currentSession } from "./session.js";
import { showUploads } from "./upload-list.js";
import { addFiles } from "./uploads.js";

/** Show the place for new files in `root`, until the signal is aborted; `onTaken()` is called when some are on their way. */
export async function showIncoming(root, { onTaken = () => {}, compact = false }, signal) {
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
    if (files.length > 0 && bad.length === 0) onTaken();
  };
  const uploads = h("div", {});
  const zone = dropZone(take, signal);
  zone.classList.toggle("compact", compact);
  root.append(zone, refused, uploads);
  await showUploads(uploads, signal);
}
