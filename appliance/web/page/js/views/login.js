/** The login page. */

import { h } from "../dom.js";
import { errorBox, field, FormError, input, onSubmit, passwordField } from "../forms.js";
import { icon } from "../icons.js";
import { logIn } from "../session.js";
import { showEntryCard } from "../shell.js";

export const title = "Log in";

/** Show the view. */
export async function show(root, reason = "") {
  const name = input({
    name: "name",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
  });
  const password = input({ name: "password", autocomplete: "current-password", required: true });
  const errorPanel = errorBox();
  const submit = h("button", { type: "submit", class: "button primary large wide" }, "Log in");
  const form = h(
    "form",
    { class: "stack", novalidate: true },
    field("User name", name),
    passwordField("Password", password),
    errorPanel,
    submit,
  );
  onSubmit(form, {
    submit,
    errorPanel,
    act: async () => {
      if (!name.value.trim()) throw new FormError("Enter your user name.", name);
      if (!password.value) throw new FormError("Enter your password.", password);
      await logIn(name.value.trim(), password.value);
      window.dispatchEvent(new Event("relume:session"));
    },
    onError: (error) => {
      if (error.name === "ApiError") password.focus();
    },
  });
  showEntryCard(
    root,
    "Log in",
    "Sharper video and clearer voices, processed on site.",
    reason && h("div", { class: "job-note", role: "status" }, icon("info"), h("p", {}, reason)),
    form,
  );
  name.focus();
}
