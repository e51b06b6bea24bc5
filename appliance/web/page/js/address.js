/** The address of the page: `#/job/ID?state=done` is the view `job` with the parameter `ID` and a query. */

/** Return the view's name, its parameter and its query from the address. */
export function readRoute() {
  const [, name = "", parameter = "", query = ""] = /^#\/([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(location.hash) ?? [];
  return { name, parameter: decode(parameter), query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    // A mistyped address: shown as not found.
    return text;
  }
}

// The views with links to jobs, by the words of the way back.
const LISTS = { "": "Queue", history: "History", folders: "Watch folders", system: "System", administration: "Administration" };
const ORIGIN = "relume-origin";

/** Keep the address of a list that the user leaves, for the link back to it; other addresses do not count. */
export function keepOrigin(url) {
  const hash = url.includes("#") ? url.slice(url.indexOf("#")) : "#/";
  const [, name] = /^#\/([^/?]*)/.exec(hash) ?? [];
  if (name in LISTS) sessionStorage.setItem(ORIGIN, hash);
}

/** Return the address and the name of the list that the user came from, the queue if from none. */
export function readOrigin() {
  const hash = sessionStorage.getItem(ORIGIN) ?? "#/";
  const [, name] = /^#\/([^/?]*)/.exec(hash) ?? [];
  return name in LISTS ? { hash, word: LISTS[name] } : { hash: "#/", word: LISTS[""] };
}

/** Keep the state of a view in the address, without a new entry in the browser's history. */
export function replaceQuery(name, query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  history.replaceState(history.state, "", `#/${name}${text ? `?${text}` : ""}`);
}

/** Go to a view; its own address loads the view again. */
export function goTo(path) {
  const hash = `#/${path}`;
  if (location.hash === hash) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hash;
}
