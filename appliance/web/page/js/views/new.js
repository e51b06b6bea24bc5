/** A new job: files, part, options, estimate and previews. Also edits a waiting job and enhances a file again. */

import { showIncoming } from "../add-files.js";
import { goTo } from "../address.js";
import { get, patch, post } from "../api.js";
import { fill, h } from "../dom.js";
import { describeOutcome, estimateLine } from "../estimate.js";
import { icon } from "../icons.js";
import { loadModels, loadPresets, presetTitle } from "../job-options.js";
import { notifyError, notify } from "../messages.js";
import { optionsForm } from "../options-form.js";
import { openPresetTrial, openPreview } from "../preview.js";
import { rememberChoices, savedPresets } from "../saved-presets.js";
import { mayUpload } from "../session.js";
import { trimField } from "../trim-field.js";
import { showReady } from "../uploaded-files.js";

export const title = "New job";

/** Show the view; `parameter` is empty, `again/ID` to enhance the file of a job again, or `edit/ID` for a waiting job. */
export async function show(root, parameter, signal) {
  if (!mayUpload()) {
    goTo("");
    return;
  }
  const [mode, id] = parameter.split("/");
  const job = id ? await get(`/api/jobs/${encodeURIComponent(id)}`, {}, { signal }) : null;
  const [presets, models] = await Promise.all([loadPresets(), loadModels()]);
  const isEdit = mode === "edit";
  const files = h("div", { class: "incoming" });
  const options = h("section", { class: "panel options", "aria-label": "Settings" });
  const foot = h("div", { class: "new-foot" });
  fill(
    root,
    h("a", { class: "back", href: job ? `#/job/${job.id}` : "#/" }, icon("arrowLeft"), job ? "Job" : "Queue"),
    h("h1", {}, isEdit ? "Edit job" : job ? "Enhance again" : "New job"),
    job && h("p", { class: "lead" }, job.title),
    files,
    options,
    foot,
  );

  let fits = true;
  let ready = null;
  let length = null;
  const form = optionsForm(presets, models, changed);
  const trim = trimField(changed);
  const estimate = estimateLine(
    {
      onFit: (answer) => {
        fits = answer;
        drawButtons();
      },
      onResult: (result) => form.describeResult(result ? describeOutcome(result).replace(/,[^,]*$/, "") : ""),
    },
    signal,
  );
  const saved = await savedPresets(form, { begin: job === null, onChange: changed }, signal);
  if (job) form.setChoices(job.options);
  const advice = adviceNote(
    (preset) => {
      form.setChoices({ preset });
      changed();
    },
    () => form.choices().preset,
    signal,
  );
  fill(options, saved, advice.box, form.box, trim.box);

  // The files to enhance: `{source, name, length_s, hasVideo}` each.
  const chosen = () =>
    job
      ? [{ source: { again: job.id }, name: job.title, length_s: length, hasVideo: !job.is_sound }]
      : (ready?.chosen() ?? []).map((file) => ({
          source: { file: file.id },
          name: file.name,
          length_s: file.probe.duration_s,
          hasVideo: file.probe.has_picture,
          isDamaged: Boolean(file.probe.damage),
        }));
  const jobOptions = () => ({ ...form.choices(), ...(chosen().length === 1 ? trim.value() : {}) });

  const start = h("button", { type: "button", class: "button primary large", id: "start" });
  const look = h("button", { type: "button", class: "button large" }, icon("eye"), "Preview");
  const tryAll = h("button", { type: "button", class: "button large" }, icon("grid"), "Try all presets");
  fill(foot, estimate.box, h("div", { class: "row" }, tryAll, look, start));

  function drawButtons() {
    const number = chosen().length;
    fill(start, icon(isEdit ? "check" : "spark"), isEdit ? "Save" : number > 1 ? `Start ${number} jobs` : "Start");
    start.disabled = number === 0 || !fits;
    look.disabled = number === 0;
    tryAll.disabled = number === 0;
    tryAll.hidden = number > 0 && !chosen()[0].hasVideo;
    options.hidden = number === 0;
    foot.hidden = number === 0;
  }

  function changed() {
    fits = true;
    const now = chosen();
    const isSound = now.length > 0 && now.every(({ hasVideo }) => !hasVideo);
    form.limitToSound(isSound);
    saved.hidden = isSound;
    trim.show(now.length === 1 ? now[0].length_s : null);
    advice.show(now.length === 1 ? (now[0].source.file ?? null) : null);
    drawButtons();
    estimate.ask(
      now.map(({ source }) => source),
      jobOptions(),
    );
  }

  start.addEventListener("click", async () => {
    start.disabled = true;
    // The files belong to the jobs from now on.
    estimate.stop();
    try {
      await (isEdit ? save(job, jobOptions()) : startAll(chosen(), jobOptions(), start));
      if (!isEdit && !saved.hidden) rememberChoices(form.choices());
      goTo(isEdit ? `job/${job.id}` : "");
    } catch (error) {
      notifyError(error);
      await ready?.reload().catch(notifyError);
      drawButtons();
    }
  });
  look.addEventListener("click", () => {
    const span = trim.span();
    openPreview(
      chosen().map((file) => ({ ...file, span })),
      form.choices(),
      signal,
    );
  });
  tryAll.addEventListener("click", () =>
    openPresetTrial(
      { ...chosen()[0], span: trim.span() },
      presets.filter((preset) => !preset.copies_picture),
      (preset) => {
        form.setChoices({ preset: preset.name });
        changed();
        look.focus();
      },
      signal,
    ),
  );

  if (job) {
    // The server knows the length of the file; the trim is restored before the first estimate.
    const { result } = await post("/api/estimates", { again: job.id, quick: true, preset: job.options.preset }, { signal });
    length = result.duration_s;
    trim.show(length);
    trim.set(job.options);
    changed();
    return;
  }
  await showIncoming(files, { compact: true }, signal);
  ready = await showReady(files, changed, signal);
  changed();
}

/**
 * Create the note that says what is wrong with an uploaded file. `use(preset)` is called by its button, which is hidden while the
 * suggested preset is `chosen()`.
 */
function adviceNote(use, chosen, signal) {
  const box = h("div", { class: "job-note advice", role: "status", hidden: true });
  let shown = null;
  let found = null;
  const button = h("button", { type: "button", class: "button small" }, "Use this preset");
  button.addEventListener("click", () => use(found.preset));
  const draw = () => {
    box.hidden = !found || (found.findings.length === 0 && !found.preset);
    if (box.hidden) return;
    button.hidden = !found.preset || found.preset === chosen();
    fill(
      box,
      icon("info"),
      h(
        "div",
        {},
        found.findings.map(({ text }) => [h("span", {}, text), " "]),
        h("p", {}, found.preset ? [h("strong", {}, presetTitle(found.preset)), ": ", h("span", {}, found.reason)] : found.reason),
      ),
      button,
    );
  };
  return {
    box,
    // Show the advice on the upload with this id, null for none.
    show: async (id) => {
      if (id === shown) {
        draw();
        return;
      }
      shown = id;
      found = null;
      draw();
      if (id === null) return;
      const answer = await get(`/api/files/${id}/advice`, {}, { signal }).catch(() => null);
      if (shown !== id) return;
      found = answer;
      draw();
    },
  };
}

async function save(job, jobOptions) {
  await patch(`/api/jobs/${job.id}`, { wishes: jobOptions });
  notify(`“${job.title}” was changed.`);
}

async function startAll(files, jobOptions, button) {
  for (const [index, file] of files.entries()) {
    if (files.length > 1) fill(button, icon("spark"), `Starting ${index + 1} of ${files.length} …`);
    const damaged = file.isDamaged ? { allow_damaged: true } : {};
    await post("/api/jobs", { ...file.source, ...jobOptions, ...damaged });
  }
  notify(files.length === 1 ? `“${files[0].name}” was added to the queue.` : `${files.length} jobs were added to the queue.`);
}
