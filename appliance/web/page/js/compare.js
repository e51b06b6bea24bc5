/** Before and after, on top of each other: a line that the user moves, one clock for both, and the sound of either. */

import { fill, h, setText, setVars } from "./dom.js";
import { segments } from "./forms.js";
import { icon } from "./icons.js";
import { announce } from "./notices.js";
import { SyncPlayer } from "./player.js";
import { describePlace } from "./words.js";

const VIEWS = [
  ["split", "Slider"],
  ["beside", "Side by side"],
  ["before", "Before"],
  ["after", "After"],
];
const SPEEDS = [
  ["1", "Normal"],
  ["0.5", "Half"],
  ["0.25", "Quarter"],
];

/** Show the comparison of a finished job in `root`, until the signal is aborted; nothing where there is nothing to compare. */
export function showComparison(root, job, signal, { frameRate = 25 } = {}) {
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
  const trouble = h(
    "p",
    { class: "compare-trouble", hidden: true },
    "This browser cannot play the comparison. Download the result and open it in a player.",
  );
  player.addEventListener("trouble", () => {
    trouble.hidden = false;
  });
  signal.addEventListener("abort", () => player.close());

  const box = h(
    "section",
    { class: "compare", "aria-label": "Before and after" },
    !after && h("p", { class: "lead" }, "Listen to the sound before and after."),
  );
  const stage = after ? pictureStage(box, before, after) : null;
  const controls = transport(player, box, { steps: Boolean(after) });
  const choices = h("div", { class: "compare-choices" });
  if (stage && before) {
    const view = segments("View", VIEWS, "split", (value) => stage.show(value));
    choices.append(view.box);
  }
  const sound = soundSwitch(soundBefore, soundAfter);
  if (sound) choices.append(sound.box);
  if (after) choices.append(segments("Speed", SPEEDS, "1", (value) => player.setRate(Number(value))).box);
  box.append(...[stage?.box, controls, choices, trouble, soundBefore, soundAfter].filter(Boolean));
  listenKeys(box, player, { sound, steps: Boolean(after) });
  fill(root, box);
}

function pictureStage(box, before, after) {
  const stage = h("div", { class: "compare-stage", "data-view": before ? "split" : "after" }, before, after);
  after.addEventListener("loadedmetadata", () => setVars(stage, { "--ratio": after.videoWidth / after.videoHeight }));
  if (before) {
    const line = h("input", {
      type: "range",
      class: "compare-line",
      min: 0,
      max: 100,
      step: 0.5,
      "aria-label": "How much of the picture shows before, and how much after",
      props: { value: 50 },
    });
    const move = () => {
      setVars(stage, { "--split": `${line.value}%` });
      line.setAttribute(
        "aria-valuetext",
        `${Math.round(line.value)} % before, ${Math.round(100 - line.value)} % after`,
      );
    };
    line.addEventListener("input", move);
    move();
    stage.append(
      h("span", { class: "compare-word word-before", "aria-hidden": "true" }, "Before"),
      h("span", { class: "compare-word word-after", "aria-hidden": "true" }, "After"),
      line,
      h("span", { class: "compare-handle", "aria-hidden": "true" }, icon("compare")),
    );
  }
  const full = h(
    "button",
    { type: "button", class: "plain-icon full-button", "aria-label": "Whole screen", title: "Whole screen" },
    icon("full"),
  );
  full.addEventListener("click", () =>
    document.fullscreenElement ? document.exitFullscreen() : box.requestFullscreen(),
  );
  if (document.fullscreenEnabled) stage.append(full);
  return {
    box: stage,
    show: (view) => {
      stage.dataset.view = view;
    },
  };
}

function transport(player, box, { steps }) {
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
    "aria-label": "Place in the video",
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
    setText(time, `${describePlace(player.time)} / ${describePlace(player.length)}`);
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
    steps && [step(-1, "One picture back", "stepBack"), step(1, "One picture on", "stepOn")],
    seek,
    time,
  );
}

function soundSwitch(before, after) {
  if (!before && !after) return null;
  const choices = [["off", "Off"], before && ["before", "Before"], after && ["after", "After"]].filter(Boolean);
  const choose = (value) => {
    if (before) before.muted = value !== "before";
    if (after) after.muted = value !== "after";
  };
  const start = after ? "after" : "before";
  choose(start);
  const made = segments("Sound", choices, start, choose);
  return {
    box: made.box,
    swap: () => {
      const value = made.value() === "after" && before ? "before" : "after";
      made.setValue(value);
      choose(value);
      announce(`Sound: ${value}`);
    },
  };
}

// Space plays, comma and full stop step, B swaps the sound; arrows stay with the slider that has the focus.
function listenKeys(box, player, { sound, steps }) {
  box.append(
    h(
      "p",
      { class: "hint keys" },
      "Keys: ",
      key("Space"),
      " play",
      steps && [", ", key(","), " ", key("."), " one picture back or on"],
      sound && [", ", key("B"), " sound before or after"],
      ".",
    ),
  );
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest("button, input[type=radio]");
    if (event.key === " " && !onButton) player.toggle();
    else if (event.key === "," && steps) player.step(-1);
    else if (event.key === "." && steps) player.step(1);
    else if (event.key.toLowerCase() === "b" && sound) sound.swap();
    else return;
    event.preventDefault();
  });
}

function key(name) {
  return h("kbd", {}, name);
}
