/** Live updates from the server over server-sent events: jobs, counts, and the state of the machine. */

// The server sends its state every five seconds; a longer silence means a dead connection.
const STALL_MS = 20_000;
const RETRY_MS = [1000, 2000, 4000, 8000, 15000];

const changes = new EventTarget();
let source = null;
let timer = 0;
let watchdog = 0;
let failures = 0;
let connected = null;

/**
 * Connect, unless already connected. `since` is the revision of the queue before the first view was loaded: the server sends
 * what changed after it.
 */
export function connect(since = null) {
  if (source !== null) return;
  source = new EventSource(since === null ? "/api/events" : `/api/events?since=${since}`);
  // A connection that never opens is tried again too, such as one that waits behind other tabs of the browser.
  noteActivity();
  source.addEventListener("open", () => {
    noteActivity();
    const again = connected === false;
    failures = 0;
    setConnected(true);
    // Changes during the interruption were not received, so views load again.
    if (again) dispatch("reload", null);
  });
  source.addEventListener("error", retry);
  source.addEventListener("resync", () => dispatch("reload", null));
  for (const name of ["job", "counts", "folders", "queue", "system"]) {
    source.addEventListener(name, (event) => {
      noteActivity();
      dispatch(name, JSON.parse(event.data));
    });
  }
}

/** Disconnect. */
export function disconnect() {
  clearTimeout(timer);
  clearTimeout(watchdog);
  source?.close();
  source = null;
  connected = null;
}

/**
 * Call `listener(data)` for each "job", "counts", "folders", "queue", "system", "connection" (whether connected) or "reload" event
 * until the signal is aborted.
 */
export function listen(name, listener, signal) {
  changes.addEventListener(name, (event) => listener(event.detail), { signal });
}

/**
 * Jobs by id, each in its newest state, whether it came in a list or in an event: a list does not undo an event that arrived while
 * it was loading.
 */
export class JobMap extends Map {
  #removed = new Set();

  /** Apply a "job" event. */
  update(job) {
    if (job.removed) {
      this.#removed.add(job.id);
      this.delete(job.id);
    } else if (!(this.get(job.id)?.revision > job.revision)) {
      this.set(job.id, job);
    }
  }

  /** Replace all jobs by those of some answers of `/api/jobs`. */
  load(answers) {
    const revision = Math.min(...answers.map((answer) => answer.revision));
    for (const [id, job] of this) if (job.revision <= revision) this.delete(id);
    for (const job of answers.flatMap(({ jobs }) => jobs)) if (!this.#removed.has(job.id)) this.update(job);
  }
}

/** Return whether the connection is open; null before the first attempt has ended. */
export function isConnected() {
  return connected;
}

function noteActivity() {
  clearTimeout(watchdog);
  watchdog = setTimeout(retry, STALL_MS);
}

function retry() {
  clearTimeout(watchdog);
  setConnected(false);
  // The browser reconnects by itself unless the server refused; handling both here keeps the delays short.
  source?.close();
  source = null;
  clearTimeout(timer);
  timer = setTimeout(() => connect(), RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
  failures += 1;
}

function setConnected(value) {
  if (connected === value) return;
  connected = value;
  dispatch("connection", value);
}

/** Dispatch an event as if the server had sent it, for tests of the page. */
export function dispatchForTest(name, data) {
  dispatch(name, data);
}

function dispatch(name, detail) {
  changes.dispatchEvent(new CustomEvent(name, { detail }));
}

window.addEventListener("online", () => {
  if (connected === false) {
    clearTimeout(timer);
    failures = 0;
    connect();
  }
});
