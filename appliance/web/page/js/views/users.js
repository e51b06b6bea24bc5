/** The users of this server and their roles. */

import { get, patch, post, remove } from "../api.js";
import { ask, askForm } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { formatMoment } from "../format.js";
import { checkbox, field, FormError, input, passwordField, select } from "../forms.js";
import { icon } from "../icons.js";
import { notifyError, notify } from "../messages.js";
import { currentSession, ROLES } from "../session.js";
import { table } from "../table.js";

export const title = "Users";

/** Show the view. */
export async function show(root, _, signal) {
  const add = h("button", { type: "button", class: "button primary" }, icon("plus"), "Add user");
  const place = h("div", {});
  const load = async () => {
    const users = await get("/api/users", {}, { signal });
    fill(
      place,
      table(
        "Users",
        ["Name", "Role", "Last login", ""],
        users.map((user) => row(user, load)),
      ),
    );
  };
  add.addEventListener("click", () => addUser(load));
  fill(
    root,
    h("div", { class: "head" }, h("h1", {}, "Users"), add),
    place,
    h(
      "dl",
      { class: "roles" },
      Object.values(ROLES).map(({ word, sentence }) => h("div", {}, h("dt", {}, word), h("dd", {}, sentence))),
    ),
  );
  await load();
}

function row(user, load) {
  const own = user.id === currentSession().user.id;
  // One's own role cannot be changed here, and the own password only by whoever knows the current one.
  const edit = own
    ? h("a", { class: "plain-icon", href: "#/account", "aria-label": "Your account", title: "Your account" }, icon("settings"))
    : h(
        "button",
        { type: "button", class: "plain-icon", "aria-label": `Edit: ${user.name}`, title: "Edit" },
        icon("settings"),
      );
  const drop = h(
    "button",
    { type: "button", class: "plain-icon", "aria-label": `Delete: ${user.name}`, title: "Delete", disabled: own },
    icon("trash"),
  );
  if (!own) edit.addEventListener("click", () => editUser(user, load));
  drop.addEventListener("click", async () => {
    const sure = await ask({
      title: `Delete ${user.name}?`,
      text: "This user can no longer log in. Their jobs are kept.",
      yes: "Delete",
      danger: true,
    });
    if (!sure) return;
    try {
      await remove(`/api/users/${user.id}`);
      notify(`${user.name} was deleted.`);
      await load();
    } catch (error) {
      notifyError(error);
    }
  });
  return [
    h("span", {}, h("strong", { translate: "no" }, user.name), own && [" ", h("span", { class: "tag" }, "you")]),
    h(
      "span",
      {},
      ROLES[user.role].word,
      user.enabled === false && [" ", h("span", { class: "tag tag-bad" }, "disabled")],
      user.must_change && [" ", h("span", { class: "tag" }, "initial password")],
    ),
    formatMoment(user.last_seen_at),
    h("div", { class: "row end" }, edit, drop),
  ];
}

function roleSelect(value) {
  return select(
    Object.entries(ROLES).map(([role, { word }]) => [role, word]),
    value,
    { name: "role" },
  );
}

async function addUser(load) {
  const name = input({ name: "name", autocapitalize: "none", spellcheck: "false" });
  const password = input({ name: "password", autocomplete: "new-password" });
  const role = roleSelect("operator");
  const change = checkbox("Require a new password at first login", true);
  const made = await askForm({
    title: "Add user",
    content: [
      field("Name", name),
      field("Role", role),
      passwordField("Initial password", password, "At least 10 characters."),
      change.box,
    ],
    yes: "Add",
    send: () => {
      if (!name.value.trim()) throw new FormError("Enter a name.", name);
      if (!password.value) throw new FormError("Enter an initial password.", password);
      return post("/api/users", {
        name: name.value.trim(),
        role: role.value,
        password: password.value,
        must_change: change.control.checked,
      });
    },
  });
  if (!made) return;
  notify(`${made.name} can log in now.`);
  await load().catch(notifyError);
}

async function editUser(user, load) {
  const role = roleSelect(user.role);
  const enabled = checkbox("Login enabled", user.enabled !== false);
  const password = input({ name: "password", autocomplete: "new-password" });
  const made = await askForm({
    title: `Edit ${user.name}`,
    content: [
      field("Role", role),
      enabled.box,
      passwordField("New password", password, "Leave empty to keep the current one."),
    ],
    yes: "Save",
    send: () =>
      patch(`/api/users/${user.id}`, {
        role: role.value,
        enabled: enabled.control.checked,
        ...(password.value ? { password: password.value, must_change: true } : {}),
      }),
  });
  if (!made) return;
  notify("Saved.");
  await load().catch(notifyError);
}
