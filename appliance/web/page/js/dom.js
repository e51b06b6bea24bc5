/** Builds elements. Text from outside only ever becomes a text node; nothing here takes HTML. */

/**
 * Make an element.
 *
 * `attributes` may hold attributes (true: present without a value; false, null: left out), `on` (listeners by event),
 * `props` (properties such as value or checked) and `vars` (CSS custom properties, set through the CSSOM because the
 * content policy allows no style attributes). Children are nodes, texts, lists of them, or null.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "props") Object.assign(element, value);
    else if (name === "vars") setVars(element, value);
    else element.setAttribute(name, value === true ? "" : String(value));
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
    parent.append(child);
  }
}

/** Put these children in the place of all that an element holds. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  append(parent, children);
  return parent;
}

/** Change an element's text only where it differs, so that nothing is announced twice. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let lastId = 0;

/** Make an id for a label, a description, or a group of radio buttons. */
export function newId(prefix = "x") {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/**
 * Show a list, keeping the elements of items that stay (and with them focus and running videos).
 *
 * `make(item)` gives an element with a method `update(item)`.
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
