/**
 * Entries of open dialogs in the browser's history, so that Back closes the dialog and not the page.
 *
 * The state of an entry counts the dialogs that are open there. Closing a dialog in another way removes its entry. The history
 * changes asynchronously, so code that changes the address has to wait for `forgetDialog`.
 */

const LATEST_MS = 1000;

const open = [];
let moving = null;

/** Add an entry for a dialog that was opened. */
export async function rememberDialog(dialog) {
  open.push(dialog);
  await moving;
  if (open.includes(dialog) && entries() < open.length) history.pushState({ dialogs: open.length }, "");
}

/**
 * Remove the entry of a dialog that was closed, unless Back has already done so.
 *
 * Returns:
 * A promise that is fulfilled when the address can be changed again.
 */
export function forgetDialog(dialog) {
  const index = open.indexOf(dialog);
  if (index >= 0) open.splice(index, 1);
  return settle();
}

async function settle() {
  while (moving) await moving;
  const surplus = entries() - open.length;
  if (surplus <= 0) return;
  moving = new Promise((resolve) => {
    window.addEventListener("popstate", resolve, { once: true });
    setTimeout(resolve, LATEST_MS);
    history.go(-surplus);
  });
  await moving;
  moving = null;
}

function entries() {
  return history.state?.dialogs ?? 0;
}

function closeDialogs(left) {
  for (const dialog of open.splice(left).reverse()) dialog.close();
}

window.addEventListener("popstate", () => {
  if (moving) return;
  closeDialogs(entries());
  // Forward, or Back from another page, to the entry of a dialog that no longer exists.
  settle();
});

// A link in a dialog, or a typed address: no dialog stays open over another page.
window.addEventListener("hashchange", () => {
  if (!moving) closeDialogs(0);
});

// The page was reloaded while a dialog was open.
if (entries() > 0) history.replaceState(null, "");
