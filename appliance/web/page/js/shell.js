/** The frame around every view: navigation, the state of the connection, theme and account. */

import { fill, h, setText } from "./dom.js";
import { icon, mark } from "./icons.js";
import { listenForHelp } from "./help-keys.js";
import { isConnected, listen } from "./live.js";
import { announce } from "./notices.js";
import { watchJobs } from "./attention.js";
import { currentSession, mayAdminister, ROLES } from "./session.js";
import { chosenTheme, nextTheme } from "./theme.js";
import { describeBytes } from "./words.js";

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
const THEMES = { system: ["systemTheme", "System"], light: ["sun", "Light"], dark: ["moon", "Dark"] };
const NEAR_BYTES = 3e9;
const FALLBACK = "The saved settings could not be used. Relume started with the last settings that worked.";

/**
 * Build the frame into `app`.
 *
 * Gives `main`, where views go, and `mark(name)`, which shows in the navigation where the user is.
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
  const skip = h("button", { type: "button", class: "skip" }, "Skip to the content");
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
  listenForHelp(signal);
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

/** Make the button that changes between light, dark and the system's choice. */
export function themeButton() {
  const button = h("button", { type: "button", class: "quiet theme-button" });
  const draw = () => {
    const [symbol, word] = THEMES[chosenTheme()];
    fill(button, icon(symbol), h("span", {}, "Theme", ": ", word));
  };
  button.addEventListener("click", () => {
    announce(`Theme: ${THEMES[nextTheme()][1]}`);
    draw();
  });
  draw();
  return button;
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

/** Make the place for what everyone should know: the disk is nearly full, or the saved settings are not in use. */
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

/** Say that the disk is nearly full, or null where it is not. */
function describeDisk({ free, reserve }) {
  if (free >= reserve + Math.max(NEAR_BYTES, reserve / 4)) return null;
  if (free <= reserve)
    return `The disk is full: ${describeBytes(free)} free, all of it reserved (Settings, Disk reserve). Jobs and uploads wait.`;
  return `Disk space is low: ${describeBytes(free)} free, ${describeBytes(reserve)} of it reserved (Settings, Disk reserve).`;
}

function showCounts(links, counts) {
  const open = (counts.running ?? 0) + (counts.queued ?? 0);
  const { badge, link } = links[0];
  badge.hidden = open === 0;
  setText(badge, String(open));
  if (open > 0) link.setAttribute("aria-label", `Queue, ${open} waiting or processing`);
  else link.removeAttribute("aria-label");
}
