/** Short messages in the corner, and what screen readers are told. */

import { h, setText } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 6000;
const UNDO_MS = 10_000;

/** Tell screen readers something that the eye sees elsewhere. */
export function announce(text) {
  setText(document.getElementById("announcer"), text);
}

/** Show that something was done. */
export function notify(text) {
  show(text, "good", "check");
}

/** Show that something was done that can still be taken back, with a button for it; gives a function that ends the offer. */
export function offerUndo(text, undo) {
  const button = h("button", { class: "button small", type: "button" }, "Undo");
  const close = show(text, "good", "check", { shown_ms: UNDO_MS, extra: button });
  button.addEventListener("click", () => {
    close();
    undo();
  });
  return close;
}

/** How long an undo is offered. */
export { UNDO_MS };

/** Show that something went wrong, with what to do; it stays until it is closed. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  if (!(error?.name === "ApiError")) console.error(error);
  const unexpected =
    "Unexpected error on this page. Reload it; if it happens again, ask your administrator.";
  show(error?.name === "ApiError" ? error.message : unexpected, "bad", "alert");
}

function show(text, kind, symbol, { shown_ms = SHOWN_MS, extra = null } = {}) {
  const holder = document.getElementById("notices");
  for (const old of holder.children) if (old.dataset.text === text) old.remove();
  const close = h("button", { class: "plain-icon", type: "button", "aria-label": "Close this message" }, icon("close"));
  const notice = h(
    "div",
    { class: `notice notice-${kind}`, role: kind === "bad" ? "alert" : "status", "data-text": text },
    icon(symbol),
    h("p", {}, text),
    extra,
    close,
  );
  const end = () => notice.remove();
  close.addEventListener("click", end);
  holder.append(notice);
  if (kind !== "bad") setTimeout(end, shown_ms);
  return end;
}
