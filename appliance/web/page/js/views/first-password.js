/** The first login with an initial password: the user chooses a new one. */

import { patch } from "../api.js";
import { h } from "../dom.js";
import { errorBox, FormError, input, onSubmit, passwordField } from "../forms.js";
import { currentSession, loadSession } from "../session.js";
import { showEntryCard } from "../shell.js";

export const title = "Change your password";

/** Show the view. */
export async function show(root) {
  const now = input({ name: "password", autocomplete: "current-password" });
  const next = input({ name: "new_password", autocomplete: "new-password" });
  const again = input({ name: "again", autocomplete: "new-password" });
  const errorPanel = errorBox();
  const submit = h("button", { type: "submit", class: "button primary large wide" }, "Change password");
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    passwordField("Current password", now),
    passwordField("New password", next, "Use at least 10 characters, for example three or four unrelated words."),
    passwordField("Confirm password", again),
    errorPanel,
    submit,
  );
  onSubmit(form, {
    submit,
    errorPanel,
    act: async () => {
      if (!now.value) throw new FormError("Enter the password that you were given.", now);
      if (next.value !== again.value) throw new FormError("The passwords do not match.", again);
      await patch("/api/me", { password: now.value, new_password: next.value });
      await loadSession();
      window.dispatchEvent(new Event("relume:session"));
    },
  });
  showEntryCard(
    root,
    "Change your password",
    `Welcome, ${currentSession().user.name}. Choose a password that only you know.`,
    form,
  );
  now.focus();
}
