/** The drop zone, the files that were refused, and the running uploads. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { translate } from "./language.js";
import { currentSession } from "./session.js";
import { showUploads } from "./upload-list.js";
import { addFiles } from "./uploads.js";

/** Show the drop zone and the uploads in `root` until the signal is aborted; `onAdded()` is called when files were accepted. */
export async function showIncoming(root, { onAdded = () => {}, compact = false }, signal) {
  const refused = h("div", { class: "error-box refused", role: "alert", hidden: true });
  const close = h("button", { type: "button", class: "plain-icon", "aria-label": "Close this message" }, icon("close"));
  close.addEventListener("click", () => {
    refused.hidden = true;
    document.getElementById("chooser").focus();
  });
  const add = (files) => {
    const rejected = addFiles(files, currentSession().user);
    refused.hidden = rejected.length === 0;
    fill(
      refused,
      icon("alert"),
      h(
        "div",
        { class: "refused-text" },
        rejected.map(({ name, reason }) => h("p", {}, `“${name}” ${reason}. Check the file and add it again.`)),
      ),
      close,
    );
    if (files.length > 0 && rejected.length === 0) onAdded();
  };
  const uploads = h("div", {});
  const zone = dropZone(add, signal);
  zone.classList.toggle("compact", compact);
  root.append(zone, refused, uploads);
  await showUploads(uploads, signal);
}

/** Create the drop zone; `onFiles(files)` is called with the files that the user dropped or chose. */
export function dropZone(onFiles, signal) {
  const chooser = h("input", {
    type: "file",
    multiple: true,
    class: "unseen",
    id: "chooser",
    // Formats that browsers do not list under video/* and audio/*.
    accept:
      "video/*,audio/*,image/gif,image/apng,.mkv,.mxf,.mov,.avi,.ts,.mts,.m2ts,.m2t,.vob,.flv,.f4v,.wmv,.divx,.dv,.dav," +
      ".mod,.tod,.vro,.rm,.rmvb,.wtv,.gxf,.y4m,.mjpeg,.voc,.sph,.gsm,.g722,.dss,.dts,.thd,.tak,.latm,.caf,.w64,.ape,.wv," +
      ".tta,.opus,.amr,.ac3,.eac3",
  });
  const zone = h(
    "div",
    { class: "drop-zone" },
    h("div", { class: "drop-art", "aria-hidden": "true" }, icon("upload")),
    h(
      "div",
      {},
      h(
        "p",
        { class: "drop-title" },
        // A device without a pointer cannot drop files.
        matchMedia("(hover: none)").matches ? "Add video or audio files" : "Drop video or audio files here",
      ),
      h("p", { class: "hint" }, "Interrupted uploads resume automatically."),
    ),
    chooser,
    h("label", { class: "button primary", for: "chooser" }, icon("plus"), "Choose files"),
  );
  chooser.addEventListener("change", () => {
    onFiles([...chooser.files]);
    chooser.value = "";
  });
  // The style sheet shows it over the page while files are dragged.
  document.body.dataset.dropText = translate("Drop files to upload");
  let depth = 0;
  const show = () => document.body.classList.toggle("dropping", depth > 0);
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const on = (name, act) =>
    window.addEventListener(
      name,
      (event) => {
        if (!holdsFiles(event)) return;
        event.preventDefault();
        act(event);
        show();
      },
      { signal },
    );
  on("dragenter", () => {
    depth += 1;
  });
  on("dragleave", () => {
    depth = Math.max(0, depth - 1);
  });
  on("dragover", () => {});
  on("drop", (event) => {
    depth = 0;
    readFiles(event.dataTransfer).then(onFiles);
  });
  signal.addEventListener("abort", () => document.body.classList.remove("dropping"));
  return zone;
}

// A dropped folder stands for all files in it, at any depth.
async function readFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return [...transfer.files];
  return (await Promise.all(entries.map(readEntry))).flat();
}

async function readEntry(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    found.push(...some);
  }
  const visible = found.filter(({ name }) => !name.startsWith("."));
  return (await Promise.all(visible.map(readEntry))).flat();
}
