/** The title of the browser's tab: where one is, and before it how far the running job is. */

import { translate } from "./language.js";

let place = "";
let share = "";

/** Say which view or job is shown. */
export function setTitle(text) {
  place = text;
  draw();
}

/** Say how far what runs is, such as "42%"; nothing runs: "". */
export function setShare(text) {
  share = text;
  draw();
}

function draw() {
  document.title = [share, translate(place), "Relume"].filter(Boolean).join(" · ");
}
