/** Field for a part of a file, chosen on a track or typed. */

import { h, newId, setText, setVars } from "./dom.js";
import { formatTime, parseTime } from "./format.js";
import { input } from "./forms.js";

const STEPS = 1000;

/**
 * Create the field.
 *
 * Returns `box`; `show(length_s)`, which resets to the whole file of that length, or hides the field (null);
 * `value()`, the options for the API, empty for the whole file; and `set({start_s, end_s})`.
 */
export function trimField(onChange) {
  let length = 0;
  let from = 0;
  let to = 0;
  const ids = [newId("trim"), newId("trim")];
  const range = (label) => h("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": label });
  const [first, last] = [range("Start of the part"), range("End of the part")];
  const [start, end] = ids.map((id) => input({ id, class: "time-field", inputmode: "decimal" }));
  const words = h("p", { class: "hint", "aria-live": "polite" });
  const track = h("div", { class: "trim-track" }, h("div", { class: "trim-chosen" }), first, last);
  const reset = h("button", { type: "button", class: "button small" }, "Whole file");
  const box = h(
    "fieldset",
    { class: "trim", hidden: true },
    h("legend", {}, "Part of the file"),
    track,
    h(
      "div",
      { class: "trim-fields" },
      h("label", { for: ids[0] }, "From"),
      start,
      h("label", { for: ids[1] }, "To"),
      end,
      reset,
      words,
    ),
  );

  // At least half a second, or the whole of a shorter file.
  const least = () => Math.min(0.5, length);
  function set(nextFrom, nextTo, { tell = true } = {}) {
    from = Math.max(0, Math.min(nextFrom, length - least()));
    to = Math.min(length, Math.max(nextTo, from + least()));
    first.value = (from / length) * STEPS;
    last.value = (to / length) * STEPS;
    start.value = formatTime(from);
    end.value = formatTime(to);
    first.setAttribute("aria-valuetext", start.value);
    last.setAttribute("aria-valuetext", end.value);
    setVars(track, { "--from": from / length, "--to": to / length });
    // If both handles meet at the end, only the first one can still be moved.
    track.classList.toggle("late", from > length / 2);
    const whole = isWhole();
    reset.disabled = whole;
    setText(words, whole ? "The whole file will be enhanced." : `${formatTime(to - from)} of ${formatTime(length)}`);
    if (tell) onChange();
  }
  const isWhole = () => from <= 0 && to >= length - 0.05;
  first.addEventListener("input", () => set(Math.min((first.value / STEPS) * length, to - least()), to));
  last.addEventListener("input", () => set(from, (last.value / STEPS) * length));
  start.addEventListener("change", () => set(parseTime(start.value) ?? from, to));
  end.addEventListener("change", () => set(from, parseTime(end.value) ?? to));
  reset.addEventListener("click", () => set(0, length));
  return {
    box,
    show: (length_s) => {
      box.hidden = !length_s;
      if (!length_s || length_s === length) return;
      length = length_s;
      set(0, length, { tell: false });
    },
    set: ({ start_s: at = null, end_s: until = null }) => {
      if (length > 0) set(at ?? 0, until ?? length, { tell: false });
    },
    value: () => {
      if (box.hidden || isWhole()) return {};
      const made = {};
      if (from > 0) made.start_s = Math.round(from * 1000) / 1000;
      if (to < length - 0.05) made.end_s = Math.round(to * 1000) / 1000;
      return made;
    },
    span: () => (box.hidden ? null : [from, to]),
  };
}
