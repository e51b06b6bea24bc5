/** Starts the page: loads the session, then shows the frame and the view of the address. */

import { goTo, keepOrigin, readRoute } from "./address.js";
import { watchSession } from "./api.js";
import { fill, h } from "./dom.js";
import { connect, disconnect } from "./live.js";
import { notifyError } from "./messages.js";
import { showRoute } from "./router.js";
import { currentSession, dropSession, loadSession, logOut, mayAdminister } from "./session.js";
import { buildShell } from "./shell.js";
import { stopUploads } from "./uploads.js";

const SIGNED_OUT = new Set(["login", "setup"]);
const ADMINISTRATION = new Set(["folders", "users", "settings", "administration"]);
const SESSION_ENDED = "You were logged out. Log in to continue.";

const app = document.getElementById("app");
let shell = null;
let shellUser = null;
let shellAbort = new AbortController();
let returnTo = "";
let reason = "";

async function start() {
  watchSession({ loggedOut, renew: loadSession });
  try {
    await loadSession();
  } catch (error) {
    showUnreachable(error);
    return;
  }
  window.addEventListener("hashchange", ({ oldURL }) => {
    if (oldURL) keepOrigin(oldURL);
    showPlace();
  });
  window.addEventListener("relume:session", showPlace);
  await showPlace();
}

async function showPlace() {
  const { user, setup_needed: setupNeeded } = currentSession();
  let route = readRoute();
  if (user === null) {
    closeShell();
    if (!SIGNED_OUT.has(route.name)) returnTo = location.hash;
    await show(app, { name: setupNeeded ? "setup" : "login", parameter: reason });
    return;
  }
  reason = "";
  if (user.must_change) {
    closeShell();
    await show(app, { name: "first-password", parameter: "" });
    return;
  }
  if (SIGNED_OUT.has(route.name) || returnTo) {
    // The user who has just created the first account is shown the first steps.
    const first = location.pathname === "/setup" && route.name !== "login";
    history.replaceState(null, "", `/${returnTo || (first ? "#/start" : "#/")}`);
    returnTo = "";
    route = readRoute();
  }
  if (ADMINISTRATION.has(route.name) && !mayAdminister()) route = { name: "unavailable", parameter: "forbidden" };
  if (location.pathname !== "/") history.replaceState(null, "", `/${location.hash}`);
  openShell(user);
  shell.mark(["job", "new"].includes(route.name) ? "" : route.name);
  await show(shell.main, route);
}

async function show(root, route) {
  // The heading is focused as soon as it exists, so that screen readers and the keyboard start there.
  const watcher = new MutationObserver(() => focusHeading(root, watcher));
  watcher.observe(root, { childList: true });
  window.scrollTo(0, 0);
  try {
    await showRoute(root, route);
  } catch (error) {
    if (error.name !== "AbortError" && error.status !== 401) showFailure(root, error);
  }
  focusHeading(root, watcher);
}

function focusHeading(root, watcher) {
  const heading = root.querySelector("h1");
  if (heading === null) return;
  watcher.disconnect();
  if (root.contains(document.activeElement)) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

function openShell(user) {
  if (shell !== null && shellUser === user.id) return;
  shellAbort = new AbortController();
  shell = buildShell(app, { onLogOut: leaveSession, signal: shellAbort.signal });
  shellUser = user.id;
  connect(currentSession().revision);
}

function closeShell() {
  shellAbort.abort();
  disconnect();
  stopUploads();
  shell = null;
  app.replaceChildren();
}

async function leaveSession() {
  try {
    await logOut();
  } catch (error) {
    notifyError(error);
  }
  returnTo = "";
  reason = "";
  history.replaceState(null, "", "/#/login");
  await loadSession().catch(() => {});
  await showPlace();
}

function loggedOut(error) {
  if (currentSession().user === null) return;
  dropSession();
  returnTo = location.hash;
  reason = error?.code === "session_expired" ? error.message : SESSION_ENDED;
  showPlace();
}

function showFailure(root, error) {
  const again = h("button", { type: "button", class: "button primary" }, "Try again");
  again.addEventListener("click", () => goTo(location.hash.slice(2)));
  fill(
    root,
    h("div", { class: "empty" }, h("h1", {}, "This page could not be loaded"), h("p", {}, error.message), again),
  );
  if (error.name !== "ApiError") console.error(error);
}

function showUnreachable(error) {
  const again = h("button", { type: "button", class: "button primary" }, "Try again");
  again.addEventListener("click", () => location.reload());
  fill(app, h("main", { class: "outside" }, h("h1", {}, "Relume is not responding"), h("p", {}, error.message), again));
}

start();
