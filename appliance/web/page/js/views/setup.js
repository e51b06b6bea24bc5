/** The first start: the one-time link makes the first account. */

import { post } from "../api.js";
import { h } from "../dom.js";
import { errorBox, field, FormError, input, passwordField, showError } from "../forms.js";
import { showOutside } from "../outside.js";
import { loadSession } from "../session.js";

export const title = "Set up";

const LEAST = 10;

/** Show the view. */
export async function show(root) {
  const token = new URLSearchParams(location.search).get("token");
  if (!token) {
    showOutside(
      root,
      "Almost ready",
      "Relume has no account yet. Open the set-up link that was printed when Relume first started; whoever installed it has it.",
      h(
        "p",
        { class: "hint" },
        "It looks like this address with /setup?token=… at its end. In its log it is the line that begins with “Set up”.",
      ),
    );
    return;
  }
  const name = input({ name: "name", autocomplete: "username", autocapitalize: "none", spellcheck: "false" });
  const password = input({ name: "password", autocomplete: "new-password" });
  const again = input({ name: "again", autocomplete: "new-password" });
  const trouble = errorBox();
  const submit = h("button", { type: "submit", class: "button primary large wide" }, "Make the account");
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    field("Your name", name),
    passwordField(
      "Password",
      password,
      `At least ${LEAST} characters. A few words that belong together only for you are good.`,
    ),
    passwordField("The same password again", again),
    trouble,
    submit,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    showError(trouble, null);
    try {
      if (!name.value.trim()) throw new FormError("Type the name that you want to log in with.");
      if (password.value.length < LEAST)
        throw new FormError(`The password is too short. Take at least ${LEAST} characters.`);
      if (password.value !== again.value) throw new FormError("The two passwords are not the same. Type them again.");
      await post("/api/setup", { token, name: name.value.trim(), password: password.value }, { quiet: true });
      await loadSession();
      window.dispatchEvent(new Event("relume:session"));
    } catch (error) {
      showError(trouble, error);
    } finally {
      submit.disabled = false;
    }
  });
  showOutside(
    root,
    "Welcome",
    "Make the first account. It is the administrator’s: it can add others and change settings.",
    form,
  );
  name.focus();
}
