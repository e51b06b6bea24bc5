/** The form that says what shall happen to files: a preset as a picture and a sentence, and plain choices. */

import { describeStrength, FORMATS, modelChoices, SCALES, SOUNDS } from "./choices.js";
import { fill, h, newId, setText, setVars } from "./dom.js";
import { field, segments, select } from "./forms.js";

/**
 * Make the form; `models` are the box's own.
 *
 * Gives `box`; `choices()`, the fields for the server, where what the user left alone is left out; and
 * `describeFor(probe)`, which updates the words that depend on the file. `onChange` is called after every change.
 */
export function composer(presets, models, onChange) {
  let preset = presets[0];
  const details = h("div", { class: "details-grid" });
  let controls = makeControls(preset, models, changed);
  let media = null;

  function changed() {
    controls.describe(media);
    onChange();
  }

  function choose(next) {
    preset = next;
    controls = makeControls(preset, models, changed);
    fill(details, controls.boxes);
    changed();
  }

  const cards = presetCards(presets, choose);
  fill(details, controls.boxes);
  controls.describe(media);
  return {
    box: h("div", { class: "composer" }, cards, details),
    choices: () => ({ preset: preset.name, ...controls.choices() }),
    describeFor: (probe) => {
      media = probe;
      controls.describe(media);
    },
  };
}

function presetCards(presets, choose) {
  const name = newId("preset");
  return h(
    "fieldset",
    { class: "presets" },
    h("legend", {}, "What shall happen?"),
    h(
      "div",
      { class: "presets-grid" },
      presets.map((preset, index) => {
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
      }),
    ),
  );
}

function makeControls(preset, models, changed) {
  const touched = new Set();
  const touch = (name) => {
    touched.add(name);
    changed();
  };
  const boxes = [];
  const readers = {};
  let describeSize = () => {};
  let model = () => "";
  let sizeBox = null;
  if (!preset.copies_picture && preset.scales.length > 1) {
    const scale = String(preset.scale);
    const made = segments(
      "Size",
      preset.scales.map((value) => [value, SCALES[value]]),
      scale,
      () => touch("scale"),
    );
    const words = h("p", { class: "hint" });
    made.box.append(words);
    describeSize = (media) => setText(words, describeResult(media, made.value()));
    readers.scale = () => (made.value() === "auto" ? "auto" : Number(made.value()));
    sizeBox = made.box;
    boxes.push(sizeBox);
  }
  const strength = strengthField(preset.strength, () => touch("strength"));
  readers.strength = strength.value;
  boxes.push(strength.box);
  if (!preset.copies_picture) {
    const sound = segments("Sound", Object.entries(SOUNDS), preset.audio, () => touch("audio"));
    readers.audio = sound.value;
    boxes.push(sound.box);
    const format = select(
      preset.codecs.map((codec) => [codec, FORMATS[codec] ?? codec]),
      preset.codec,
    );
    format.addEventListener("change", () => touch("codec"));
    readers.codec = () => format.value;
    boxes.push(field("Output format", format));
    if (models.length > 0) {
      const own = select(modelChoices(models), "");
      model = () => own.value;
      own.addEventListener("change", () => {
        // Such a model makes pictures of one size alone.
        if (sizeBox) sizeBox.hidden = model() !== "";
        changed();
      });
      boxes.push(field("Model for the picture", own));
    }
  }
  return {
    boxes,
    describe: describeSize,
    choices: () => {
      const names = [...touched].filter((name) => name !== "scale" || model() === "");
      const made = Object.fromEntries(names.map((name) => [name, readers[name]()]));
      return model() === "" ? made : { ...made, model: model() };
    },
  };
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

function describeResult(media, scale) {
  if (!media?.width) return scale === "auto" ? "As large as 4K allows." : "";
  const before = `${media.width} × ${media.height}`;
  if (scale === "auto") return `${before}, made as large as 4K and the preset allow.`;
  if (Number(scale) === 1) return `Stays ${before}.`;
  return `${before} becomes ${media.width * scale} × ${media.height * scale}.`;
}
