/** The place where files are dropped or chosen; while the queue is open the whole window takes them. */

import { h } from "./dom.js";
import { icon } from "./icons.js";

/** Make the drop zone; `onFiles(files)` is called with what the user dropped or chose. */
export function dropZone(onFiles, signal) {
  const chooser = h("input", {
    type: "file",
    multiple: true,
    class: "unseen",
    id: "chooser",
    // What browsers' own tables of types leave out.
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
        // What cannot be dropped on is not called so.
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

// A dropped folder gives the files in it, however deep.
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
