/** Settings of this Relume, drawn from what the server says about them. */

import { get, patch } from "../api.js";
import { fill, h } from "../dom.js";
import { errorBox, showError } from "../forms.js";
import { icon } from "../icons.js";
import { notify } from "../notices.js";
import { schemaForm } from "../schema-form.js";

export const title = "Settings";

// Only an order for the eye: a setting that is not named here comes after these.
const GROUPS = [
  ["How this machine works", ["device", "threads", "worker_memory_gib", "disk_reserve_gib"]],
  ["Uploads", ["upload_limit_gib", "open_uploads", "upload_days", "probe_timeout_s"]],
  [
    "Logging in",
    ["session_idle_hours", "session_days", "login_attempts", "login_attempts_address", "login_window_minutes"],
  ],
  ["Network", ["host", "port", "plain_port", "tls", "tls_certificate", "tls_key", "host_names", "announce"]],
  ["Messages", ["webhook_timeout_s", "webhook_attempts", "log_level"]],
];

/** Show the view. */
export async function show(root, _, signal) {
  const { values, schema, pending = [], fixed = [] } = await get("/api/settings", {}, { signal });
  const made = schemaForm(schema, values, { fixed, groups: GROUPS });
  const trouble = errorBox();
  const save = h("button", { type: "submit", class: "button primary large" }, "Save");
  const form = h(
    "form",
    { class: "stack wide-form", novalidate: true },
    made.box,
    trouble,
    h("div", { class: "form-end" }, save),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(trouble, null);
    save.disabled = true;
    try {
      const changes = made.changes();
      if (changes === undefined) {
        notify("Nothing was changed.");
        return;
      }
      await patch("/api/settings", changes);
      notify("Saved. It counts from the next start of Relume.");
      await show(root, _, signal);
    } catch (error) {
      showError(trouble, error);
    } finally {
      save.disabled = false;
    }
  });
  fill(
    root,
    h("h1", {}, "Settings"),
    h("p", { class: "lead" }, "What counts for everyone who uses this Relume."),
    pending.length > 0 && waiting(),
    form,
  );
}

function waiting() {
  return h(
    "div",
    { class: "job-note" },
    icon("info"),
    h(
      "p",
      {},
      "Some settings were changed and count from the next start of Relume. Jobs go on after it where they were.",
    ),
  );
}
