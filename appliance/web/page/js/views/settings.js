/** The settings of this server, created from their schema. */

import { get, patch } from "../api.js";
import { fill, h, setText } from "../dom.js";
import { sentence } from "../format.js";
import { errorBox, showError } from "../forms.js";
import { icon } from "../icons.js";
import { notify } from "../messages.js";
import { schemaForm } from "../schema-form.js";

export const title = "Settings";

// Display order; settings that are not named here come last.
const GROUPS = [
  [
    "Performance",
    ["device", "backend", "precision", "threads", "worker_memory_gib", "disk_reserve_gib", "engines_gib", "zoo"],
  ],
  ["Uploads", ["upload_limit_gib", "open_uploads", "upload_days", "probe_timeout_s"]],
  [
    "Login and privacy",
    [
      "own_jobs_only",
      "session_idle_hours",
      "session_days",
      "login_attempts",
      "login_attempts_address",
      "login_window_minutes",
    ],
  ],
  ["Network", ["host", "port", "plain_port", "tls", "tls_certificate", "tls_key", "host_names", "announce"]],
  ["E-mail", ["smtp_host", "smtp_port", "smtp_security", "smtp_user", "smtp_password", "smtp_from"]],
  ["Webhooks and log", ["webhook_timeout_s", "webhook_attempts", "log_level"]],
];

/** Show the view. */
export async function show(root, _, signal) {
  const answer = await get("/api/settings", {}, { signal });
  const { values, schema, pending = [], fixed = {}, running = {}, choices = {}, problem = "" } = answer;
  const made = schemaForm(schema, values, { fixed, running, choices, groups: GROUPS });
  const errorPanel = errorBox();
  errorPanel.dataset.always = "";
  const state = h("p", { class: "quiet-text", role: "status" }, "No changes");
  const discard = h("button", { type: "button", class: "button", disabled: true }, "Discard");
  const save = h("button", { type: "submit", class: "button primary" }, "Save");
  const form = h(
    "form",
    { class: "stack wide-form", novalidate: true },
    made.box,
    h("div", { class: "form-end" }, errorPanel, h("div", { class: "form-bar" }, state, discard, save)),
  );
  const mark = () => {
    const changed = isChanged(made);
    discard.disabled = !changed;
    setText(state, changed ? "Unsaved changes" : "No changes");
  };
  form.addEventListener("input", mark);
  form.addEventListener("change", mark);
  discard.addEventListener("click", () => show(root, _, signal).then(() => root.querySelector("h1").focus()));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(errorPanel, null);
    save.disabled = true;
    try {
      const changes = made.changes();
      if (changes === undefined) {
        notify("No changes to save.");
        return;
      }
      await patch("/api/settings", changes);
      notify("Saved. Takes effect after a restart.");
      await show(root, _, signal);
      root.querySelector(".form-bar .primary").focus({ preventScroll: true });
    } catch (error) {
      showError(errorPanel, error);
    } finally {
      save.disabled = false;
    }
  });
  fill(
    root,
    h("h1", { tabindex: "-1" }, "Settings"),
    h("p", { class: "lead" }, "Settings for all users."),
    problem && note("alert", sentence(problem), true),
    pending.length > 0 &&
      note("info", "Some settings were changed and take effect after a restart. Running jobs resume afterwards."),
    form,
  );
}

function isChanged(made) {
  try {
    return made.changes() !== undefined;
  } catch {
    // An invalid number is a change, too.
    return true;
  }
}

function note(symbol, text, bad = false) {
  return h("div", { class: bad ? "job-note bad" : "job-note" }, icon(symbol), h("p", {}, text));
}
