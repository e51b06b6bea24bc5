/** First start: the one-time link creates the administrator account. */

import { get, post } from "../api.js";
import { h } from "../dom.js";
import { errorBox, field, FormError, input, onSubmit, passwordField } from "../forms.js";
import { loadSession } from "../session.js";
import { showEntryCard } from "../shell.js";

export const title = "Set up";

const MIN_LENGTH = 10;

/** Show the view. */
export async function show(root, _, signal) {
  const token = new URLSearchParams(location.search).get("token");
  if (!token) {
    showNoLink(root, "Almost ready", "Relume has no account yet. Open the setup link that the server printed when it started.");
    return;
  }
  try {
    // Check the link before the user types: a used or replaced link would otherwise fail at the end.
    await get("/api/setup", { token }, { quiet: true, signal });
  } catch (error) {
    if (error.code !== "setup_link") throw error;
    showNoLink(root, "This link has expired", error.message);
    return;
  }
  const name = input({ name: "name", autocomplete: "username", autocapitalize: "none", spellcheck: "false" });
  const password = input({ name: "password", autocomplete: "new-password" });
  const again = input({ name: "again", autocomplete: "new-password" });
  const errorPanel = errorBox();
  const submit = h("button", { type: "submit", class: "button primary large wide" }, "Create account");
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    field("User name", name),
    passwordField(
      "Password",
      password,
      `Use at least ${MIN_LENGTH} characters, for example three or four unrelated words.`,
    ),
    passwordField("Confirm password", again),
    errorPanel,
    submit,
  );
  onSubmit(form, {
    submit,
    errorPanel,
    act: async () => {
      if (!name.value.trim()) throw new FormError("Enter a user name.", name);
      if (password.value.length < MIN_LENGTH)
        throw new FormError(`Use at least ${MIN_LENGTH} characters.`, password);
      if (password.value !== again.value) throw new FormError("The passwords do not match.", again);
      await post("/api/setup", { token, name: name.value.trim(), password: password.value }, { quiet: true });
      await loadSession();
      window.dispatchEvent(new Event("relume:session"));
    },
  });
  showEntryCard(
    root,
    "Welcome",
    "Create the administrator account. You can add other users and change settings later.",
    form,
  );
  name.focus();
}

function showNoLink(root, heading, text) {
  showEntryCard(
    root,
    heading,
    text,
    h("p", { class: "hint" }, "To see the latest link again, run one of these commands on the server:"),
    h("pre", { class: "commands" }, "journalctl -u relume | grep setup\ndocker logs relume | grep setup"),
    h("p", { class: "hint" }, "The link ends with /setup?token=… and works only once."),
  );
}
