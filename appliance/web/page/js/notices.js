/** Short messages in the corner, and what screen readers are told. */

import { h, setText } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 6000;

/** Tell screen readers something that the eye sees elsewhere. */
export function announce(text) {
  setText(document.getElementById("announcer"), text);
}

/** Show that something was done. */
export function notify(text) {
  show(text, "good", "check");
}

/** Show that something went wrong, with what to do; it stays until it is closed. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  if (!(error?.name === "ApiError")) console.error(error);
  const unexpected =
    "Something unexpected happened on this page. Load it again; if it stays so, tell the administrator.";
  show(error?.name === "ApiError" ? error.message : unexpected, "bad", "alert");
}

function show(text, kind, symbol) {
  const holder = document.getElementById("notices");
  for (const old of holder.children) if (old.dataset.text === text) old.remove();
  const close = h("button", { class: "plain-icon", type: "button", "aria-label": "Close this message" }, icon("close"));
  const notice = h(
    "div",
    { class: `notice notice-${kind}`, role: kind === "bad" ? "alert" : "status", "data-text": text },
    icon(symbol),
    h("p", {}, text),
    close,
  );
  close.addEventListener("click", () => notice.remove());
  holder.append(notice);
  if (kind !== "bad") setTimeout(() => notice.remove(), SHOWN_MS);
}
