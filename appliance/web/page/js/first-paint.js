// Runs before the first paint so that a chosen theme does not flash; theme.js has the switch.
(() => {
  try {
    const theme = localStorage.getItem("relume.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be blocked: the system's theme applies.
  }
})();
