/**
 * Uploads a file with the tus protocol 1.0 (https://tus.io/protocols/resumable-upload): create, then send chunks from the offset
 * that the server has reached. Retries when the connection is lost.
 */

import { ApiError, errorFrom, csrfHeaders } from "./api.js";

const VERSION = { "Tus-Resumable": "1.0.0" };
const CHUNK_BYTES = 8 * 1024 * 1024;
// A connection without progress for this long counts as lost; otherwise a dead one would hang for minutes.
const STALL_MS = 30_000;
const RATE_WINDOW_MS = 8000;
const RETRY_DELAYS_MS = [500, 1000, 2000, 4000, 8000, 15000];

/**
 * An upload. Events: "change" (state or sentBytes), "created" (url is known).
 *
 * `state` is one of waiting, sending, stalled (waits for the connection), paused, done, failed (see `error`).
 */
export class TusUpload extends EventTarget {
  constructor(file, { endpoint = "/api/uploads", url = null, chunkBytes = CHUNK_BYTES } = {}) {
    super();
    this.file = file;
    this.url = url;
    this.sentBytes = 0;
    this.state = "waiting";
    this.error = null;
    this.endpoint = endpoint;
    this.chunkBytes = chunkBytes;
    this.request = null;
    this.wake = null;
    // Mean over the last seconds; 0 while unknown.
    this.bytesPerSecond = 0;
    this.samples = [];
  }

  /** Send until the upload is complete or `pause` is called; ends in the state done, paused or failed. */
  async run() {
    let failures = 0;
    this.#change("sending");
    while (this.state === "sending" || this.state === "stalled") {
      const before = this.sentBytes;
      try {
        if (this.url === null) await this.#create();
        else this.sentBytes = await this.#fetchOffset();
        await this.#sendAll();
      } catch (error) {
        if (this.state === "paused") return;
        if (isGone(error)) {
          this.url = null;
          this.sentBytes = 0;
          failures += 1;
          if (failures > 3) this.#fail(error);
        } else if (isTemporary(error)) {
          failures = this.sentBytes > before ? 0 : failures;
          this.#change("stalled");
          await this.#wait(RETRY_DELAYS_MS[Math.min(failures, RETRY_DELAYS_MS.length - 1)]);
          failures += 1;
        } else {
          this.#fail(error);
        }
      }
    }
  }

  /** Pause; `run` resumes. */
  pause() {
    if (this.state === "done" || this.state === "failed") return;
    this.#change("paused");
    this.request?.abort();
    this.wake?.();
  }

  /** Cancel and have the server delete the received data. */
  async discard() {
    this.pause();
    if (this.url !== null && this.state !== "done") await this.#send("DELETE", this.url).catch(() => {});
  }

  async #create() {
    const metadata = { filename: this.file.name, filetype: this.file.type || "application/octet-stream" };
    const answer = await this.#send("POST", this.endpoint, {
      "Upload-Length": String(this.file.size),
      "Upload-Metadata": Object.entries(metadata)
        .map(([key, value]) => `${key} ${encodeBase64(value)}`)
        .join(","),
    });
    const place = answer.getResponseHeader("Location");
    if (!place)
      throw new ApiError(500, "no_location", "The server did not return an upload address. Ask an administrator.");
    // Only the path: behind a proxy the server may not know the host name that this page uses.
    this.url = new URL(place, location.href).pathname;
    this.sentBytes = 0;
    this.dispatchEvent(new Event("created"));
  }

  async #fetchOffset() {
    const answer = await this.#send("HEAD", this.url);
    return Number(answer.getResponseHeader("Upload-Offset"));
  }

  async #sendAll() {
    while (this.sentBytes < this.file.size) {
      const start = this.sentBytes;
      const chunk = this.file.slice(start, start + this.chunkBytes);
      const answer = await this.#send(
        "PATCH",
        this.url,
        { "Upload-Offset": String(start), "Content-Type": "application/offset+octet-stream" },
        chunk,
        (loaded) => {
          this.sentBytes = start + Math.min(loaded, chunk.size);
          this.#change("sending");
        },
      );
      this.sentBytes = Number(answer.getResponseHeader("Upload-Offset"));
      if (this.state === "paused") throw new DOMException("paused", "AbortError");
      if (!(this.sentBytes > start)) throw new ApiError(500, "no_progress", "The server accepted no data.");
      this.#change("sending");
    }
    this.#change("done");
  }

  #send(method, url, headers = {}, body = null, onProgress = null) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open(method, url);
      for (const [name, value] of Object.entries({ ...VERSION, ...csrfHeaders(), ...headers })) {
        request.setRequestHeader(name, value);
      }
      let timer = 0;
      const watch = () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          reject(new ApiError(0, "unreachable", "The connection was lost."));
          request.abort();
        }, STALL_MS);
      };
      request.upload.addEventListener("progress", (event) => {
        watch();
        onProgress?.(event.loaded);
      });
      request.addEventListener("loadend", () => clearTimeout(timer));
      watch();
      request.addEventListener("load", () => (request.status < 300 ? resolve(request) : reject(readError(request))));
      request.addEventListener("error", () => reject(new ApiError(0, "unreachable", "The connection was lost.")));
      request.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
      request.send(body);
    });
  }

  #wait(time_ms) {
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        window.removeEventListener("online", finish);
        this.wake = null;
        resolve();
      };
      const timer = setTimeout(finish, time_ms);
      window.addEventListener("online", finish);
      this.wake = finish;
    });
  }

  #measureRate() {
    const now = performance.now();
    if (this.state !== "sending") this.samples = [];
    this.samples.push([now, this.sentBytes]);
    while (this.samples.length > 2 && now - this.samples[1][0] > RATE_WINDOW_MS) this.samples.shift();
    const [[since, bytes]] = this.samples;
    this.bytesPerSecond = now - since > 500 ? ((this.sentBytes - bytes) * 1000) / (now - since) : 0;
  }

  #fail(error) {
    this.error = error;
    this.#change("failed");
  }

  #change(state) {
    this.state = state;
    this.#measureRate();
    this.dispatchEvent(new Event("change"));
  }
}

/** Return how many bytes of an upload the server has; null if the upload no longer exists. */
export async function fetchOffset(url) {
  const answer = await fetch(url, { method: "HEAD", headers: VERSION, credentials: "same-origin" });
  if (answer.ok) return Number(answer.headers.get("Upload-Offset"));
  const error = errorFrom(answer.status, null);
  if (isGone(error)) return null;
  throw error;
}

function readError(request) {
  let content = null;
  try {
    content = JSON.parse(request.responseText);
  } catch {
    // HEAD responses have no body.
  }
  return errorFrom(request.status, content);
}

// The server no longer has the upload: it starts again from the beginning.
function isGone(error) {
  return error.status === 404 || error.status === 410;
}

// Worth a retry: no connection, an offset conflict, a lock of the interrupted request, too many requests, a server restart.
function isTemporary(error) {
  return [0, 409, 423, 429].includes(error.status) || (error.status >= 500 && error.status !== 507);
}

function encodeBase64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
