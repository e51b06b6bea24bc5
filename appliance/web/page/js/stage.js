/** The stage of a comparison: both videos in one frame with shared zoom and pan, and the slider between them. */

import { h, setVars } from "./dom.js";
import { formatPercent } from "./format.js";
import { icon } from "./icons.js";

/** The views with their labels, in the order of their number keys. */
export const VIEWS = [
  ["split", "Slider"],
  ["beside", "Side by side"],
  ["before", "Before"],
  ["after", "After"],
  ["difference", "Difference"],
];

/** Zoom factor of one press of plus or minus. */
export const ZOOM_KEY_STEP = 1.25;

const MOST_ZOOM = 8;
const WHEEL_STEP = 0.0016;
const PINCH_WHEEL_STEP = 0.01;
const GRAB_PX = 28;
const SLOP_PX = 6;
const PAN_STEP_PX = 40;

/**
 * Build the stage of one or two videos; `before` may be null.
 *
 * Returns `box`; `show(view)`; `hold(on)`, which shows only the original while on; `zoomTo(level)` with "fit" or a number of screen
 * pixels per video pixel; `zoomBy(factor)`; `pan(x, y)` in steps; and `line`, the range input of the before/after slider (null
 * without `before`). `onZoom(level, percent)` is called whenever the zoom changes; level is null
 * if it is not one of the named levels.
 */
export function buildStage(before, after, { onZoom = () => {} } = {}) {
  const layers = h("div", { class: "compare-layers" });
  if (before) layers.append(layer("before", "Before", before));
  const top = layer("after", "After", after);
  layers.append(top);
  const stage = h(
    "div",
    { class: "compare-stage", "data-view": before ? "split" : "after" },
    layers,
    before && h("span", { class: "compare-word word-difference", "aria-hidden": "true" }, "Difference, 4× brighter"),
  );
  const line = before ? addLine(stage) : null;
  const zoom = zooming(stage, top, after, onZoom);
  listenPointers(stage, line, zoom);
  after.addEventListener("loadedmetadata", () => {
    setVars(stage, { "--ratio": after.videoWidth / after.videoHeight });
    zoom.apply();
  });
  return {
    box: stage,
    line,
    show: (view) => {
      stage.dataset.view = view;
      zoom.apply();
    },
    hold: (on) => stage.toggleAttribute("data-original", on),
    zoomTo: zoom.to,
    zoomBy: zoom.by,
    pan: (x, y) => zoom.pan(x * PAN_STEP_PX, y * PAN_STEP_PX),
    refit: zoom.apply,
  };
}

function layer(name, word, video) {
  return h(
    "div",
    { class: `compare-layer layer-${name}` },
    video,
    h("span", { class: `compare-word word-${name}`, "aria-hidden": "true" }, word),
  );
}

// The range input serves the keyboard and screen readers; pointers are tracked on the whole stage.
function addLine(stage) {
  const line = h("input", {
    type: "range",
    class: "compare-line",
    min: 0,
    max: 100,
    step: 0.5,
    "aria-label": "Before and after slider",
    props: { value: 50 },
  });
  const move = () => {
    setVars(stage, { "--split": `${line.value}%` });
    const share = line.value / 100;
    line.setAttribute("aria-valuetext", `${formatPercent(share)} before, ${formatPercent(1 - share)} after`);
  };
  line.addEventListener("input", move);
  move();
  stage.append(line, h("span", { class: "compare-handle", "aria-hidden": "true" }, icon("compare")));
  return line;
}

function zooming(stage, frame, video, onZoom) {
  let scale = 1;
  let x = 0;
  let y = 0;

  // The size of the video in its frame, and the scale at which a video pixel is a screen pixel.
  const measure = () => {
    const { clientWidth: width, clientHeight: height } = frame;
    const ratio = video.videoWidth / video.videoHeight || width / height || 1;
    const fitted = { width: Math.min(width, height * ratio), height: Math.min(height, width / ratio) };
    const pixel = video.videoWidth ? video.videoWidth / (fitted.width * devicePixelRatio) : 1;
    return { width, height, fitted, pixel };
  };
  const limits = ({ pixel }) => [Math.min(1, pixel), Math.max(MOST_ZOOM, MOST_ZOOM * pixel)];

  function apply() {
    const place = measure();
    if (place.width === 0) return;
    const [least, most] = limits(place);
    scale = Math.min(most, Math.max(least, scale));
    const room = (length, shown) => Math.max(0, (length * scale - shown) / 2);
    x = clamp(x, room(place.fitted.width, place.width));
    y = clamp(y, room(place.fitted.height, place.height));
    setVars(stage, { "--zoom": scale, "--pan-x": `${x}px`, "--pan-y": `${y}px` });
    stage.toggleAttribute("data-zoomed", scale > 1.001);
    const percent = Math.round((scale / place.pixel) * 100);
    const level = Math.abs(scale - 1) < 0.001 ? "fit" : [100, 200].includes(percent) ? String(percent / 100) : null;
    onZoom(level, percent);
  }

  // The point (relative to the centre of the frame) keeps its place.
  function set(next, pointX = 0, pointY = 0) {
    const [least, most] = limits(measure());
    const target = Math.min(most, Math.max(least, next));
    const change = target / scale;
    x = pointX - (pointX - x) * change;
    y = pointY - (pointY - y) * change;
    scale = target;
    apply();
  }

  return {
    apply,
    isZoomed: () => scale > 1.001,
    to: (level, ...point) => set(level === "fit" ? 1 : Number(level) * measure().pixel, ...point),
    by: (factor, ...point) => set(scale * factor, ...point),
    pan: (byX, byY) => {
      x += byX;
      y += byY;
      apply();
    },
    // Zoom in to video pixels if that is larger than the fit, else to twice the larger of both.
    toggle: (...point) => {
      const { pixel } = measure();
      set(scale > 1.001 ? 1 : pixel > 1.2 ? pixel : 2 * Math.max(1, pixel), ...point);
    },
  };
}

function clamp(value, room) {
  return Math.min(room, Math.max(-room, value));
}

function listenPointers(stage, line, zoom) {
  const held = new Map();
  let mode = null;
  let start = null;
  let spread = 0;

  const lineX = () => {
    const box = stage.getBoundingClientRect();
    return box.left + (box.width * line.value) / 100;
  };
  const moveLine = (clientX) => {
    const box = stage.getBoundingClientRect();
    line.value = ((clientX - box.left) / box.width) * 100;
    line.dispatchEvent(new Event("input"));
  };
  const hasLine = () => line !== null && stage.dataset.view === "split";
  // A point relative to the centre of its frame: side by side there are two frames.
  const fromCentre = ({ clientX, clientY }) => {
    const frames = [...stage.querySelectorAll(".compare-layer")].map((frame) => frame.getBoundingClientRect());
    const box =
      frames.find((one) => clientX >= one.left && clientX <= one.right && clientY >= one.top && clientY <= one.bottom) ??
      frames[0];
    return [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
  };
  const pinch = () => {
    const [a, b] = [...held.values()];
    return {
      distance: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY),
      middle: { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 },
    };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button")) return;
    held.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    if (held.size === 2) {
      mode = "pinch";
      spread = pinch().distance;
    } else if (hasLine() && Math.abs(event.clientX - lineX()) <= GRAB_PX) {
      mode = "line";
    } else if (zoom.isZoomed()) {
      mode = "pan";
    } else if (hasLine() && event.pointerType === "touch") {
      // The touch may scroll the page: only a horizontal move drags the slider.
      mode = "undecided";
      start = event;
    } else if (hasLine()) {
      mode = "line";
      moveLine(event.clientX);
    }
    if (mode === "line") line.focus({ preventScroll: true, focusVisible: false });
  });
  stage.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (before === undefined) return;
    const old = held.size === 2 ? pinch() : null;
    held.set(event.pointerId, event);
    if (mode === "undecided") {
      const [byX, byY] = [Math.abs(event.clientX - start.clientX), Math.abs(event.clientY - start.clientY)];
      if (Math.max(byX, byY) > SLOP_PX) mode = byX > byY ? "line" : null;
    }
    if (mode === "line") moveLine(event.clientX);
    else if (mode === "pan") zoom.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    else if (mode === "pinch" && old !== null) {
      const now = pinch();
      zoom.pan(now.middle.clientX - old.middle.clientX, now.middle.clientY - old.middle.clientY);
      zoom.by(now.distance / spread, ...fromCentre(now.middle));
      spread = now.distance;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, (event) => {
      held.delete(event.pointerId);
      mode = null;
    });
  }
  stage.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button")) zoom.toggle(...fromCentre(event));
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      // At fit size the wheel scrolls the page as usual.
      if (!event.ctrlKey && !zoom.isZoomed() && !document.fullscreenElement) return;
      event.preventDefault();
      zoom.by(Math.exp(-event.deltaY * (event.ctrlKey ? PINCH_WHEEL_STEP : WHEEL_STEP)), ...fromCentre(event));
    },
    { passive: false },
  );
  new ResizeObserver(() => zoom.apply()).observe(stage);
}
