/** The options of a new job: a preset, and the options that override it. */

import { fill, h, newId, setText, setVars } from "./dom.js";
import { field, segments, select } from "./forms.js";
import { describeStrength, FORMATS, GRAINS, LOUDNESS, modelChoices, SCALES, SOUND_HINTS, SOUNDS, withValue } from "./job-options.js";

/**
 * Create the form; `models` are the custom models of the server.
 *
 * Returns `box`; `choices()`, the options for the API without those that the user left unchanged; `setChoices(choices)`;
 * `describeResult(text)`, which sets the hint below the size; and `limitToSound(on)` for audio files. `onChange` is called after every
 * change by the user.
 */
export function optionsForm(presets, models, onChange) {
  const byName = new Map(presets.map((preset) => [preset.name, preset]));
  let preset = presets[0];
  const details = h("div", { class: "details-grid" });
  let controls = null;
  let before = null;
  const cards = presetCards(presets, (next) => {
    choose(next, {});
    onChange();
  });

  function choose(next, choices) {
    preset = next;
    controls = makeControls(preset, models, choices, onChange);
    fill(details, controls.boxes);
  }

  choose(preset, {});
  return {
    box: h("div", { class: "composer" }, cards.box, details),
    choices: () => ({ preset: preset.name, ...controls.choices() }),
    setChoices: ({ preset: name, ...choices }) => {
      if (!byName.has(name)) return;
      cards.check(name);
      choose(byName.get(name), choices);
    },
    describeResult: (text) => controls.describe(text),
    // Audio files have the presets for audio; the previous options return with the next video.
    limitToSound: (on) => {
      if (on === cards.limited()) return;
      cards.limit(on);
      if (on) {
        before = { preset: preset.name, ...controls.choices() };
        const next = preset.copies_picture ? preset : presets.find((one) => one.copies_picture);
        cards.check(next.name);
        choose(next, next === preset ? before : {});
      } else {
        cards.check(before.preset);
        choose(byName.get(before.preset), before);
      }
    },
  };
}

function presetCards(presets, choose) {
  const name = newId("preset");
  const radios = new Map();
  let limited = false;
  const cards = presets.map((preset, index) => {
    const id = newId("preset");
    const radio = h("input", {
      type: "radio",
      name,
      id,
      value: preset.name,
      class: "unseen",
      props: { checked: index === 0 },
      "aria-describedby": `${id}-sentence`,
    });
    radios.set(preset.name, radio);
    radio.addEventListener("change", () => choose(preset));
    return h(
      "div",
      { class: "preset" },
      radio,
      h(
        "label",
        { for: id },
        h("img", { src: preset.picture, alt: "", width: 480, height: 270, decoding: "async" }),
        h("span", { class: "preset-title" }, preset.title),
        h("span", { class: "preset-sentence", id: `${id}-sentence` }, preset.sentence),
      ),
    );
  });
  return {
    box: h(
      "fieldset",
      { class: "presets" },
      h("legend", {}, "What do you want to do?"),
      h("div", { class: "presets-grid" }, cards),
    ),
    check: (wanted) => {
      radios.get(wanted).checked = true;
    },
    limited: () => limited,
    limit: (on) => {
      limited = on;
      presets.forEach((preset, index) => {
        cards[index].hidden = on && !preset.copies_picture;
      });
    },
  };
}

function makeControls(preset, models, start, changed) {
  // Initial values count as chosen by the user.
  const touched = new Set(["scale", "strength", "grain", "audio", "loudness", "codec"].filter((name) => (start[name] ?? null) !== null));
  const touch = (name) => {
    touched.add(name);
    changed();
  };
  const boxes = [];
  const readers = {};
  let describe = () => {};
  let model = () => "";
  let sizeBox = null;
  if (!preset.copies_picture && preset.scales.length > 1) {
    const made = segments(
      "Size",
      preset.scales.map((value) => [value, SCALES[value]]),
      String(start.scale ?? preset.scale),
      () => touch("scale"),
    );
    const words = h("p", { class: "hint" });
    made.box.append(words);
    describe = (text) => setText(words, text);
    readers.scale = () => (made.value() === "auto" ? "auto" : Number(made.value()));
    sizeBox = made.box;
    boxes.push(sizeBox);
  }
  const strength = strengthField(start.strength ?? preset.strength, () => touch("strength"));
  readers.strength = strength.value;
  boxes.push(strength.box);
  boxes.push(...soundFields(preset, start, readers, touch));
  if (!preset.copies_picture) {
    const format = select(
      preset.codecs.map((codec) => [codec, FORMATS[codec] ?? codec]),
      start.codec ?? preset.codec,
    );
    format.addEventListener("change", () => touch("codec"));
    readers.codec = () => format.value;
    boxes.push(field("Output format", format));
    const grain = select(withValue(GRAINS, start.grain ?? preset.grain), String(start.grain ?? preset.grain));
    grain.addEventListener("change", () => touch("grain"));
    readers.grain = () => Number(grain.value);
    boxes.push(field("Film grain", grain));
    if (models.length > 0 || start.model) {
      const own = select(modelChoices(models, start.model ?? ""), start.model ?? "");
      model = () => own.value;
      const showSize = () => {
        // A custom model has one fixed scale.
        if (sizeBox) sizeBox.hidden = model() !== "";
      };
      showSize();
      own.addEventListener("change", () => {
        showSize();
        changed();
      });
      boxes.push(field("Video model", own));
    }
  }
  return {
    boxes,
    describe: (text) => describe(text),
    choices: () => {
      const names = [...touched].filter((name) => name in readers && (name !== "scale" || model() === ""));
      const made = Object.fromEntries(names.map((name) => [name, readers[name]()]));
      return model() === "" ? made : { ...made, model: model() };
    },
  };
}

function soundFields(preset, start, readers, touch) {
  // Where the video is copied, something has to be done to the audio.
  const offered = Object.entries(SOUNDS).filter(([name]) => name !== "off" || !preset.copies_picture);
  const sound = select(offered, start.audio ?? preset.audio);
  const hint = h("p", { class: "hint" });
  const soundBox = field("Audio", sound);
  soundBox.append(hint);
  const loudness = select(Object.entries(LOUDNESS), start.loudness ?? preset.loudness);
  const loudnessBox = field("Loudness", loudness);
  const show = () => {
    setText(hint, SOUND_HINTS[sound.value]);
    loudnessBox.hidden = sound.value === "off";
  };
  sound.addEventListener("change", () => {
    show();
    touch("audio");
  });
  loudness.addEventListener("change", () => touch("loudness"));
  show();
  readers.audio = () => sound.value;
  readers.loudness = () => (sound.value === "off" ? "off" : loudness.value);
  return [soundBox, loudnessBox];
}

function strengthField(start, onChange) {
  const id = newId("strength");
  const range = h("input", {
    type: "range",
    id,
    min: 10,
    max: 100,
    step: 5,
    props: { value: Math.round(start * 100) },
  });
  const word = h("output", { for: id });
  const show = () => {
    setText(word, describeStrength(range.value / 100));
    range.setAttribute("aria-valuetext", word.textContent);
    setVars(range, { "--share": (range.value - 10) / 90 });
  };
  range.addEventListener("input", show);
  range.addEventListener("change", onChange);
  show();
  return {
    box: h(
      "div",
      { class: "field" },
      h("div", { class: "field-head" }, h("label", { for: id }, "Strength"), word),
      range,
    ),
    value: () => range.value / 100,
  };
}
