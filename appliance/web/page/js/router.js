/** Shows the view that the address names: `#/job/ID` is the view `job` with the parameter `ID`. */

import { ApiError } from "./api.js";
import { setTitle } from "./page-title.js";

const LOADERS = {
  "": () => import("./views/queue.js"),
  account: () => import("./views/account.js"),
  administration: () => import("./views/administration.js"),
  "first-password": () => import("./views/first-password.js"),
  folders: () => import("./views/folders.js"),
  forbidden: () => import("./views/forbidden.js"),
  history: () => import("./views/history.js"),
  job: () => import("./views/job.js"),
  help: () => import("./views/help.js"),
  login: () => import("./views/login.js"),
  new: () => import("./views/new.js"),
  start: () => import("./views/start.js"),
  settings: () => import("./views/settings.js"),
  setup: () => import("./views/setup.js"),
  system: () => import("./views/system.js"),
  users: () => import("./views/users.js"),
};

const UNREACHABLE = "Relume cannot be reached. Check the network connection, then try again.";

let leave = null;
let turn = 0;

/** Read the name of the view and its parameter from the address. */
export function readRoute() {
  const [, name = "", parameter = "", query = ""] = /^#\/([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(location.hash) ?? [];
  return { name, parameter: decode(parameter), query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    // A mistyped address is a thing that is not there.
    return text;
  }
}

/** Put the state of a view into the address, without a new entry in the browser's history. */
export function keepInAddress(name, query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  history.replaceState(history.state, "", `#/${name}${text ? `?${text}` : ""}`);
}

/** Go to a view. */
export function goTo(path) {
  const hash = `#/${path}`;
  if (location.hash === hash) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hash;
}

/**
 * Show a view in `root`.
 *
 * A view's module exports `title` and `show(root, parameter, signal, query)`; the signal is aborted when the user leaves the view, and
 * everything that the view began ends with it.
 */
export async function showRoute(root, { name, parameter, query }) {
  leave?.abort();
  leave = new AbortController();
  turn += 1;
  const mine = turn;
  const view = await loadView(name);
  if (mine !== turn) return;
  setTitle(view.title ?? "");
  root.replaceChildren();
  root.dataset.view = name || "queue";
  await view.show(root, parameter, leave.signal, query);
}

/** Load a view's module; what browsers say when they cannot get it is of no use to anyone. */
async function loadView(name) {
  try {
    return await (LOADERS[name] ?? (() => import("./views/missing.js")))();
  } catch (error) {
    console.warn(error);
    throw new ApiError(0, "unreachable", UNREACHABLE);
  }
}
