/** Creates a form from a JSON schema, such as that of the server's settings. */

import { h, newId } from "./dom.js";
import { capitalise } from "./format.js";
import { checkbox, field, FormError, input, select } from "./forms.js";
import { icon } from "./icons.js";

/**
 * Create a form for `schema` with the saved `values`.
 *
 * Options: `groups`, [heading, [names]] pairs, groups the fields; other fields come last under the heading `rest`. `fixed` names
 * what sets a field ("environment"): it is disabled and shows its value in `running`. `choices` holds the values that this machine
 * offers for a text field.
 *
 * Returns `box` and `changes()`: only the values that the user changed, nested like the schema.
 *
 * Raises (from `changes`):
 * FormError: A number is missing or out of range; names the control.
 */
export function schemaForm(schema, values, { fixed = {}, running = {}, choices = {}, groups = [], rest = "Other" } = {}) {
  const shown = { ...values };
  for (const name of Object.keys(fixed)) if (name in running) shown[name] = running[name];
  const form = drawObject(schema, shown, schema.$defs ?? {}, { headings: groups, rest, choices });
  for (const [name, by] of Object.entries(fixed)) lock(form.box, name, by);
  return form;
}

function lock(box, name, by) {
  for (const control of box.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
    const note = h("p", { class: "locked", id: newId("locked") }, icon("lock"), `Set by the ${by}.`);
    control.disabled = true;
    control.setAttribute("aria-describedby", `${note.id} ${control.getAttribute("aria-describedby") ?? ""}`.trim());
    const holder = control.closest(".field, .check");
    (holder.classList.contains("check") ? holder.lastElementChild : holder).append(note);
  }
}

function drawObject(schema, values, definitions, { headings = [], rest = "", choices = {} } = {}) {
  const plain = [];
  const groups = [];
  for (const [name, given] of Object.entries(schema.properties ?? {})) {
    const part = resolve(given, definitions);
    if (part.type === "object" && part.properties) {
      const inner = drawObject(part, values?.[name] ?? {}, definitions);
      groups.push({ name, changes: inner.changes, box: group(part, given, name, inner.box) });
    } else {
      plain.push({ name, ...drawField(part, given, name, values?.[name], choices[name]) });
    }
  }
  const parts = [...plain, ...groups];
  return {
    box: h(
      "div",
      { class: "schema" },
      gather(plain, headings, rest),
      groups.map(({ box }) => box),
    ),
    changes: () => {
      const found = {};
      for (const { name, changes } of parts) {
        const change = changes();
        if (change !== undefined) found[name] = change;
      }
      return Object.keys(found).length > 0 ? found : undefined;
    },
  };
}

function gather(fields, headings, rest) {
  const left = new Map(fields.map((field) => [field.name, field.box]));
  const boxes = headings.map(([heading, names]) => {
    const found = names.filter((name) => left.has(name)).map((name) => left.get(name));
    for (const name of names) left.delete(name);
    return found.length > 0 && cluster(heading, found);
  });
  const others = [...left.values()];
  if (others.length === 0) return boxes;
  return [boxes, rest ? cluster(rest, others) : h("div", { class: "schema-fields" }, others)];
}

function cluster(heading, fields) {
  return h("fieldset", { class: "schema-group" }, h("legend", {}, heading), h("div", { class: "schema-fields" }, fields));
}

function group(part, given, name, box) {
  const text = given.description ?? part.description;
  return h(
    "fieldset",
    { class: "schema-group" },
    h("legend", {}, titleOf(given, part, name)),
    text && h("p", { class: "hint" }, text),
    box,
  );
}

function drawField(part, given, name, value, offered) {
  const title = titleOf(given, part, name);
  // Separate texts: each is translated alone.
  const hint = [given.description ?? part.description, ...describeBounds(part)].flatMap((text) => (text ? [text, " "] : []));
  const start = value ?? null;
  let read;
  let box;
  if (offered) {
    // A saved value that is no longer offered stays selectable.
    const all = offered.includes(start) ? offered : [...offered, start];
    const control = select(
      all.map((choice) => [choice, choice === "auto" ? "Automatic" : choice]),
      start,
    );
    box = field(title, control, hint);
    read = () => control.value;
  } else if (part.type === "boolean") {
    const made = checkbox(title, Boolean(start), hint);
    box = made.box;
    read = () => made.control.checked;
  } else if (part.enum) {
    const control = select(
      part.enum.map((choice) => [choice, choice === "auto" ? "Automatic" : String(choice)]),
      start ?? part.enum[0],
    );
    box = field(title, control, hint);
    read = () => part.enum.find((choice) => String(choice) === control.value);
  } else if (part.type === "integer" || part.type === "number") {
    const control = input({
      type: "number",
      inputmode: "decimal",
      min: lowest(part),
      max: highest(part),
      step: part.type === "integer" ? 1 : "any",
      props: { value: start ?? "" },
    });
    box = field(title, control, hint);
    read = () => readNumber(control, part, title);
  } else if (part.type === "array") {
    const control = h("textarea", { rows: 3, spellcheck: "false", props: { value: (start ?? []).join("\n") } });
    box = field(title, control, [...hint, "One per line."]);
    read = () =>
      control.value
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
  } else {
    const secret = part.format === "password" || part.writeOnly;
    const control = input({
      type: secret ? "password" : "text",
      spellcheck: "false",
      autocomplete: secret ? "new-password" : "off",
      id: newId(name),
      props: { value: start ?? "" },
    });
    box = field(title, control, hint);
    read = () => (control.value === "" && part.optional ? null : control.value);
  }
  for (const control of box.querySelectorAll("input, select, textarea")) control.name = name;
  return {
    box,
    changes: () => {
      if (box.querySelector(":disabled")) return undefined;
      const now = read();
      return JSON.stringify(now) === JSON.stringify(part.type === "array" ? (start ?? []) : shape(start, part))
        ? undefined
        : now;
    },
  };
}

function shape(start, part) {
  if (part.type === "boolean") return Boolean(start);
  if (start === null && part.type === "string" && !part.optional) return "";
  return start;
}

function readNumber(control, part, title) {
  if (control.value === "" && part.optional) return null;
  const number = Number(control.value);
  const within = number >= (lowest(part) ?? -Infinity) && number <= (highest(part) ?? Infinity);
  if (control.value === "" || !within || (part.type === "integer" && !Number.isInteger(number))) {
    throw new FormError(`${title} must be ${describeNumber(part)}.`, control);
  }
  return number;
}

// Pydantic writes a reference beside a description, and optional values as anyOf with null.
function resolve(part, definitions) {
  if (part.$ref) return resolve(definitions[part.$ref.split("/").pop()], definitions);
  if (part.allOf?.length === 1) return resolve(part.allOf[0], definitions);
  if (part.anyOf) {
    const some = part.anyOf.filter(({ type }) => type !== "null").map((one) => resolve(one, definitions));
    const best = some.find(({ type }) => type === "integer" || type === "number") ?? some[0];
    return { ...best, optional: some.length < part.anyOf.length };
  }
  return part;
}

function titleOf(given, part, name) {
  return given.title ?? (part.properties ? null : part.title) ?? capitalise(name.replaceAll("_", " "));
}

function lowest(part) {
  return part.minimum ?? part.exclusiveMinimum;
}

function highest(part) {
  return part.maximum ?? part.exclusiveMaximum;
}

function describeNumber(part) {
  const [low, high] = [lowest(part), highest(part)];
  if (low !== undefined && high !== undefined) return `between ${low} and ${high}`;
  if (low !== undefined) return `at least ${low}`;
  if (high !== undefined) return `at most ${high}`;
  return "a number";
}

function describeBounds(part) {
  const [low, high] = [lowest(part), highest(part)];
  const empty = part.optional && part.type !== "string" ? "Leave empty for none." : "";
  if (low !== undefined && high !== undefined) return [`From ${low} to ${high}.`, empty];
  if (low !== undefined) return [`${low} or more.`, empty];
  if (high !== undefined) return [`At most ${high}.`, empty];
  return [empty];
}
