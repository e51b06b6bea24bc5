/** Form controls: labelled fields, groups of choices, and error messages. */

import { h, newId } from "./dom.js";
import { icon } from "./icons.js";

/** Create a labelled field around an input, select or textarea; `hint` is a text, a list of texts, or empty. */
export function field(label, control, hint = "") {
  control.id ||= newId("field");
  const hintId = `${control.id}-hint`;
  const hasHint = hint.length > 0;
  if (hasHint) control.setAttribute("aria-describedby", hintId);
  return h(
    "div",
    { class: "field" },
    h("label", { for: control.id }, label),
    hasHint && h("p", { class: "hint", id: hintId }, hint),
    control,
  );
}

/** Create a text input. */
export function input(attributes = {}) {
  return h("input", { type: "text", autocomplete: "off", ...attributes });
}

/** Create a password input with a button that shows the password. */
export function passwordField(label, control, hint = "") {
  control.type = "password";
  const eye = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": "Show the password", "aria-pressed": "false" },
    icon("eye"),
  );
  const made = field(label, control, hint);
  const holder = h("div", { class: "password" });
  control.replaceWith(holder);
  holder.append(control, eye);
  eye.addEventListener("click", () => {
    const shown = control.type === "text";
    control.type = shown ? "password" : "text";
    eye.setAttribute("aria-pressed", String(!shown));
  });
  return made;
}

/** Create a select; `choices` are [value, label] pairs. */
export function select(choices, value, attributes = {}) {
  const made = h(
    "select",
    attributes,
    choices.map(([key, word]) => h("option", { value: key }, word)),
  );
  made.value = String(value);
  return made;
}

/** Create a check box with its label to the right. */
export function checkbox(label, checked, hint = "") {
  const id = newId("check");
  const control = h("input", {
    type: "checkbox",
    id,
    props: { checked },
    "aria-describedby": hint.length > 0 ? `${id}-hint` : null,
  });
  const box = h(
    "div",
    { class: "check" },
    control,
    h("div", {}, h("label", { for: id }, label), hint.length > 0 && h("p", { class: "hint", id: `${id}-hint` }, hint)),
  );
  return { box, control };
}

/**
 * Create a row of radio buttons that looks like one switch.
 *
 * Returns `box`, `value()` and `setValue(value)`; `onChange` is called with the new value.
 */
export function segments(label, choices, value, onChange) {
  const name = newId("segments");
  const buttons = choices.map(([key, word]) => {
    const id = newId("segment");
    const button = h("input", {
      type: "radio",
      name,
      id,
      value: key,
      props: { checked: String(key) === String(value) },
    });
    button.addEventListener("change", () => onChange?.(button.value));
    return [button, h("label", { for: id }, word)];
  });
  const box = h(
    "fieldset",
    { class: "segments" },
    h("legend", {}, label),
    h("div", { class: "segments-row" }, buttons),
  );
  return {
    box,
    value: () => buttons.find(([button]) => button.checked)?.[0].value,
    setValue: (wanted) => {
      for (const [button] of buttons) button.checked = button.value === String(wanted);
    },
  };
}

/** Create the panel for errors of a form. */
export function errorBox() {
  return h("div", { class: "error-box", role: "alert", hidden: true });
}

/**
 * Show an error in the panel of a form, or hide the panel (null).
 *
 * An error about one field is shown at that field, which is focused and scrolled into view. The panel then stays hidden unless it
 * is marked with `data-always`, such as the one beside a sticky button.
 */
export function showError(box, error) {
  const form = box.closest("form") ?? box.parentElement;
  for (const control of form?.querySelectorAll("[aria-invalid]") ?? []) clearFault(control);
  if (error === null) {
    box.hidden = true;
    return;
  }
  if (error.name !== "ApiError" && error.name !== "FormError") console.error(error);
  const control = error.control ?? findControl(form, error.field);
  const shown = control !== null && form.contains(control) && markFault(control, error.message);
  box.hidden = shown && !("always" in box.dataset);
  if (!box.hidden) box.replaceChildren(icon("alert"), h("p", {}, error.message));
}

function findControl(form, name) {
  if (!name || !form) return null;
  return form.querySelector(`[name="${CSS.escape(name)}"]`);
}

/** Mark a control as invalid with the message below it; focus it and scroll it into view. */
function markFault(control, message) {
  const holder = control.closest(".field, .check");
  if (holder === null || control.disabled) return false;
  const fault = h("p", { class: "field-error", id: newId("fault"), role: "alert" }, icon("alert"), message);
  holder.append(fault);
  control.setAttribute("aria-invalid", "true");
  control.dataset.described = control.getAttribute("aria-describedby") ?? "";
  control.setAttribute("aria-describedby", `${fault.id} ${control.dataset.described}`.trim());
  control.closest("details")?.setAttribute("open", "");
  control.focus({ preventScroll: true });
  holder.scrollIntoView({ block: "center" });
  control.addEventListener("input", () => clearFault(control), { once: true });
  return true;
}

function clearFault(control) {
  if (!control.hasAttribute("aria-invalid")) return;
  control.removeAttribute("aria-invalid");
  if (control.dataset.described) control.setAttribute("aria-describedby", control.dataset.described);
  else control.removeAttribute("aria-describedby");
  control.closest(".field, .check")?.querySelector(".field-error")?.remove();
}

/** Invalid input; the message says what to do, and `control` is the field concerned. */
export class FormError extends Error {
  constructor(message, control = null) {
    super(message);
    this.name = "FormError";
    this.control = control;
  }
}

/**
 * Run `act` when a form is submitted, with its button disabled meanwhile; an error is shown in `errorPanel` and passed to
 * `onError`.
 */
export function onSubmit(form, { submit, errorPanel, act, onError = () => {} }) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    showError(errorPanel, null);
    try {
      await act();
    } catch (error) {
      showError(errorPanel, error);
      onError(error);
    } finally {
      submit.disabled = false;
    }
  });
}
