// Runs before the first paint, so that a chosen theme does not flash; the switch itself is in theme.js.
(() => {
  try {
    const theme = localStorage.getItem("relume.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden: then the system's choice stands.
  }
})();
