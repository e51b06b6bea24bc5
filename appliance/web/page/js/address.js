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
