/** Webhooks and the audit log. */

import { ApiError, get, post, remove } from "../api.js";
import { ask, askForm, showSecret } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { capitalise, formatMoment, sentence } from "../format.js";
import { checkbox, field, FormError, input } from "../forms.js";
import { icon } from "../icons.js";
import { notifyError, notify } from "../messages.js";
import { pager, table } from "../table.js";

export const title = "Administration";

const PAGE = 25;
const EVENTS = [
  ["job.done", "A job is done"],
  ["job.failed", "A job has failed"],
  ["job.cancelled", "A job was cancelled"],
];

// Names of audit events whose identifier does not read well.
const EVENT_NAMES = {
  job_cancel: "Job cancelled",
  job_pause: "Job paused",
  job_resume: "Job resumed",
  job_retry: "Job retried",
  login: "Logged in",
  login_failed: "Login failed",
  login_locked: "Account locked",
  sessions_ended: "Logged out elsewhere",
  logout: "Logged out",
  queue_pause: "Queue paused",
  queue_resume: "Queue resumed",
};

/** Show the view. */
export async function show(root, _, signal) {
  const hooks = h("div", {});
  const audit = h("div", {});
  const add = h("button", { type: "button", class: "button" }, icon("plus"), "New webhook");
  const loadHooks = async () => showHooks(hooks, await get("/api/webhooks", {}, { signal }), loadHooks);
  const pages = pager((offset) => loadAudit(offset).catch(notifyError));
  const loadAudit = async (offset) => {
    const { entries, total } = await get("/api/audit", { limit: PAGE, offset }, { signal });
    showAudit(audit, entries);
    pages.update(offset, PAGE, total);
  };
  add.addEventListener("click", () => addHook(loadHooks));
  fill(
    root,
    h("h1", {}, "Administration"),
    h(
      "section",
      { class: "panel" },
      h("div", { class: "head" }, h("h2", {}, "Webhooks"), add),
      h("p", { class: "hint" }, "Relume sends a signed message to a URL when a job ends."),
      hooks,
    ),
    h("section", { class: "panel" }, h("h2", {}, "Audit log"), audit, pages.box),
  );
  await Promise.all([loadHooks(), loadAudit(0)]);
}

function showHooks(box, hooks, load) {
  if (hooks.length === 0) {
    fill(box, h("p", { class: "quiet-text" }, "No webhooks yet."));
    return;
  }
  fill(
    box,
    table(
      "Webhooks",
      ["URL", "Events", "Last delivery", ""],
      hooks.map((hook) => {
        const drop = h(
          "button",
          { type: "button", class: "plain-icon", "aria-label": `Delete: ${hook.url}`, title: "Delete" },
          icon("trash"),
        );
        drop.addEventListener("click", async () => {
          const sure = await ask({
            title: "Delete this webhook?",
            text: "No more messages are sent to this URL.",
            yes: "Delete",
            danger: true,
          });
          if (!sure) return;
          try {
            await remove(`/api/webhooks/${hook.id}`);
            await load();
          } catch (error) {
            notifyError(error);
          }
        });
        const test = h(
          "button",
          { type: "button", class: "button small", "aria-label": `Send a test: ${hook.url}` },
          "Test",
        );
        test.addEventListener("click", () => testHook(hook, test, load));
        return [
          h("span", { class: "path" }, hook.url),
          hook.events.map((name) => EVENTS.find(([known]) => known === name)?.[1] ?? name).join(", "),
          capitalise(hook.last_status ?? "nothing sent yet"),
          h("div", { class: "row end" }, test, drop),
        ];
      }),
    ),
  );
}

async function testHook(hook, button, load) {
  button.setAttribute("aria-busy", "true");
  try {
    const { problem } = await post(`/api/webhooks/${hook.id}/test`);
    if (problem === null) notify("Test message delivered.");
    else notifyError(new ApiError(0, "webhook", sentence(`the test message was not delivered: ${problem}`)));
    await load();
  } catch (error) {
    notifyError(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function addHook(load) {
  const url = input({ name: "url", type: "url", inputmode: "url", placeholder: "https://" });
  const boxes = EVENTS.map(([name, word]) => [name, checkbox(word, name !== "job.cancelled")]);
  const made = await askForm({
    title: "New webhook",
    content: [field("URL to notify", url), boxes.map(([, { box }]) => box)],
    yes: "Create",
    send: () => {
      if (!url.value.trim()) throw new FormError("Enter the URL to notify.", url);
      const events = boxes.filter(([, { control }]) => control.checked).map(([name]) => name);
      if (events.length === 0) throw new FormError("Select at least one event.", boxes[0][1].control);
      return post("/api/webhooks", { url: url.value.trim(), events });
    },
  });
  if (!made) return;
  if (made.secret)
    await showSecret({
      title: "Signing key",
      text: "The receiving program uses it to verify that messages come from Relume. It is shown only once.",
      secret: made.secret,
    });
  await load().catch(notifyError);
}

function showAudit(box, entries) {
  fill(
    box,
    table(
      "Audit log",
      ["Time", "User", "Event", "Address"],
      entries.map((entry) => [
        formatMoment(entry.at),
        entry.who ?? "Unknown",
        h(
          "span",
          {},
          EVENT_NAMES[entry.what] ?? capitalise(entry.what.replaceAll("_", " ")),
          entry.detail && h("small", {}, ` ${entry.detail}`),
        ),
        entry.address ?? "",
      ]),
    ),
  );
}
