"""What runs the models of one job: chosen before it begins, and once more if a backend turns out not to open."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from runtime.engine.choice import Choice, Wish, choose_engine, is_measured, offered_precisions
from runtime.engine.speeds import write_speeds
from runtime.errors import OpenError, OutputError
from runtime.manifest import Model
from runtime.work import Work, expected_frames

logger = logging.getLogger(__name__)

_LEAST_UNITS: Final = 400.0
"""A job worth less is done before the measurement has paid off."""
_FIRST_BUDGET_S: Final = 0.2
"""For each way to run the model; there are four to six, and each is opened and run three times at least."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Selection:
    """What runs the picture's model and the sound's; None where the job has no such model."""

    picture: Choice | None
    sound: Choice | None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Those that there are."""
        return tuple(choice for choice in (self.picture, self.sound) if choice is not None)

    def marks(self) -> str:
        """Give for each model what decides its results' last bits: backend, precision and library."""
        return "; ".join(
            f"{choice.model.manifest.name} on {choice.backend} in {choice.precision} by {choice.library}"
            for choice in self.choices
        )


def read_marks(text: str) -> dict[str, Wish]:
    """Read what `Selection.marks` wrote, as wishes by the model's name; another text holds none."""
    wishes = {}
    for name, backend, precision in re.findall(r"([^ ;]+) on ([^ ]+) in ([^ ]+) by", text):
        wishes[name] = Wish(backend, precision)
    return wishes


def run_with_engines(
    work: Work,
    run: Callable[[Selection], Result],
    *,
    threads: int,
    engines: Path | None = None,
    kept: Mapping[str, Wish] | None = None,
) -> Result:
    """Choose what runs a job's models and run it; where a backend does not open, begin again with a safer one.

    Args:
        work: The job; its options hold the user's wish, which wins.
        run: Does the job; it is called again only if it raised `OpenError`.
        threads: CPU threads for the picture.
        engines: The folder of the box's engines and measurements.
        kept: What an earlier attempt with the same options began with, by the model's name.

    Raises:
        OptionError: There is no such backend or precision, or the model has no such file.
        SessionError: What was asked for cannot be used here, or nothing safer can take its place.
    """
    failed: dict[str, OpenError] = {}
    while True:
        selection = select_engines(work, threads=threads, engines=engines, kept=kept, failed=failed)
        try:
            return run(selection)
        except OpenError as error:
            asked = work.options.backend != "auto" and not error.waits
            if asked or error.backend == "cpu" or error.model in failed:
                raise
            logger.warning("model %s begins again on another backend: %s", error.model, error)
            failed[error.model] = error


def select_engines(
    work: Work,
    *,
    threads: int,
    engines: Path | None = None,
    kept: Mapping[str, Wish] | None = None,
    failed: Mapping[str, OpenError] | None = None,
) -> Selection:
    """Choose what runs a job's models, as `run_with_engines`; `failed` tells what could not be opened."""
    wish = Wish(work.options.backend, work.options.precision)
    if work.video_model is not None and not (failed or kept):
        _measure_first(work.video_model, work, wish, engines)

    def choose(model: Model, wish: Wish, threads: int) -> Choice:
        name = model.manifest.name
        error = (failed or {}).get(name)
        if error is None:
            return choose_engine(model, wish, threads=threads, engines=engines, kept=(kept or {}).get(name))
        wish = replace(wish, backend="auto")
        choice = choose_engine(model, wish, threads=threads, engines=engines, without=error.backend)
        return replace(choice, reason=f"in place of {error.backend}: {error}")

    return Selection(
        # One thread keeps up with sound many times over; the cores belong to the picture.
        picture=None if work.video_model is None else choose(work.video_model, wish, threads),
        sound=None if work.sound_model is None else choose(work.sound_model, _for_sound(work, wish), 1),
    )


def _measure_first(model: Model, work: Work, wish: Wish, engines: Path | None) -> None:
    """Measure the picture's model before the first job that is long enough: the safe choice is often half as fast.

    It takes a second or two, and is kept for later jobs where `relume doctor` keeps it.
    """
    from runtime.trial import measure_model

    if engines is None or wish.backend != "auto" or _work_units(work) < _LEAST_UNITS or is_measured(model, engines):
        return
    logger.info("model %s was not measured here yet: looking for what runs it fastest", model.manifest.name)
    speeds = measure_model(model, budget_s=_FIRST_BUDGET_S)
    try:
        write_speeds(engines, speeds)
    except OutputError as error:
        logger.warning("what was measured cannot be kept, so the job takes the safe choice: %s", error)


def _work_units(work: Work) -> float:
    """Give how many frames of the usual size, 320x180, a job is worth."""
    frames = expected_frames(work)
    if frames is None or work.video is None:
        return 0.0
    return frames * work.video.width * work.video.height / (320 * 180)


def _for_sound(work: Work, wish: Wish) -> Wish:
    """Give the wish for the sound; a precision that it does not offer was meant for the picture."""
    assert work.sound_model is not None
    if work.video_model is None or wish.precision in ("auto", *offered_precisions(work.sound_model)):
        return wish
    return replace(wish, precision="auto")
