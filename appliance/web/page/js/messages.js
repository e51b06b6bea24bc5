/** Short messages in the corner of the page, and announcements for screen readers. */

import { h, setText } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 6000;
const UNDO_MS = 10_000;

/** Announce a change that is visible on the page to screen readers. */
export function announce(text) {
  setText(document.getElementById("announcer"), text);
}

/** Show that an action succeeded. */
export function notify(text) {
  show(text, "good", "check");
}

/** Show that an action succeeded, with a button that undoes it. Returns a function that closes the message. */
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

/** Show an error until it is closed. */
export function notifyError(error) {
  if (error?.name === "AbortError") return;
  if (!(error?.name === "ApiError")) console.error(error);
  const unexpected =
    "Unexpected error. Reload the page. If it happens again, contact your administrator.";
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
