/** Light, dark or as the system says; the choice is kept in this browser. */

const KEY = "relume.theme";
const ORDER = ["system", "light", "dark"];

/** Tell which of "system", "light" and "dark" is chosen. */
export function chosenTheme() {
  return document.documentElement.dataset.theme ?? "system";
}

/** Choose "system", "light" or "dark". */
export function chooseTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Without storage the choice lasts until the page is closed.
  }
}

/** Go on to the next of the three and tell which it is. */
export function nextTheme() {
  const theme = ORDER[(ORDER.indexOf(chosenTheme()) + 1) % ORDER.length];
  chooseTheme(theme);
  return theme;
}
