/** Line icons on a 24 × 24 grid with one stroke width. */

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  alert: ["M12 4 2.8 19.5h18.4Z", "M12 10v4", "M12 16.8v.2"],
  arrowDown: ["M12 5v14", "m6 13 6 6 6-6"],
  arrowLeft: ["M19 12H5", "m11 6-6 6 6 6"],
  arrowUp: ["M12 19V5", "m6 11 6-6 6 6"],
  bell: ["M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15Z", "M10 20.5h4"],
  check: ["m5 12.5 4.5 4.5L19 7.5"],
  clock: ["M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z", "M12 7.5V12l3 2"],
  close: ["m6 6 12 12", "M18 6 6 18"],
  compare: ["M12 3v18", "M9 6H4.5v12H9", "M15 6h4.5v12H15"],
  disk: [
    "M4 6.5C4 5 7.6 4 12 4s8 1 8 2.5-3.6 2.5-8 2.5-8-1-8-2.5Z",
    "M4 6.5v11C4 19 7.6 20 12 20s8-1 8-2.5v-11",
    "M4 12c0 1.5 3.6 2.5 8 2.5s8-1 8-2.5",
  ],
  download: ["M12 4v11", "m7.5 11 4.5 4.5L16.5 11", "M4.5 19.5h15"],
  eye: [
    "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Z",
    "M12 9.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5Z",
  ],
  file: ["M6 3.5h8l4.5 4.5v12.5H6Z", "M13.5 3.5V8.5h5"],
  film: ["M4 5h16v14H4Z", "M8 5v14", "M16 5v14", "M4 9.5h4", "M4 14.5h4", "M16 9.5h4", "M16 14.5h4"],
  folder: ["M3.5 6h6l2 2.5h9v10.5h-17Z"],
  full: ["M4 9V4h5", "M15 4h5v5", "M20 15v5h-5", "M9 20H4v-5"],
  grid: ["M4 4h6.5v6.5H4Z", "M13.5 4H20v6.5h-6.5Z", "M4 13.5h6.5V20H4Z", "M13.5 13.5H20V20h-6.5Z"],
  grip: ["M9 6v.1", "M15 6v.1", "M9 12v.1", "M15 12v.1", "M9 18v.1", "M15 18v.1"],
  help: ["M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z", "M9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.4-1 .9-1 1.7", "M12 16.3v.1"],
  info: ["M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z", "M12 11v5", "M12 8v.1"],
  key: ["M8 11.5a4 4 0 1 1 0 8 4 4 0 0 1 0-8Z", "m11 13 8.5-8.5", "m16 8 2.5 2.5"],
  lock: ["M6 11h12v9H6Z", "M8.5 11V8a3.5 3.5 0 0 1 7 0v3"],
  logout: ["M14 4.5H5v15h9", "M10 12h10", "m16.5 8.5 3.5 3.5-3.5 3.5"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  moon: ["M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z"],
  more: ["M5 12v.1", "M12 12v.1", "M19 12v.1"],
  network: ["M12 18.5v.1", "M8.5 15a5 5 0 0 1 7 0", "M5.5 11.5a9.5 9.5 0 0 1 13 0", "M2.5 8a14 14 0 0 1 19 0"],
  pause: ["M8.5 5.5v13", "M15.5 5.5v13"],
  play: ["M7.5 4.5 19 12 7.5 19.5Z"],
  plus: ["M12 5v14", "M5 12h14"],
  queue: ["M4 6h11", "M4 12h11", "M4 18h7", "m17 12 4 3-4 3Z"],
  retry: ["M19.5 12a7.5 7.5 0 1 1-2.2-5.3", "M19.5 3.5V8H15"],
  search: ["M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13Z", "m15.5 15.5 5 5"],
  settings: [
    "M4 7h9",
    "M17 7h3",
    "M4 17h3",
    "M11 17h9",
    "M15 4.8a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.4Z",
    "M9 14.8a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.4Z",
  ],
  shield: ["M12 3.5 5 6v5.5c0 4.5 3 7.5 7 9 4-1.5 7-4.5 7-9V6Z", "m9 12 2.2 2.2L15.2 10"],
  size: ["M4 13v7h7", "M20 11V4h-7", "M4 20 20 4"],
  sound: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5Z", "M15.5 9a4 4 0 0 1 0 6", "M18 6.5a8 8 0 0 1 0 11"],
  soundOff: ["M4 9.5v5h3.5L12 18.5v-13L7.5 9.5Z", "m16 9.5 5 5", "m21 9.5-5 5"],
  spark: ["M12 3.5c.8 4.7 3 7 8 8.5-5 1.5-7.2 3.8-8 8.5-.8-4.7-3-7-8-8.5 5-1.5 7.2-3.8 8-8.5Z"],
  stepBack: ["M17 5.5 8.5 12l8.5 6.5Z", "M6 5.5v13"],
  stepOn: ["m7 5.5 8.5 6.5L7 18.5Z", "M18 5.5v13"],
  sun: [
    "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8Z",
    "M12 2.5v2",
    "M12 19.5v2",
    "M2.5 12h2",
    "M19.5 12h2",
    "m5.3 5.3 1.4 1.4",
    "m17.3 17.3 1.4 1.4",
    "m18.7 5.3-1.4 1.4",
    "m6.7 17.3-1.4 1.4",
  ],
  system: ["M4 4.5h16v11H4Z", "M9 20h6", "M12 15.5V20", "m7.5 11 2.5-3 2 2.5 1.5-2 3 2.5"],
  systemTheme: ["M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16Z", "M12 4v16", "M15 5v14", "M17.5 7v10"],
  thermometer: ["M10 13.5V5.5a2 2 0 1 1 4 0v8a4 4 0 1 1-4 0Z"],
  trash: ["M5 7h14", "M9.5 7V4.5h5V7", "M7 7l.8 12.5h8.4L17 7"],
  upload: ["M12 16V5", "m7.5 9.5 4.5-4.5 4.5 4.5", "M4.5 19.5h15"],
  user: ["M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8Z", "M4.5 20c.7-4 3.6-6 7.5-6s6.8 2 7.5 6"],
  users: [
    "M9 5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7Z",
    "M2.5 19.5c.6-3.5 3-5.3 6.5-5.3s5.9 1.8 6.5 5.3",
    "M15.5 5.2a3.5 3.5 0 0 1 0 6.6",
    "M17.5 14.7c2.3.6 3.6 2.2 4 4.8",
  ],
};

/** Create an icon. It is hidden from screen readers, so text beside it or an aria-label has to say the same. */
export function icon(name, className = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon ${className}`.trim());
  svg.setAttribute("aria-hidden", "true");
  for (const d of PATHS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** Create the logo: a disc with a dim left and a bright right half. */
export function mark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "3 2 26 28");
  svg.setAttribute("class", "mark");
  svg.setAttribute("aria-hidden", "true");
  for (const [className, d] of [
    ["mark-dim", "M16 5a11 11 0 0 0 0 22Z"],
    ["mark-lit", "M16 5a11 11 0 0 1 0 22Z"],
    ["mark-line", "M16 2.5v27"],
  ]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", className);
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
