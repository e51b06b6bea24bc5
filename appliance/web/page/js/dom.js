/** Creates elements. Text from outside only ever becomes a text node; nothing here accepts HTML. */

import { translate } from "./language.js";

// Attributes with text for users, translated like text nodes.
const WORDS = new Set(["aria-label", "aria-valuetext", "placeholder", "title", "alt", "data-heading"]);


/**
 * Create an element.
 *
 * `attributes` may hold attributes (true: present without a value; false, null: left out), `on` (listeners by event),
 * `props` (properties such as value or checked) and `vars` (CSS custom properties, set through the CSSOM because the
 * content security policy allows no style attributes). Children are nodes, texts, lists of them, or null.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "props") Object.assign(element, value);
    else if (name === "vars") setVars(element, value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, WORDS.has(name) ? translate(String(value)) : String(value));
  }
  append(element, children);
  return element;
}

/** Set CSS custom properties of an element. */
export function setVars(element, vars) {
  for (const [name, value] of Object.entries(vars)) element.style.setProperty(name, String(value));
}

/** Append nodes and texts, leaving out null and false. */
export function append(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    // The HTML attribute translate="no" marks names of files, users and folders.
    parent.append(typeof child === "string" && parent.translate ? translate(child) : child);
  }
}

/** Replace all children of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
  return parent;
}

/** Set an element's text only if it differs, so that nothing is announced twice. */
export function setText(element, text) {
  const words = element.translate ? translate(text) : text;
  if (element.textContent !== words) element.textContent = words;
}

let lastId = 0;

/** Return a new id for a label, a description or a group of radio buttons. */
export function newId(prefix = "x") {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/**
 * Show a list, keeping the elements of items that stay (and with them focus and playing videos).
 *
 * `make(item)` returns an element with a method `update(item)`.
 */
export function showList(parent, items, key, make) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = String(key(item));
    let element = known.get(id);
    known.delete(id);
    if (element === undefined) {
      element = make(item);
      element.dataset.key = id;
    } else {
      element.update(item);
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const gone of known.values()) gone.remove();
}

/**
 * Redraw a list without losing the keyboard focus.
 *
 * A row that moved keeps its focused button. If the row or the button is gone, the focus goes to its replacement: the same
 * button of the row elsewhere, the next row, or the heading of the page.
 */
export function keepFocus(root, draw) {
  const focused = document.activeElement;
  const row = root.contains(focused) ? focused.closest("[data-job]") : null;
  const order = row ? [...root.querySelectorAll("[data-job]")].map(({ dataset }) => dataset.job) : [];
  const name = focused?.dataset?.action;
  draw();
  if (row === null || isFocused(focused)) return;
  if (focused.isConnected) focused.focus();
  if (isFocused(focused)) return;
  const at = order.indexOf(row.dataset.job);
  for (const id of [order[at], ...order.slice(at + 1), ...order.slice(0, at).reverse()]) {
    const found = root.querySelector(`[data-job="${CSS.escape(id)}"]`);
    if (found === null) continue;
    (found.querySelector(`[data-action="${name}"]`) ?? found.querySelector(".job-title"))?.focus();
    return;
  }
  root.closest("main")?.querySelector("h1")?.focus();
}

function isFocused(element) {
  return element.isConnected && document.activeElement === element;
}
