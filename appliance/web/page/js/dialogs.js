/** Confirmations and forms in native dialogs, which trap the focus and close with Escape and with Back. */

import { forgetDialog, rememberDialog } from "./dialog-history.js";
import { append, fill, h, newId } from "./dom.js";
import { errorBox, showError } from "./forms.js";
import { icon } from "./icons.js";

/**
 * Ask for confirmation before an action that cannot be undone.
 *
 * Returns:
 * Whether the user confirmed.
 */
export function ask({ title, text, yes, danger = false, no = "Cancel" }) {
  return new Promise((resolve) => {
    const { dialog, close, settled } = open(title);
    const agree = h("button", { type: "button", class: danger ? "button danger" : "button primary" }, yes);
    const refuse = h("button", { type: "button", class: "button" }, no);
    dialog.firstChild.append(h("p", {}, text), h("div", { class: "dialog-buttons" }, refuse, agree));
    agree.addEventListener("click", () => dialog.close("yes"));
    refuse.addEventListener("click", () => dialog.close());
    close.addEventListener("click", () => dialog.close());
    settled.then(() => resolve(dialog.returnValue === "yes"));
    (danger ? refuse : agree).focus();
  });
}

/**
 * Show a form in a dialog; `send` runs when it is submitted, and an error that it throws is shown in the form.
 *
 * Returns:
 * The result of `send`, or undefined if the user closed the dialog.
 */
export function askForm({ title, content, yes, send }) {
  return new Promise((resolve) => {
    const { dialog, close, settled } = open(title);
    const errorPanel = errorBox();
    const submit = h("button", { type: "submit", class: "button primary" }, yes);
    const cancel = h("button", { type: "button", class: "button" }, "Cancel");
    const form = h(
      "form",
      { class: "stack", novalidate: true },
      content,
      errorPanel,
      h("div", { class: "dialog-buttons" }, cancel, submit),
    );
    let result;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      submit.disabled = true;
      try {
        result = await send(form);
        dialog.close();
      } catch (error) {
        showError(errorPanel, error);
      } finally {
        submit.disabled = false;
      }
    });
    cancel.addEventListener("click", () => dialog.close());
    close.addEventListener("click", () => dialog.close());
    settled.then(() => resolve(result));
    dialog.firstChild.append(form);
    form.querySelector("input, select, textarea")?.focus();
  });
}

/** Show a text until it is closed. */
export function showNote({ title, content }) {
  return new Promise((resolve) => {
    const { dialog, close, settled } = open(title);
    const done = h("button", { type: "button", class: "button primary" }, "Close");
    dialog.firstChild.append(h("div", { class: "stack" }, content), h("div", { class: "dialog-buttons" }, done));
    done.addEventListener("click", () => dialog.close());
    close.addEventListener("click", () => dialog.close());
    settled.then(resolve);
    done.focus();
  });
}

/** Show a secret once, with a button that copies it. */
export function showSecret({ title, text, secret }) {
  return new Promise((resolve) => {
    const { dialog, close, settled } = open(title);
    const field = h("input", { class: "secret", readonly: true, "aria-label": title, props: { value: secret } });
    const copy = h("button", { type: "button", class: "button" }, "Copy");
    copy.addEventListener("click", async () => {
      field.select();
      try {
        await navigator.clipboard.writeText(secret);
      } catch {
        document.execCommand("copy");
      }
      fill(copy, icon("check"), "Copied");
    });
    const done = h("button", { type: "button", class: "button primary" }, "Done");
    done.addEventListener("click", () => dialog.close());
    close.addEventListener("click", () => dialog.close());
    settled.then(resolve);
    dialog.firstChild.append(
      h("p", {}, text),
      h("div", { class: "row" }, field, copy),
      h("div", { class: "dialog-buttons" }, done),
    );
    field.select();
  });
}

/**
 * Show content in a wide dialog until it is closed.
 *
 * Returns:
 * `close()`, and `ended`, a signal that is aborted when the dialog is closed.
 */
export function showPanel({ title, content, signal }) {
  const { dialog, close } = open(title);
  const ended = new AbortController();
  dialog.classList.add("dialog-wide");
  append(dialog.firstChild, [content]);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => ended.abort());
  signal?.addEventListener("abort", () => dialog.close());
  return { close: () => dialog.close(), ended: ended.signal };
}

function open(title) {
  const id = newId("dialog");
  const close = h("button", { type: "button", class: "plain-icon dialog-close", "aria-label": "Close" }, icon("close"));
  const opener = document.activeElement;
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": id },
    h("div", { class: "dialog-body" }, h("h2", { id }, title), close),
  );
  const settled = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      // Later: the caller may first have to enable the button that opened the dialog.
      setTimeout(() => restoreFocus(opener));
      forgetDialog(dialog).then(resolve);
    });
  });
  document.body.append(dialog);
  dialog.showModal();
  rememberDialog(dialog);
  return { dialog, close, settled };
}

function restoreFocus(opener) {
  if (document.activeElement !== document.body || document.querySelector("dialog[open]")) return;
  if (opener?.isConnected && !opener.disabled) opener.focus();
}
