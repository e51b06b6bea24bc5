/** The frame around every view: navigation, connection state and account; and the card of the pages before login. */

import { fill, h, setText } from "./dom.js";
import { formatBytes } from "./format.js";
import { icon, mark } from "./icons.js";
import { isConnected, listen } from "./live.js";
import { watchJobs } from "./notifications.js";
import { currentSession, mayAdminister, ROLES } from "./session.js";
import { listenForShortcutHelp } from "./shortcuts.js";
import { themeButton } from "./theme.js";

const PLACES = [
  { path: "", word: "Queue", symbol: "queue" },
  { path: "history", word: "History", symbol: "clock" },
  { path: "folders", word: "Watch folders", symbol: "folder", administrator: true },
  { path: "users", word: "Users", symbol: "users", administrator: true },
  { path: "settings", word: "Settings", symbol: "settings", administrator: true },
  { path: "administration", word: "Administration", symbol: "shield", administrator: true },
  { path: "system", word: "System", symbol: "system" },
  { path: "help", word: "Help", symbol: "help" },
];
const NEAR_BYTES = 3e9;
const FALLBACK = "The saved settings could not be used. Relume is running with the last working settings.";

/**
 * Build the frame into `app`.
 *
 * Returns `main`, the element for views, and `mark(name)`, which marks the current page in the navigation.
 */
export function buildShell(app, { onLogOut, signal }) {
  const links = PLACES.filter((place) => !place.administrator || mayAdminister()).map((place) => {
    const badge = h("span", { class: "badge", hidden: true });
    const link = h(
      "a",
      { href: `#/${place.path}`, class: "nav-link" },
      icon(place.symbol),
      h("span", {}, place.word),
      badge,
    );
    return { ...place, link, badge };
  });
  const nav = h(
    "nav",
    { id: "navigation", "aria-label": "Pages" },
    h(
      "ul",
      {},
      links.map(({ link }) => h("li", {}, link)),
    ),
  );
  const main = h("main", { id: "main", tabindex: "-1" });
  const skip = h("button", { type: "button", class: "skip" }, "Skip to content");
  skip.addEventListener("click", () => main.focus());
  const menu = h(
    "button",
    {
      type: "button",
      class: "plain-icon menu-button",
      "aria-expanded": "false",
      "aria-controls": "sidebar",
      "aria-label": "Menu",
    },
    icon("menu"),
  );
  const brand = () => h("a", { href: "#/", class: "brand" }, mark(), h("span", {}, "Relume"));
  const frame = h(
    "div",
    { class: "frame" },
    skip,
    h("header", { class: "topbar" }, brand(), menu),
    h("aside", { class: "sidebar", id: "sidebar", "aria-label": "Relume" }, brand(), nav, foot(onLogOut)),
    h("div", { class: "content" }, connectionNote(signal), banners(signal), main),
  );
  const setOpen = (open) => {
    frame.classList.toggle("menu-open", open);
    menu.setAttribute("aria-expanded", String(open));
    fill(menu, icon(open ? "close" : "menu"));
  };
  menu.addEventListener("click", () => setOpen(!frame.classList.contains("menu-open")));
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && frame.classList.contains("menu-open")) {
      setOpen(false);
      menu.focus();
    }
  });
  listen("counts", (counts) => showCounts(links, counts), signal);
  watchJobs(signal);
  listenForShortcutHelp(signal);
  fill(app, frame);
  return {
    main,
    mark: (name) => {
      setOpen(false);
      for (const { path, link } of links) {
        if (path === name) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
  };
}

/** Show a card with a heading, a text and other content on a page before login. */
export function showEntryCard(root, heading, sentence, ...content) {
  fill(
    root,
    h(
      "div",
      { class: "outside" },
      h(
        "main",
        { class: "outside-card" },
        h("div", { class: "brand large" }, mark(), h("span", {}, "Relume")),
        h("h1", {}, heading),
        h("p", { class: "lead" }, sentence),
        content,
      ),
      h("footer", { class: "outside-foot" }, themeButton()),
    ),
  );
}

function foot(onLogOut) {
  const { user } = currentSession();
  const logout = h("button", { type: "button", class: "quiet" }, icon("logout"), h("span", {}, "Log out"));
  logout.addEventListener("click", onLogOut);
  return h(
    "div",
    { class: "sidebar-foot" },
    h(
      "a",
      { href: "#/account", class: "account-link" },
      h("span", { class: "avatar", "aria-hidden": "true" }, user.name.charAt(0).toUpperCase()),
      h("span", {}, h("strong", { translate: "no" }, user.name), h("small", {}, ROLES[user.role].word)),
    ),
    themeButton(),
    logout,
  );
}

function connectionNote(signal) {
  const text = h("p", {}, "");
  const note = h("div", { class: "connection", role: "status", hidden: true }, icon("network"), text);
  const show = (connected) => {
    note.hidden = connected !== false;
    setText(text, connected === false ? "Connection lost, reconnecting … Running jobs are not affected." : "");
  };
  listen("connection", show, signal);
  show(isConnected());
  return note;
}

/** Create the banners for all pages: low disk space, and saved settings that are not in use. */
function banners(signal) {
  const box = h("div", { class: "banners" });
  let shown = "";
  const show = ({ disk, settings_fallback: fallback }) => {
    const texts = [disk && describeDisk(disk), fallback && mayAdminister() ? FALLBACK : null];
    const now = JSON.stringify(texts);
    if (now === shown) return;
    shown = now;
    fill(
      box,
      texts[0] && banner(texts[0], "#/history?state=done", "Delete old results"),
      texts[1] && banner(texts[1], "#/settings", "Open settings"),
    );
  };
  listen("system", show, signal);
  return box;
}

function banner(text, href, word) {
  return h("div", { class: "banner", role: "status" }, icon("alert"), h("p", {}, text), h("a", { href }, word));
}

/** Describe low disk space; null if there is enough. */
function describeDisk({ free, reserve }) {
  if (free >= reserve + Math.max(NEAR_BYTES, reserve / 4)) return null;
  if (free <= reserve)
    return `The disk is full: ${formatBytes(free)} free, all of it reserved (Settings, Disk reserve). Jobs and uploads are on hold.`;
  return `Disk space is low: ${formatBytes(free)} free, ${formatBytes(reserve)} of it reserved (Settings, Disk reserve).`;
}

function showCounts(links, counts) {
  const open = (counts.running ?? 0) + (counts.queued ?? 0);
  const { badge, link } = links[0];
  badge.hidden = open === 0;
  setText(badge, String(open));
  if (open > 0) link.setAttribute("aria-label", `Queue, ${open} waiting or processing`);
  else link.removeAttribute("aria-label");
}
