/** Loads and shows the view of the current address. */

import { ApiError } from "./api.js";
import { setTitle } from "./notifications.js";

const LOADERS = {
  "": () => import("./views/queue.js"),
  account: () => import("./views/account.js"),
  administration: () => import("./views/administration.js"),
  "first-password": () => import("./views/first-password.js"),
  folders: () => import("./views/folders.js"),
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
let latest = 0;

/**
 * Show a view in `root`.
 *
 * A view's module exports `title` and `show(root, parameter, signal, query)`. The signal is aborted when the user leaves the
 * view, which ends everything that the view started.
 */
export async function showRoute(root, { name, parameter, query }) {
  leave?.abort();
  leave = new AbortController();
  latest += 1;
  const own = latest;
  const view = await loadView(name);
  if (own !== latest) return;
  setTitle(view.title ?? "");
  root.replaceChildren();
  root.dataset.view = name || "queue";
  await view.show(root, parameter, leave.signal, query);
}

/** Load a view's module; browsers' own messages about a failed import do not help users. */
async function loadView(name) {
  try {
    return await (LOADERS[name] ?? (() => import("./views/unavailable.js")))();
  } catch (error) {
    console.warn(error);
    throw new ApiError(0, "unreachable", UNREACHABLE);
  }
}
