/** All uploads of this page: a few at a time, kept while the user looks at other views, resumed after a reload. */

import { remove } from "./api.js";
import { askUpload, TusUpload } from "./tus.js";

const AT_ONCE = 3;
const KEY = "relume.uploads";

const changes = new EventTarget();
const uploads = [];

/**
 * Take files to upload; one that was begun earlier in this browser goes on where it stopped.
 *
 * Returns:
 *   The files that were not taken, each with the reason.
 */
export function addFiles(files, user) {
  const refused = [];
  for (const file of [...files].sort(byName)) {
    if (file.size === 0) {
      refused.push({ name: file.name, reason: "is empty. It may still have been copying" });
      continue;
    }
    const mark = fingerprint(file, user);
    if (uploads.some((upload) => upload.mark === mark && !["failed", "done"].includes(upload.state))) continue;
    const upload = new TusUpload(file, { url: readStored()[mark]?.url ?? null });
    upload.mark = mark;
    upload.id = `${mark}|${Date.now()}`;
    upload.addEventListener("created", () =>
      store(mark, { url: upload.url, name: file.name, size: file.size, user: user.id }),
    );
    upload.addEventListener("change", () => tell(upload));
    uploads.push(upload);
  }
  startNext();
  tell(null);
  return refused;
}

const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** Order files as people number them: 2 before 10. */
export function byName(a, b) {
  return NAMES.compare(a.name, b.name);
}

/** Give the uploads of this page, the oldest first. */
export function listUploads() {
  return uploads;
}

/** Call `listener(upload or null)` whenever an upload or the list changes, until the signal is aborted. */
export function listenUploads(listener, signal) {
  changes.addEventListener("change", (event) => listener(event.detail), { signal });
}

/** Go on with a paused or failed upload. */
export function resumeUpload(upload) {
  upload.error = null;
  upload.state = "waiting";
  tell(upload);
  startNext();
}

/** Stop an upload for good. */
export async function discardUpload(upload) {
  forget(upload.mark);
  const at = uploads.indexOf(upload);
  if (at >= 0) uploads.splice(at, 1);
  tell(null);
  await upload.discard();
  startNext();
}

/**
 * Find the uploads that an earlier visit left unfinished and whose file must be chosen again.
 *
 * Returns:
 *   For each its mark, name, size and how many bytes the server has.
 */
export async function findUnfinished(user) {
  const found = [];
  for (const [mark, entry] of Object.entries(readStored())) {
    if (entry.user !== user.id || uploads.some((upload) => upload.mark === mark)) continue;
    let sentBytes;
    try {
      sentBytes = await askUpload(entry.url);
    } catch {
      continue;
    }
    if (sentBytes === null || sentBytes >= entry.size) forget(mark);
    else found.push({ mark, name: entry.name, size: entry.size, url: entry.url, sentBytes });
  }
  return found;
}

/** Forget an unfinished upload of an earlier visit. */
export async function dropUnfinished(entry) {
  forget(entry.mark);
  await new TusUpload(new Blob(), { url: entry.url }).discard();
}

/** Stop all and forget them here, since their user has gone; the server keeps what it has for the next visit. */
export function leaveUploads() {
  for (const upload of uploads.splice(0)) upload.pause();
  tell(null);
}

function startNext() {
  const sending = uploads.filter((upload) => ["sending", "stalled"].includes(upload.state)).length;
  for (const upload of uploads.filter(({ state }) => state === "waiting").slice(0, Math.max(0, AT_ONCE - sending))) {
    upload.run().finally(() => finish(upload));
  }
}

function finish(upload) {
  if (upload.state === "done") {
    forget(upload.mark);
    const at = uploads.indexOf(upload);
    if (at >= 0) uploads.splice(at, 1);
    changes.dispatchEvent(new CustomEvent("change", { detail: null }));
    changes.dispatchEvent(new CustomEvent("done", { detail: upload }));
  }
  startNext();
}

const removals = new Map();

/**
 * Remove an uploaded file after a moment in which that can be taken back with `keepFile`.
 *
 * A page that is closed meanwhile keeps the file, which is the safe side.
 */
export function removeFileLater(id, delay_ms, onError) {
  const timer = setTimeout(async () => {
    try {
      await removeFile(id);
    } catch (error) {
      onError(error);
    } finally {
      removals.delete(id);
    }
  }, delay_ms);
  removals.set(id, timer);
}

/** Remove an uploaded file now. */
export function removeFile(id) {
  return remove(`/api/uploads/${id}`);
}

/** Take the removal of a file back. */
export function keepFile(id) {
  clearTimeout(removals.get(id));
  removals.delete(id);
}

/** Tell whether a file is about to be removed. */
export function isRemoved(id) {
  return removals.has(id);
}

/** Call `listener(upload)` whenever a file has arrived whole, until the signal is aborted. */
export function listenArrivals(listener, signal) {
  changes.addEventListener("done", (event) => listener(event.detail), { signal });
}

function tell(upload) {
  changes.dispatchEvent(new CustomEvent("change", { detail: upload }));
}

function fingerprint(file, user) {
  return [user.id, file.name, file.size, file.lastModified].join("|");
}

function readStored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {};
  }
}

function store(mark, entry) {
  write({ ...readStored(), [mark]: entry });
}

function forget(mark) {
  const entries = readStored();
  delete entries[mark];
  write(entries);
}

function write(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries));
  } catch {
    // Without storage an upload survives a lost connection, but not a reload.
  }
}

window.addEventListener("beforeunload", (event) => {
  if (uploads.some(({ state }) => state === "sending")) event.preventDefault();
});
