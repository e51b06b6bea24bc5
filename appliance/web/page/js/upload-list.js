/** Running uploads with their progress, and uploads that an earlier visit left unfinished. */

import { fill, h, setText, setVars, showList } from "./dom.js";
import { formatBytes, formatRoughDuration, formatPercent } from "./format.js";
import { icon } from "./icons.js";
import { notifyError } from "./messages.js";
import { currentSession } from "./session.js";
import { discardUpload, discardUnfinished, findUnfinished, listenUploads, listUploads, resumeUpload } from "./uploads.js";

/** Show the uploads in `root` until the signal is aborted. */
export async function showUploads(root, signal) {
  const list = h("ul", { class: "uploads" });
  const title = h("h2", { id: "uploads-title" }, "Uploading");
  const box = h(
    "section",
    { class: "panel uploads-panel", "aria-labelledby": "uploads-title", hidden: true },
    title,
    list,
  );
  const unfinished = h("section", { class: "panel unfinished", "aria-label": "Unfinished uploads", hidden: true });
  root.append(box, unfinished);
  let drawing = 0;
  const draw = () => {
    drawing = 0;
    const uploads = listUploads();
    box.hidden = uploads.length === 0;
    showList(list, uploads, ({ id }) => id, uploadRow);
  };
  const drawUnfinished = async () => showUnfinished(unfinished, await findUnfinished(currentSession().user));
  listenUploads((upload) => {
    drawing ||= requestAnimationFrame(draw);
    if (upload === null) drawUnfinished();
  }, signal);
  draw();
  await drawUnfinished();
}

function uploadRow(upload) {
  const words = h("span", { class: "upload-words" });
  const bar = h(
    "div",
    {
      class: "bar",
      role: "progressbar",
      "aria-label": `Upload of ${upload.file.name}`,
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    h("div", { class: "bar-fill" }),
  );
  const hold = h("button", { type: "button", class: "plain-icon" });
  const drop = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": `Remove: ${upload.file.name}`, title: "Remove" },
    icon("close"),
  );
  hold.addEventListener("click", () => (isHeld(upload) ? resumeUpload(upload) : upload.pause()));
  drop.addEventListener("click", () => discardUpload(upload).catch(notifyError));
  const row = h(
    "li",
    { class: "upload" },
    icon("file"),
    h("div", { class: "upload-main" }, h("p", { class: "upload-name" }, upload.file.name), bar, words),
    hold,
    drop,
  );
  let shown = null;
  row.update = () => {
    const share = upload.sentBytes / upload.file.size;
    row.dataset.state = upload.state;
    setVars(bar, { "--share": share });
    bar.setAttribute("aria-valuenow", String(Math.floor(share * 100)));
    setText(words, describe(upload, share));
    if (shown !== isHeld(upload)) {
      shown = isHeld(upload);
      const word = shown ? "Resume" : "Pause";
      hold.setAttribute("aria-label", `${word}: ${upload.file.name}`);
      hold.title = word;
      fill(hold, icon(shown ? "play" : "pause"));
    }
  };
  row.update();
  return row;
}

function isHeld(upload) {
  return upload.state === "paused" || upload.state === "failed";
}

function describe(upload, share) {
  const sent = `${formatBytes(upload.sentBytes)} of ${formatBytes(upload.file.size)}`;
  if (upload.state === "waiting") return `Waiting · ${formatBytes(upload.file.size)}`;
  if (upload.state === "stalled") return `Connection lost at ${formatPercent(share)}. Upload will resume automatically.`;
  if (upload.state === "paused") return `Paused · ${sent}`;
  if (upload.state === "failed") return upload.error.message;
  const left = upload.bytesPerSecond > 0 ? (upload.file.size - upload.sentBytes) / upload.bytesPerSecond : null;
  const pace =
    left === null ? [] : [`${formatBytes(upload.bytesPerSecond)}/s`, `${formatRoughDuration(left)} left`];
  return [formatPercent(share), sent, ...pace].join(" · ");
}

function showUnfinished(box, entries) {
  box.hidden = entries.length === 0;
  fill(
    box,
    h("h2", {}, "Unfinished uploads"),
    h("p", { class: "hint" }, "Choose the same file again to resume the upload."),
    h(
      "ul",
      { class: "uploads" },
      entries.map((entry) => {
        const drop = h(
          "button",
          { type: "button", class: "plain-icon", "aria-label": `Discard: ${entry.name}`, title: "Discard" },
          icon("close"),
        );
        const row = h(
          "li",
          { class: "upload" },
          icon("file"),
          h(
            "div",
            { class: "upload-main" },
            h("p", { class: "upload-name" }, entry.name),
            h(
              "span",
              { class: "upload-words" },
              `${formatPercent(entry.sentBytes / entry.size)} of ${formatBytes(entry.size)} uploaded`,
            ),
          ),
          drop,
        );
        drop.addEventListener("click", async () => {
          await discardUnfinished(entry).catch(notifyError);
          row.remove();
          box.hidden = box.querySelector("li") === null;
        });
        return row;
      }),
    ),
  );
}
