/** Webhooks, and the record of who did what. */

import { get, post, remove } from "../api.js";
import { ask, askForm, showSecret } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { checkbox, field, FormError, input } from "../forms.js";
import { icon } from "../icons.js";
import { complain } from "../notices.js";
import { pager } from "../paging.js";
import { table } from "../table.js";
import { capitalise, describeMoment } from "../words.js";

export const title = "Administration";

const PAGE = 25;
const EVENTS = [
  ["job.done", "A job is done"],
  ["job.failed", "A job has failed"],
  ["job.cancelled", "A job was cancelled"],
];

// What the record calls things, where that alone would not read well.
const DEEDS = {
  job_cancel: "Job cancelled",
  job_pause: "Job paused",
  job_resume: "Job resumed",
  job_retry: "Job tried again",
  login: "Logged in",
  login_failed: "Log-in failed",
  login_locked: "Log-in locked for a while",
  logout: "Logged out",
};

/** Show the view. */
export async function show(root, _, signal) {
  const hooks = h("div", {});
  const audit = h("div", {});
  const add = h("button", { type: "button", class: "button" }, icon("plus"), "New webhook");
  const loadHooks = async () => showHooks(hooks, await get("/api/webhooks", {}, { signal }), loadHooks);
  const pages = pager((offset) => loadAudit(offset).catch(complain));
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
      h("p", { class: "hint" }, "Relume tells another program when a job ends, by a signed message to its address."),
      hooks,
    ),
    h("section", { class: "panel" }, h("h2", {}, "Who did what"), audit, pages.box),
  );
  await Promise.all([loadHooks(), loadAudit(0)]);
}

function showHooks(box, hooks, load) {
  if (hooks.length === 0) {
    fill(box, h("p", { class: "quiet-text" }, "There is none."));
    return;
  }
  fill(
    box,
    table(
      "Webhooks",
      ["Address", "Tells when", "Last time", ""],
      hooks.map((hook) => {
        const drop = h(
          "button",
          { type: "button", class: "plain-icon", "aria-label": `Delete: ${hook.url}`, title: "Delete" },
          icon("trash"),
        );
        drop.addEventListener("click", async () => {
          const sure = await ask({
            title: "Delete this webhook?",
            text: `${hook.url} is told no more.`,
            yes: "Delete",
            danger: true,
          });
          if (!sure) return;
          try {
            await remove(`/api/webhooks/${hook.id}`);
            await load();
          } catch (error) {
            complain(error);
          }
        });
        return [
          h("span", { class: "path" }, hook.url),
          hook.events.map((name) => EVENTS.find(([known]) => known === name)?.[1] ?? name).join(", "),
          hook.last_status ?? "Nothing yet",
          h("div", { class: "row end" }, drop),
        ];
      }),
    ),
  );
}

async function addHook(load) {
  const url = input({ type: "url", inputmode: "url", placeholder: "https://" });
  const boxes = EVENTS.map(([name, word]) => [name, checkbox(word, name !== "job.cancelled")]);
  const made = await askForm({
    title: "New webhook",
    content: [field("Address", url, "Of the program that shall be told."), boxes.map(([, { box }]) => box)],
    yes: "Add",
    send: () => {
      if (!url.value.trim()) throw new FormError("Type the address of the program that shall be told.");
      const events = boxes.filter(([, { control }]) => control.checked).map(([name]) => name);
      if (events.length === 0) throw new FormError("Choose at least one thing to be told of.");
      return post("/api/webhooks", { url: url.value.trim(), events });
    },
  });
  if (!made) return;
  if (made.secret)
    await showSecret({
      title: "The signing key",
      text: "Give it to the program that is told, so that it can check that messages are from Relume. It is shown only this once.",
      secret: made.secret,
    });
  await load().catch(complain);
}

function showAudit(box, entries) {
  fill(
    box,
    table(
      "Who did what",
      ["When", "Who", "What", "From"],
      entries.map((entry) => [
        describeMoment(entry.at),
        entry.who ?? "Nobody",
        h(
          "span",
          {},
          DEEDS[entry.what] ?? capitalise(entry.what.replaceAll("_", " ")),
          entry.detail && h("small", {}, ` ${entry.detail}`),
        ),
        entry.address ?? "",
      ]),
    ),
  );
}
