/** The user's own account: password, API tokens, colours. */

import { get, patch, post, remove } from "../api.js";
import { ask, askForm, showSecret } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { errorBox, field, FormError, input, passwordField, segments, showError } from "../forms.js";
import { icon } from "../icons.js";
import { complain, notify } from "../notices.js";
import { currentSession, loadSession, ROLES } from "../session.js";
import { table } from "../table.js";
import { chooseTheme, chosenTheme } from "../theme.js";
import { describeMoment } from "../words.js";

export const title = "Your account";

/** Show the view. */
export async function show(root, _, signal) {
  const { user } = currentSession();
  const tokens = h("div", {});
  const add = h("button", { type: "button", class: "button" }, icon("plus"), "New token");
  const load = async () => showTokens(tokens, await get("/api/tokens", {}, { signal }), load);
  add.addEventListener("click", () => addToken(load));
  const theme = segments(
    "Colours",
    [
      ["system", "As the system"],
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
      `You are logged in as ${user.name}. ${ROLES[user.role].word}: ${ROLES[user.role].sentence.toLowerCase()}`,
    ),
    h("section", { class: "panel" }, h("h2", {}, "Appearance"), theme.box),
    h("section", { class: "panel" }, h("h2", {}, "Password"), passwordForm()),
    h(
      "section",
      { class: "panel" },
      h("div", { class: "head" }, h("h2", {}, "Tokens for programs"), add),
      h("p", { class: "hint" }, "A program that sends files to Relume logs in with a token instead of your password."),
      tokens,
    ),
  );
  await load();
}

function passwordForm() {
  const { user } = currentSession();
  const now = input({ name: "password", autocomplete: "current-password" });
  const next = input({ name: "new_password", autocomplete: "new-password" });
  const trouble = errorBox();
  const save = h("button", { type: "submit", class: "button primary" }, "Change password");
  const form = h(
    "form",
    { class: "stack narrow", novalidate: true },
    // Password managers want to know whose password it is.
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
    trouble,
    h("div", {}, save),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(trouble, null);
    save.disabled = true;
    try {
      if (!now.value) throw new FormError("Type your current password.", now);
      if (!next.value) throw new FormError("Type the new password.", next);
      await patch("/api/me", { password: now.value, new_password: next.value });
      await loadSession();
      form.reset();
      notify("Password changed. Other browsers were logged out.");
    } catch (error) {
      showError(trouble, error);
    } finally {
      save.disabled = false;
    }
  });
  return form;
}

function showTokens(box, tokens, load) {
  if (tokens.length === 0) {
    fill(box, h("p", { class: "quiet-text" }, "You have none."));
    return;
  }
  fill(
    box,
    table(
      "Tokens",
      ["Name", "Made", "Last used", ""],
      tokens.map((token) => {
        const drop = h(
          "button",
          { type: "button", class: "plain-icon", "aria-label": `Delete: ${token.name}`, title: "Delete" },
          icon("trash"),
        );
        drop.addEventListener("click", async () => {
          const sure = await ask({
            title: `Delete “${token.name}”?`,
            text: "Programs that use this token can log in no more.",
            yes: "Delete",
            danger: true,
          });
          if (!sure) return;
          try {
            await remove(`/api/tokens/${token.id}`);
            await load();
          } catch (error) {
            complain(error);
          }
        });
        return [
          h("strong", {}, token.name),
          describeMoment(token.created_at),
          describeMoment(token.last_used_at),
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
    content: field("What is it for?", name, "For instance the name of the program."),
    yes: "Make the token",
    send: () => {
      if (!name.value.trim()) throw new FormError("Type what the token is for.");
      return post("/api/tokens", { name: name.value.trim() });
    },
  });
  if (!made) return;
  await showSecret({
    title: "Your new token",
    text: "Copy it now: it is shown only this once.",
    secret: made.secret ?? made.token,
  });
  await load().catch(complain);
}
