/** The user's own account: appearance, notifications, password, API tokens, logins. */

import { ApiError, get, patch, post, remove } from "../api.js";
import { ask, askForm, showSecret } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { formatMoment } from "../format.js";
import { checkbox, errorBox, field, FormError, input, passwordField, segments, select, showError } from "../forms.js";
import { icon } from "../icons.js";
import { notifyError, notify } from "../messages.js";
import { canNotify, setNotifications, wantsNotifications } from "../notifications.js";
import { presetFiles } from "../preset-files.js";
import { currentSession, loadSession, mayUpload, ROLES } from "../session.js";
import { table } from "../table.js";
import { chooseTheme, chosenTheme } from "../theme.js";

export const title = "Your account";

const LANGUAGES = [
  ["", "Same as browser"],
  ["en", "English"],
  ["de", "Deutsch"],
];
const EMAIL_EVENTS = [
  ["done", "One of my jobs is done"],
  ["failed", "One of my jobs has failed"],
  ["queue_empty", "All my jobs are done"],
];
const NEEDS_HTTPS = "Browsers allow notifications only over HTTPS.";

/** Show the view. */
export async function show(root, _, signal) {
  const { user } = currentSession();
  const tokens = h("div", {});
  const add = h("button", { type: "button", class: "button" }, icon("plus"), "New token");
  const load = async () => showTokens(tokens, await get("/api/tokens", {}, { signal }), load);
  add.addEventListener("click", () => addToken(load));
  const theme = segments(
    "Theme",
    [
      ["system", "System"],
      ["light", "Light"],
      ["dark", "Dark"],
    ],
    chosenTheme(),
    chooseTheme,
  );
  fill(
    root,
    h("h1", {}, "Your account"),
    h(
      "p",
      { class: "lead" },
      `Logged in as ${user.name}.`,
      " ",
      ROLES[user.role].word,
      ": ",
      ROLES[user.role].sentence,
    ),
    h("section", { class: "panel" }, h("h2", {}, "Appearance"), h("div", { class: "pair" }, theme.box, languageField())),
    h("section", { class: "panel" }, h("h2", {}, "Notifications"), notificationForm()),
    mayUpload() && presetFiles(),
    h("section", { class: "panel" }, h("h2", {}, "Password"), passwordForm()),
    h(
      "section",
      { class: "panel" },
      h("div", { class: "head" }, h("h2", {}, "API tokens"), add),
      h("p", { class: "hint" }, "Programs use a token instead of your password to access Relume."),
      tokens,
    ),
  );
  const others = h("div", {});
  root.append(
    h(
      "section",
      { class: "panel" },
      h("div", { class: "head" }, h("h2", {}, "Active sessions"), endAllButton(() => loadSessions())),
      h("p", { class: "hint" }, "Browsers where you are logged in."),
      others,
    ),
  );
  const loadSessions = async () => showSessions(others, await get("/api/me/sessions", {}, { signal }), loadSessions);
  await Promise.all([load(), loadSessions()]);
}

function languageField() {
  const { user } = currentSession();
  const control = select(LANGUAGES, user.language);
  control.addEventListener("change", async () => {
    try {
      await patch("/api/me", { language: control.value });
      location.reload();
    } catch (error) {
      notifyError(error);
    }
  });
  return field("Language", control);
}

function notificationForm() {
  const { user } = currentSession();
  const inBrowser = checkbox(
    "Show notifications in this browser",
    wantsNotifications(),
    canNotify() ? "When one of your jobs is done or has failed, while this page is open." : NEEDS_HTTPS,
  );
  inBrowser.control.disabled = !canNotify();
  inBrowser.control.addEventListener("change", async () => {
    const on = await setNotifications(inBrowser.control.checked);
    if (inBrowser.control.checked && !on)
      notifyError(new ApiError(0, "", "The browser does not allow notifications for this page. Allow them in its settings."));
    inBrowser.control.checked = on;
  });
  const email = input({ name: "email", type: "email", autocomplete: "email", props: { value: user.email } });
  const events = EMAIL_EVENTS.map(([name, word]) => [name, checkbox(word, user.email_events.includes(name))]);
  const errorPanel = errorBox();
  const save = h("button", { type: "submit", class: "button primary" }, "Save");
  const test = h("button", { type: "button", class: "button" }, "Send test e-mail");
  const form = h(
    "form",
    { class: "stack narrow", novalidate: true },
    inBrowser.box,
    field("E-mail", email, "The administrator sets up the mail server under Settings."),
    events.map(([, { box }]) => box),
    errorPanel,
    h("div", { class: "row" }, save, test),
  );
  test.addEventListener("click", async () => {
    showError(errorPanel, null);
    test.setAttribute("aria-busy", "true");
    try {
      await post("/api/me/test-mail");
      notify("Test e-mail sent.");
    } catch (error) {
      showError(errorPanel, error);
    } finally {
      test.removeAttribute("aria-busy");
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(errorPanel, null);
    try {
      const wanted = events.filter(([, { control }]) => control.checked).map(([name]) => name);
      await patch("/api/me", { email: email.value.trim(), email_events: wanted });
      await loadSession();
      notify("Saved.");
    } catch (error) {
      showError(errorPanel, error);
    }
  });
  return form;
}

function endAllButton(load) {
  const button = h("button", { type: "button", class: "button" }, icon("logout"), "Log out everywhere else");
  button.addEventListener("click", async () => {
    try {
      await remove("/api/me/sessions");
      notify("Logged out everywhere else.");
      await load();
    } catch (error) {
      notifyError(error);
    }
  });
  return button;
}

function showSessions(box, sessions, load) {
  fill(
    box,
    table(
      "Active sessions",
      ["Browser", "Address", "Last used", ""],
      sessions.map((session) => {
        const end = h(
          "button",
          { type: "button", class: "plain-icon", "aria-label": `Log out: ${describeAgent(session.agent)}`, title: "Log out" },
          icon("logout"),
        );
        end.addEventListener("click", async () => {
          try {
            await remove(`/api/me/sessions?session=${encodeURIComponent(session.id)}`);
            await load();
          } catch (error) {
            notifyError(error);
          }
        });
        return [
          h(
            "span",
            {},
            h("strong", {}, describeAgent(session.agent)),
            session.current && [" ", h("span", { class: "tag" }, "this browser")],
          ),
          session.address,
          formatMoment(session.last_seen_at),
          h("div", { class: "row end" }, session.current ? null : end),
        ];
      }),
    ),
  );
}

// User agent strings are long; browser and system are enough to recognise one's own.
function describeAgent(agent) {
  const browser = ["Edg", "Firefox", "Chrome", "Safari"].find((name) => agent.includes(`${name}/`));
  const system = ["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"].find((name) => agent.includes(name));
  return [browser === "Edg" ? "Edge" : browser, system].filter(Boolean).join(", ") || "Unknown browser";
}

function passwordForm() {
  const { user } = currentSession();
  const now = input({ name: "password", autocomplete: "current-password" });
  const next = input({ name: "new_password", autocomplete: "new-password" });
  const errorPanel = errorBox();
  const save = h("button", { type: "submit", class: "button primary" }, "Change password");
  const form = h(
    "form",
    { class: "stack narrow", novalidate: true },
    // Password managers need the user name.
    input({
      class: "unseen",
      autocomplete: "username",
      tabindex: "-1",
      "aria-hidden": "true",
      readonly: true,
      props: { value: user.name },
    }),
    passwordField("Current password", now),
    passwordField("New password", next, "At least 10 characters."),
    errorPanel,
    h("div", {}, save),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(errorPanel, null);
    save.disabled = true;
    try {
      if (!now.value) throw new FormError("Enter your current password.", now);
      if (!next.value) throw new FormError("Enter the new password.", next);
      await patch("/api/me", { password: now.value, new_password: next.value });
      await loadSession();
      form.reset();
      notify("Password changed. Other browsers were logged out.");
    } catch (error) {
      showError(errorPanel, error);
    } finally {
      save.disabled = false;
    }
  });
  return form;
}

function showTokens(box, tokens, load) {
  if (tokens.length === 0) {
    fill(box, h("p", { class: "quiet-text" }, "No tokens yet."));
    return;
  }
  fill(
    box,
    table(
      "Tokens",
      ["Name", "Created", "Last used", ""],
      tokens.map((token) => {
        const drop = h(
          "button",
          { type: "button", class: "plain-icon", "aria-label": `Delete: ${token.name}`, title: "Delete" },
          icon("trash"),
        );
        drop.addEventListener("click", async () => {
          const sure = await ask({
            title: `Delete “${token.name}”?`,
            text: "Programs that use this token can no longer access Relume.",
            yes: "Delete",
            danger: true,
          });
          if (!sure) return;
          try {
            await remove(`/api/tokens/${token.id}`);
            await load();
          } catch (error) {
            notifyError(error);
          }
        });
        return [
          h("strong", {}, token.name),
          formatMoment(token.created_at),
          formatMoment(token.last_used_at),
          h("div", { class: "row end" }, drop),
        ];
      }),
    ),
  );
}

async function addToken(load) {
  const name = input({});
  const made = await askForm({
    title: "New token",
    content: field("Name", name, "For example the name of the program."),
    yes: "Create token",
    send: () => {
      if (!name.value.trim()) throw new FormError("Enter a name.", name);
      return post("/api/tokens", { name: name.value.trim() });
    },
  });
  if (!made) return;
  await showSecret({
    title: "Your new token",
    text: "Copy it now. It is shown only once.",
    secret: made.secret ?? made.token,
  });
  await load().catch(notifyError);
}
