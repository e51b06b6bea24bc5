"""The backends that run the models of a job: selected before it starts, and again where one cannot open its model."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from runtime.engine.choose import BackendPreference, Choice, choose_engine, is_measured, offered_precisions
from runtime.engine.speeds import write_speeds
from runtime.errors import OpenError, OutputError
from runtime.manifest import Model
from runtime.plan import JobPlan, expected_frames

logger = logging.getLogger(__name__)

_MIN_FRAMES_TO_MEASURE: Final = 400.0
"""Frames of 320x180; a shorter job finishes before the benchmark pays off."""
_FIRST_BUDGET_S: Final = 0.2
"""For each backend and precision; there are four to six, and each is opened and run three times at least."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class JobBackends:
    """The choices for the video model and the speech model; None where the job has no such model."""

    video: Choice | None
    speech: Choice | None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The choices that are not None."""
        return tuple(choice for choice in (self.video, self.speech) if choice is not None)

    def engine_fingerprint(self) -> str:
        """Return the backend, precision and library of each model, which determine its results bit for bit."""
        used = [(choice.model.manifest.name, choice.backend) for choice in self.choices]
        return "; ".join(f"{model} on {one.name} in {one.precision} by {one.library}" for model, one in used)


def parse_engine_fingerprint(text: str) -> dict[str, BackendPreference]:
    """Return the backend and precision of each model by its name; empty for text in another form."""
    found = re.findall(r"([^ ;]+) on ([^ ]+) in ([^ ]+) by", text)
    return {name: BackendPreference(backend, precision) for name, backend, precision in found}


def run_with_backends(
    plan: JobPlan,
    run: Callable[[JobBackends], Result],
    *,
    threads: int,
    engines: Path | None = None,
    kept: Mapping[str, BackendPreference] | None = None,
) -> Result:
    """Select the backends of a job and run it; where a backend cannot open its model, start again with another one.

    Args:
        plan: The job; the preference in its options has priority.
        run: Does the job; it is called again only if it raised `OpenError`.
        threads: CPU threads for the video.
        engines: The folder of this machine's engines and measurements.
        kept: The backends that an earlier attempt with the same options used, by the model's name.

    Raises:
        OptionError: There is no such backend or precision, or the model has no such file.
        SessionError: The requested backend cannot be used here, or no other can take its place.
    """
    failed: dict[str, OpenError] = {}
    while True:
        backends = select_backends(plan, threads=threads, engines=engines, kept=kept, failed=failed)
        try:
            return run(backends)
        except OpenError as error:
            requested = plan.options.backend != "auto" and not error.waits
            if requested or error.backend == "cpu" or error.model in failed:
                raise
            logger.warning("restarting model %s on another backend: %s", error.model, error)
            failed[error.model] = error


def select_backends(
    plan: JobPlan,
    *,
    threads: int,
    engines: Path | None = None,
    kept: Mapping[str, BackendPreference] | None = None,
    failed: Mapping[str, OpenError] | None = None,
) -> JobBackends:
    """Select the backends of a job; see `run_with_backends`. `failed` are the errors of models that did not open."""
    preference = BackendPreference(plan.options.backend, plan.options.precision)
    if plan.video is not None and not (failed or kept):
        _measure_first(plan.video.model, plan, preference, engines)

    def choose(model: Model, preference: BackendPreference, threads: int) -> Choice:
        name = model.manifest.name
        error = (failed or {}).get(name)
        if error is None:
            return choose_engine(model, preference, threads=threads, engines=engines, kept=(kept or {}).get(name))
        preference = replace(preference, backend="auto")
        choice = choose_engine(model, preference, threads=threads, engines=engines, without=error.backend)
        return replace(choice, reason=f"in place of {error.backend}: {error}")

    return JobBackends(
        # One thread processes speech many times faster than real time; the other cores are for the video.
        video=None if plan.video is None else choose(plan.video.model, preference, threads),
        speech=None if plan.speech is None else choose(plan.speech, _for_speech(plan, preference), 1),
    )


def _measure_first(model: Model, plan: JobPlan, preference: BackendPreference, engines: Path | None) -> None:
    """Measure the video model before the first job that is long enough: the default is often half as fast.

    It takes a second or two. The result is stored for later jobs, as that of `relume doctor`.
    """
    from runtime.engine.benchmark import measure_model

    short = _count_small_frames(plan) < _MIN_FRAMES_TO_MEASURE
    if engines is None or preference.backend != "auto" or short or is_measured(model, engines):
        return
    logger.info("model %s has not been benchmarked on this machine; benchmarking the backends", model.manifest.name)
    speeds = measure_model(model, budget_s=_FIRST_BUDGET_S)
    try:
        write_speeds(engines, speeds)
    except OutputError as error:
        logger.warning("cannot store the benchmarks, so the job uses the default backend: %s", error)


def _count_small_frames(plan: JobPlan) -> float:
    """Return the pixels of a job's source in frames of 320x180."""
    frames = expected_frames(plan)
    if frames is None or plan.video is None:
        return 0.0
    return frames * plan.video.stream.width * plan.video.stream.height / (320 * 180)


def _for_speech(plan: JobPlan, preference: BackendPreference) -> BackendPreference:
    """Return the preference for the speech model; a precision that it does not offer was meant for the video."""
    if plan.video is None or plan.speech is None:
        return preference
    if preference.precision in ("auto", *offered_precisions(plan.speech)):
        return preference
    return replace(preference, precision="auto")
