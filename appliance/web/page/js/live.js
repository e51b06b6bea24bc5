/** What the server tells by itself: jobs, counts and the machine's state, over server-sent events. */

// The server tells of its state every five seconds; a longer silence is a connection that died without a word.
const SILENCE_MS = 20_000;
const RETRY_MS = [1000, 2000, 4000, 8000, 15000];

const changes = new EventTarget();
let source = null;
let timer = 0;
let silence = 0;
let failures = 0;
let connected = null;

/** Begin to listen; does nothing where it already does. */
export function connect() {
  if (source !== null) return;
  source = new EventSource("/api/events");
  source.addEventListener("open", () => {
    heard();
    const again = connected === false;
    failures = 0;
    setConnected(true);
    // What changed meanwhile was not told: views load again.
    if (again) tell("reload", null);
  });
  source.addEventListener("error", retry);
  source.addEventListener("resync", () => tell("reload", null));
  for (const name of ["job", "counts", "folders", "queue", "system"]) {
    source.addEventListener(name, (event) => {
      heard();
      tell(name, JSON.parse(event.data));
    });
  }
}

/** Stop listening. */
export function disconnect() {
  clearTimeout(timer);
  clearTimeout(silence);
  source?.close();
  source = null;
  connected = null;
}

/**
 * Call `listener(data)` at each "job", "counts", "queue" (is it held), "system", "connection" (data: connected or not) or "reload",
 * until the signal is aborted.
 */
export function listen(name, listener, signal) {
  changes.addEventListener(name, (event) => listener(event.detail), { signal });
}

/** Tell whether the connection stands; null before the first try has ended. */
export function isConnected() {
  return connected;
}

function heard() {
  clearTimeout(silence);
  silence = setTimeout(retry, SILENCE_MS);
}

function retry() {
  clearTimeout(silence);
  setConnected(false);
  // The browser tries again by itself unless the server refused; one way for both keeps the waiting short.
  source?.close();
  source = null;
  clearTimeout(timer);
  timer = setTimeout(connect, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
  failures += 1;
}

function setConnected(value) {
  if (connected === value) return;
  connected = value;
  tell("connection", value);
}

/** Tell the listeners something that the server did not say, for tests of the page. */
export function tellForTest(name, data) {
  tell(name, data);
}

function tell(name, detail) {
  changes.dispatchEvent(new CustomEvent(name, { detail }));
}

window.addEventListener("online", () => {
  if (connected === false) {
    clearTimeout(timer);
    failures = 0;
    connect();
  }
});
