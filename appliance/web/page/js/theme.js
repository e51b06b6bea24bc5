/** The theme: light, dark or the system's; the choice is kept in this browser. */

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { announce } from "./messages.js";

const KEY = "relume.theme";
const THEMES = { system: ["systemTheme", "System"], light: ["sun", "Light"], dark: ["moon", "Dark"] };
const ORDER = ["system", "light", "dark"];

/** Return the chosen theme: "system", "light" or "dark". */
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

/** Choose the next theme and return it. */
export function nextTheme() {
  const theme = ORDER[(ORDER.indexOf(chosenTheme()) + 1) % ORDER.length];
  chooseTheme(theme);
  return theme;
}

/** Create the button that switches between the themes. */
export function themeButton() {
  const button = h("button", { type: "button", class: "quiet theme-button" });
  const draw = () => {
    const [symbol, word] = THEMES[chosenTheme()];
    fill(button, icon(symbol), h("span", {}, "Theme", ": ", word));
  };
  button.addEventListener("click", () => {
    announce(`Theme: ${THEMES[nextTheme()][1]}`);
    draw();
  });
  draw();
  return button;
}
