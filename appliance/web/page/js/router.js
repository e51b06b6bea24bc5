/** Shows the view that the address names: `#/job/ID` is the view `job` with the parameter `ID`. */

const LOADERS = {
  "": () => import("./views/queue.js"),
  account: () => import("./views/account.js"),
  administration: () => import("./views/administration.js"),
  folders: () => import("./views/folders.js"),
  history: () => import("./views/history.js"),
  job: () => import("./views/job.js"),
  login: () => import("./views/login.js"),
  new: () => import("./views/new.js"),
  settings: () => import("./views/settings.js"),
  setup: () => import("./views/setup.js"),
  system: () => import("./views/system.js"),
  users: () => import("./views/users.js"),
};

let leave = null;
let turn = 0;

/** Read the name of the view and its parameter from the address. */
export function readRoute() {
  const [, name = "", parameter = ""] = /^#\/([^/]*)(?:\/(.*))?$/.exec(location.hash) ?? [];
  return { name, parameter: decodeURIComponent(parameter) };
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
 * A view's module exports `title` and `show(root, parameter, signal)`; the signal is aborted when the user leaves the view, and
 * everything that the view began ends with it.
 */
export async function showRoute(root, { name, parameter }) {
  leave?.abort();
  leave = new AbortController();
  turn += 1;
  const mine = turn;
  const view = await (LOADERS[name] ?? (() => import("./views/missing.js")))();
  if (mine !== turn) return;
  document.title = view.title ? `${view.title} · Relume` : "Relume";
  root.replaceChildren();
  root.dataset.view = name || "queue";
  await view.show(root, parameter, leave.signal);
}
