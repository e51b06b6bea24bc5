/**
 * Sends one file with the tus protocol 1.0 (https://tus.io/protocols/resumable-upload): create, then pieces, each
 * sent on from the place that the server has reached. Keeps trying when the connection is lost.
 */

import { ApiError, errorFrom, tokenHeaders } from "./api.js";

const VERSION = { "Tus-Resumable": "1.0.0" };
const PIECE_BYTES = 8 * 1024 * 1024;
// A connection that is silent for so long is taken for lost; without it a dead one would hang for minutes.
const SILENCE_MS = 30_000;
const RATE_OVER_MS = 8000;
const WAITS_MS = [500, 1000, 2000, 4000, 8000, 15000];

/**
 * One upload. Events: "change" (state or sent_bytes), "created" (url is known).
 *
 * `state` is one of waiting, sending, stalled (waits for the connection), paused, done, failed (see `error`).
 */
export class TusUpload extends EventTarget {
  constructor(file, { endpoint = "/api/uploads", url = null, pieceBytes = PIECE_BYTES } = {}) {
    super();
    this.file = file;
    this.url = url;
    this.sentBytes = 0;
    this.state = "waiting";
    this.error = null;
    this.endpoint = endpoint;
    this.pieceBytes = pieceBytes;
    this.request = null;
    this.wake = null;
    // The mean of the last seconds; 0 while it is not known.
    this.bytesPerSecond = 0;
    this.marks = [];
  }

  /** Send until the file is there, or until `pause` is called; ends in the state done, paused or failed. */
  async run() {
    let failures = 0;
    this.#change("sending");
    while (this.state === "sending" || this.state === "stalled") {
      const before = this.sentBytes;
      try {
        if (this.url === null) await this.#create();
        else this.sentBytes = await this.#askOffset();
        await this.#sendAll();
      } catch (error) {
        if (this.state === "paused") return;
        if (isLost(error)) {
          this.url = null;
          this.sentBytes = 0;
          failures += 1;
          if (failures > 3) this.#fail(error);
        } else if (isPassing(error)) {
          failures = this.sentBytes > before ? 0 : failures;
          this.#change("stalled");
          await this.#rest(WAITS_MS[Math.min(failures, WAITS_MS.length - 1)]);
          failures += 1;
        } else {
          this.#fail(error);
        }
      }
    }
  }

  /** Stop sending for now; `run` goes on from there. */
  pause() {
    if (this.state === "done" || this.state === "failed") return;
    this.#change("paused");
    this.request?.abort();
    this.wake?.();
  }

  /** Stop for good and let the server forget what it has. */
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
      throw new ApiError(500, "no_location", "Relume did not say where to send the file. Tell the administrator.");
    // Only the path: behind a proxy the server may not know the name under which this page reached it.
    this.url = new URL(place, location.href).pathname;
    this.sentBytes = 0;
    this.dispatchEvent(new Event("created"));
  }

  async #askOffset() {
    const answer = await this.#send("HEAD", this.url);
    return Number(answer.getResponseHeader("Upload-Offset"));
  }

  async #sendAll() {
    while (this.sentBytes < this.file.size) {
      const start = this.sentBytes;
      const piece = this.file.slice(start, start + this.pieceBytes);
      const answer = await this.#send(
        "PATCH",
        this.url,
        { "Upload-Offset": String(start), "Content-Type": "application/offset+octet-stream" },
        piece,
        (loaded) => {
          this.sentBytes = start + Math.min(loaded, piece.size);
          this.#change("sending");
        },
      );
      this.sentBytes = Number(answer.getResponseHeader("Upload-Offset"));
      if (this.state === "paused") throw new DOMException("paused", "AbortError");
      if (!(this.sentBytes > start)) throw new ApiError(500, "no_progress", "The server took nothing of the file.");
      this.#change("sending");
    }
    this.#change("done");
  }

  #send(method, url, headers = {}, body = null, onProgress = null) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open(method, url);
      for (const [name, value] of Object.entries({ ...VERSION, ...tokenHeaders(), ...headers })) {
        request.setRequestHeader(name, value);
      }
      let timer = 0;
      const watch = () => {
        clearTimeout(timer);
        timer = setTimeout(() => {
          reject(new ApiError(0, "unreachable", "The connection was lost."));
          request.abort();
        }, SILENCE_MS);
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

  #rest(time_ms) {
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

  #measure() {
    const now = performance.now();
    if (this.state !== "sending") this.marks = [];
    this.marks.push([now, this.sentBytes]);
    while (this.marks.length > 2 && now - this.marks[1][0] > RATE_OVER_MS) this.marks.shift();
    const [[since, bytes]] = this.marks;
    this.bytesPerSecond = now - since > 500 ? ((this.sentBytes - bytes) * 1000) / (now - since) : 0;
  }

  #fail(error) {
    this.error = error;
    this.#change("failed");
  }

  #change(state) {
    this.state = state;
    this.#measure();
    this.dispatchEvent(new Event("change"));
  }
}

/** Ask how much of an upload the server has; null where it knows it no more. */
export async function askUpload(url) {
  const answer = await fetch(url, { method: "HEAD", headers: VERSION, credentials: "same-origin" });
  if (answer.ok) return Number(answer.headers.get("Upload-Offset"));
  const error = errorFrom(answer.status, null);
  if (isLost(error)) return null;
  throw error;
}

function readError(request) {
  let content = null;
  try {
    content = JSON.parse(request.responseText);
  } catch {
    // HEAD answers have no content.
  }
  return errorFrom(request.status, content);
}

// The server forgot the upload: it is begun anew.
function isLost(error) {
  return error.status === 404 || error.status === 410;
}

// Worth another try: no connection, a conflict about the offset, a lock of the cut request, too many at once, a server restart.
function isPassing(error) {
  return [0, 409, 423, 429].includes(error.status) || (error.status >= 500 && error.status !== 507);
}

function encodeBase64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
