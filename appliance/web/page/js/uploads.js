/** All uploads of this page: a few in parallel, kept across views and resumed after a reload. */

import { remove } from "./api.js";
import { fetchOffset, TusUpload } from "./tus.js";

const MAX_PARALLEL = 3;
const KEY = "relume.uploads";

const changes = new EventTarget();
const uploads = [];

/**
 * Add files to upload; a file whose upload was started earlier in this browser resumes.
 *
 * Returns:
 * The refused files, each with the reason.
 */
export function addFiles(files, user) {
  const refused = [];
  for (const file of [...files].sort(byName)) {
    if (file.size === 0) {
      refused.push({ name: file.name, reason: "is empty. It may still have been copying" });
      continue;
    }
    const fingerprint = fingerprintOf(file, user);
    if (uploads.some((upload) => upload.fingerprint === fingerprint && !["failed", "done"].includes(upload.state))) continue;
    const upload = new TusUpload(file, { url: readStored()[fingerprint]?.url ?? null });
    upload.fingerprint = fingerprint;
    upload.id = `${fingerprint}|${Date.now()}`;
    upload.addEventListener("created", () =>
      store(fingerprint, { url: upload.url, name: file.name, size: file.size, user: user.id }),
    );
    upload.addEventListener("change", () => dispatchChange(upload));
    uploads.push(upload);
  }
  startNext();
  dispatchChange(null);
  return refused;
}

const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

/** Compare files by name with natural order: 2 before 10. */
export function byName(a, b) {
  return NAMES.compare(a.name, b.name);
}

/** Return the uploads of this page, oldest first. */
export function listUploads() {
  return uploads;
}

/** Call `listener(upload or null)` whenever an upload or the list changes, until the signal is aborted. */
export function listenUploads(listener, signal) {
  changes.addEventListener("change", (event) => listener(event.detail), { signal });
}

/** Resume a paused or failed upload. */
export function resumeUpload(upload) {
  upload.error = null;
  upload.state = "waiting";
  dispatchChange(upload);
  startNext();
}

/** Cancel an upload. */
export async function discardUpload(upload) {
  removeStored(upload.fingerprint);
  const at = uploads.indexOf(upload);
  if (at >= 0) uploads.splice(at, 1);
  dispatchChange(null);
  await upload.discard();
  startNext();
}

/**
 * Find uploads that an earlier visit left unfinished; to resume one the user has to choose its file again.
 *
 * Returns:
 * Fingerprint, name, size, URL and received bytes of each.
 */
export async function findUnfinished(user) {
  const found = [];
  for (const [fingerprint, entry] of Object.entries(readStored())) {
    if (entry.user !== user.id || uploads.some((upload) => upload.fingerprint === fingerprint)) continue;
    let sentBytes;
    try {
      sentBytes = await fetchOffset(entry.url);
    } catch {
      continue;
    }
    if (sentBytes === null || sentBytes >= entry.size) removeStored(fingerprint);
    else found.push({ fingerprint, name: entry.name, size: entry.size, url: entry.url, sentBytes });
  }
  return found;
}

/** Cancel an unfinished upload of an earlier visit. */
export async function discardUnfinished(entry) {
  removeStored(entry.fingerprint);
  await new TusUpload(new Blob(), { url: entry.url }).discard();
}

/** Stop all uploads because their user has logged out; the server keeps the received data for the next visit. */
export function stopUploads() {
  for (const upload of uploads.splice(0)) upload.pause();
  dispatchChange(null);
}

function startNext() {
  const sending = uploads.filter((upload) => ["sending", "stalled"].includes(upload.state)).length;
  for (const upload of uploads.filter(({ state }) => state === "waiting").slice(0, Math.max(0, MAX_PARALLEL - sending))) {
    upload.run().finally(() => finish(upload));
  }
}

function finish(upload) {
  if (upload.state === "done") {
    removeStored(upload.fingerprint);
    const at = uploads.indexOf(upload);
    if (at >= 0) uploads.splice(at, 1);
    changes.dispatchEvent(new CustomEvent("change", { detail: null }));
    changes.dispatchEvent(new CustomEvent("done", { detail: upload }));
  }
  startNext();
}

const removals = new Map();

/**
 * Remove an uploaded file after a delay in which `undoRemoval` can keep it.
 *
 * If the page is closed meanwhile, the file is kept.
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

/** Undo the removal of a file. */
export function undoRemoval(id) {
  clearTimeout(removals.get(id));
  removals.delete(id);
}

/** Return whether a file is about to be removed. */
export function isBeingRemoved(id) {
  return removals.has(id);
}

/** Call `listener(upload)` whenever an upload is complete, until the signal is aborted. */
export function listenArrivals(listener, signal) {
  changes.addEventListener("done", (event) => listener(event.detail), { signal });
}

function dispatchChange(upload) {
  changes.dispatchEvent(new CustomEvent("change", { detail: upload }));
}

function fingerprintOf(file, user) {
  return [user.id, file.name, file.size, file.lastModified].join("|");
}

function readStored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {};
  }
}

function store(fingerprint, entry) {
  write({ ...readStored(), [fingerprint]: entry });
}

function removeStored(fingerprint) {
  const entries = readStored();
  delete entries[fingerprint];
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
