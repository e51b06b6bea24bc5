/** The before/after comparison: synchronised playback, the stage, audio of either side, and keyboard shortcuts. */

import { get } from "./api.js";
import { fill, h, setText, setVars } from "./dom.js";
import { formatPosition } from "./format.js";
import { segments } from "./forms.js";
import { icon } from "./icons.js";
import { announce } from "./messages.js";
import { SyncPlayer } from "./player.js";
import { buildStage, VIEWS, ZOOM_KEY_STEP } from "./stage.js";

const SPEEDS = [
  ["1", "Normal"],
  ["0.5", "Half"],
  ["0.25", "Quarter"],
];
const ZOOMS = [
  ["fit", "Fit"],
  ["1", "100%"],
  ["2", "200%"],
];

// Length of the comparison videos that the server keeps.
const COMPARED_S = 120;

/** Show the comparison of a finished job in `root` until the signal is aborted; nothing if the job has no comparison. */
export function showComparison(root, job, signal, { frameRate = 25, size = null } = {}) {
  const has = job.has ?? {};
  const url = (name) => `/api/jobs/${job.id}/${name}`;
  const media = (tag, name, attributes = {}) =>
    h(tag, { src: url(name), playsinline: true, ...attributes, props: { muted: true } });
  const after = has.after
    ? media("video", "after", { class: "compare-after", "aria-label": "After", tabindex: "-1" })
    : null;
  const before =
    has.before && has.after
      ? media("video", "before", { class: "compare-before", "aria-label": "Before", tabindex: "-1" })
      : null;
  const soundAfter = has.sound_after ? media("audio", "sound-after", { hidden: true }) : null;
  const soundBefore = has.sound_before ? media("audio", "sound-before", { hidden: true }) : null;
  const elements = [after, before, soundAfter, soundBefore].filter(Boolean);
  if (elements.length === 0) return;

  const player = new SyncPlayer(elements, { frameRate });
  const playError = h(
    "p",
    { class: "compare-error", hidden: true },
    "This browser cannot play the comparison. Download the result and open it in a player.",
  );
  player.addEventListener("error", () => {
    playError.hidden = false;
  });
  const part = limitsHint(player, after ?? {}, size);
  signal.addEventListener("abort", () => player.close());

  const box = h(
    "section",
    { class: "compare", "aria-label": "Before and after" },
    !after && h("p", { class: "lead" }, "Listen to the audio before and after."),
  );
  const choices = h("div", { class: "compare-choices" });
  let zoom = null;
  const percent = h("output", { class: "zoom-percent" });
  const stage = after
    ? buildStage(before, after, {
        onZoom: (level, value) => {
          zoom?.setValue(level ?? "");
          setText(percent, `${value}%`);
        },
      })
    : null;
  const sound = soundSwitch(soundBefore, soundAfter);
  const full = stage && document.fullscreenEnabled ? fullScreenButton(box, stage) : null;
  const holder = before || (soundBefore && soundAfter) ? holdButton(stage, sound) : null;
  let view = null;
  if (stage && before) {
    view = segments("View", VIEWS, "split", (value) => stage.show(value));
    choices.append(view.box);
  }
  if (stage) {
    zoom = segments("Zoom", ZOOMS, "fit", (value) => stage.zoomTo(value));
    zoom.box.append(percent);
    choices.append(zoom.box);
  }
  if (sound) choices.append(sound.box);
  if (after) choices.append(segments("Speed", SPEEDS, "1", (value) => player.setRate(Number(value))).box);
  const controls = transport(player, box, { steps: Boolean(after), extra: [holder?.box, full] });
  box.append(
    ...[stage?.box, controls, choices, part, playError, soundBefore, soundAfter].filter(Boolean),
    keyHint({ sound, stage, hold: holder !== null }),
  );
  listenKeys(box, { player, stage, view, sound, full, hold: holder?.hold ?? null }, signal);
  fill(root, box);
}

/** Return the frame rate of a job, and the size of its result if it has video, from its report. */
export async function loadFacts(job, signal) {
  const report = job.has?.report ? await get(`/api/jobs/${job.id}/report`, {}, { signal }).catch(() => null) : null;
  const [above, below = 1] = String(report?.picture?.source?.frame_rate ?? "25")
    .split("/")
    .map(Number);
  const { width, height } = report?.picture?.result ?? {};
  return { frameRate: above > 0 && below > 0 ? above / below : 25, size: width ? [width, height] : null };
}

// The comparison videos play smoothly in every browser, so a long or large result is shown cut or scaled down.
function limitsHint(player, video, size) {
  const hint = h("p", { class: "hint", hidden: true });
  player.addEventListener("ready", () => {
    const parts = [
      player.length >= COMPARED_S - 0.5 && "The comparison shows the first 2 minutes.",
      size &&
        Math.max(...size) > Math.max(video.videoWidth, video.videoHeight) &&
        `Shown at ${video.videoWidth} × ${video.videoHeight}; the result is ${size[0]} × ${size[1]}.`,
    ].filter(Boolean);
    hint.hidden = parts.length === 0;
    setText(hint, parts.join(" "));
  });
  return hint;
}

function fullScreenButton(box, stage) {
  const full = h(
    "button",
    { type: "button", class: "plain-icon full-button", "aria-label": "Full screen", title: "Full screen (F)" },
    icon("full"),
  );
  full.addEventListener("click", () =>
    document.fullscreenElement ? document.exitFullscreen() : box.requestFullscreen(),
  );
  box.addEventListener("fullscreenchange", () => {
    const word = document.fullscreenElement === box ? "Exit full screen" : "Full screen";
    full.setAttribute("aria-label", word);
    stage.refit();
  });
  return full;
}

// The original is shown and heard while the button is held.
function holdButton(stage, sound) {
  const button = h("button", { type: "button", class: "button hold-button" }, icon("eye"), "Hold for original");
  let on = false;
  const hold = (now) => {
    if (on === now) return;
    on = now;
    button.classList.toggle("held", on);
    stage?.hold(on);
    sound?.hold(on);
    if (on) announce("Original");
  };
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    hold(true);
  });
  for (const name of ["pointerup", "pointercancel", "blur"]) button.addEventListener(name, () => hold(false));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") hold(true);
  });
  button.addEventListener("keyup", () => hold(false));
  return { box: button, hold };
}

function transport(player, box, { steps, extra }) {
  const play = h("button", { type: "button", class: "round primary", "aria-label": "Play" }, icon("play"));
  const step = (frames, word, symbol) => {
    const button = h("button", { type: "button", class: "plain-icon", "aria-label": word, title: word }, icon(symbol));
    button.addEventListener("click", () => player.step(frames));
    return button;
  };
  const seek = h("input", {
    type: "range",
    class: "seek",
    min: 0,
    max: 1000,
    step: 1,
    "aria-label": "Position",
    props: { value: 0 },
  });
  const time = h("span", { class: "time" }, "0:00.0 / 0:00.0");
  play.addEventListener("click", () => player.toggle());
  seek.addEventListener("input", () => player.seek((seek.value / 1000) * player.length));
  let playing = null;
  player.addEventListener("time", () => {
    const share = player.length > 0 ? player.time / player.length : 0;
    if (document.activeElement !== seek || player.isPlaying) seek.value = Math.round(share * 1000);
    setVars(seek, { "--share": share });
    setText(time, `${formatPosition(player.time)} / ${formatPosition(player.length)}`);
    seek.setAttribute("aria-valuetext", time.textContent);
    if (playing !== player.isPlaying) {
      playing = player.isPlaying;
      play.setAttribute("aria-label", playing ? "Pause" : "Play");
      fill(play, icon(playing ? "pause" : "play"));
    }
    box.dataset.ready = String(player.isReady);
  });
  return h(
    "div",
    { class: "transport" },
    play,
    steps && [step(-1, "Previous frame", "stepBack"), step(1, "Next frame", "stepOn")],
    seek,
    time,
    extra,
  );
}

function soundSwitch(before, after) {
  if (!before && !after) return null;
  const choices = [["off", "Off"], before && ["before", "Before"], after && ["after", "After"]].filter(Boolean);
  const start = after ? "after" : "before";
  let last = start;
  const apply = (value) => {
    if (before) before.muted = value !== "before";
    if (after) after.muted = value !== "after";
  };
  const made = segments("Audio", choices, start, apply);
  apply(start);
  const choose = (value) => {
    made.setValue(value);
    apply(value);
    announce(`Audio: ${value}`);
  };
  return {
    box: made.box,
    swap: () => choose(made.value() === "after" && before ? "before" : "after"),
    mute: () => {
      const now = made.value();
      if (now !== "off") last = now;
      choose(now === "off" ? last : "off");
    },
    hold: (on) => apply(on && before && made.value() !== "off" ? "before" : made.value()),
  };
}

// Shortcuts work on the whole page while a comparison is shown, except where they have a meaning of their own: in fields, lists
// and other dialogs, Space on buttons, arrows on sliders and radio buttons.
function listenKeys(box, { player, stage, view, sound, full, hold }, signal) {
  const chooseView = (index) => {
    const value = VIEWS[index][0];
    view.setValue(value);
    stage.show(value);
    announce(VIEWS[index][1]);
  };
  const act = (event, target) => {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isSlider = target.matches("input[type=range]");
    const hasArrows = isSlider || target.matches("input[type=radio]");
    const arrows = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (key === " ") {
      if (target.closest("button, a, summary, input[type=radio], input[type=checkbox]")) return false;
      player.toggle();
    } else if (key in arrows && event.shiftKey && stage && !hasArrows) stage.pan(...arrows[key]);
    else if ((key === "ArrowLeft" || key === "ArrowRight") && stage && !hasArrows && !event.shiftKey) {
      player.step(key === "ArrowLeft" ? -1 : 1);
    } else if ((key === "," || key === ".") && stage) player.step(key === "," ? -1 : 1);
    else if ((key === "a" || key === "b") && hold) hold(true);
    else if (view && key >= "1" && key <= String(VIEWS.length)) chooseView(Number(key) - 1);
    else if ((key === "+" || key === "=") && stage) stage.zoomBy(ZOOM_KEY_STEP);
    else if (key === "-" && stage) stage.zoomBy(1 / ZOOM_KEY_STEP);
    else if (key === "0" && stage) stage.zoomTo("fit");
    else if (key === "f" && full) full.click();
    else if (key === "m" && sound) sound.mute();
    else if (key === "s" && sound) sound.swap();
    else return false;
    return true;
  };
  document.addEventListener(
    "keydown",
    (event) => {
      const target = event.target instanceof Element ? event.target : document.body;
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !box.isConnected) return;
      if (target.matches("select, textarea, input:not([type=range], [type=radio], [type=checkbox])")) return;
      const open = [...document.querySelectorAll("dialog[open]")].at(-1);
      if (open && !open.contains(box)) return;
      if (act(event, target)) event.preventDefault();
    },
    { signal },
  );
  const release = () => hold?.(false);
  document.addEventListener("keyup", (event) => ["a", "b"].includes(event.key.toLowerCase()) && release(), { signal });
  window.addEventListener("blur", release, { signal });
}

function keyHint({ sound, stage, hold }) {
  const entries = [
    [["Space"], "play"],
    stage && [["←", "→"], "frame by frame"],
    hold && [["B"], "hold for original"],
    stage && [["1", "–", String(VIEWS.length)], "view"],
    stage && [["+", "−", "0"], "zoom (also Ctrl + wheel, double-click)"],
    stage && document.fullscreenEnabled && [["F"], "full screen"],
    sound && [["M"], "mute"],
    sound && [["S"], "switch audio"],
  ].filter(Boolean);
  return h(
    "p",
    { class: "hint keys" },
    h("span", {}, "Shortcuts:"),
    entries.map(([keys, word]) =>
      h(
        "span",
        {},
        keys.map((key) => [key === "–" ? key : h("kbd", {}, key), " "]),
        word,
      ),
    ),
  );
}
