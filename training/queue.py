"""The training queue: recipes are trained one after another at the lowest priority, and resumed where they stopped.

Each recipe runs in a process of its own, so that one that fails does not end the others. The state of a recipe is the
folder of its name below the runs folder; beside them lies `curves.html`, a page of the learning curves, which is
rewritten every minute.
"""

import html
import io
import logging
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from runtime.file_lock import FileLock
from training.loop import Recipe, load_recipe, read_log

logger = logging.getLogger(__name__)

LOWEST_PRIORITY: Final = 19
_PAGE_EVERY_S: Final = 60


class QueueError(RuntimeError):
    """The queue cannot start."""


class QueueFile(BaseModel):
    """A queue: one TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipes: tuple[str, ...] = Field(min_length=1, description="recipe files in order, relative to the queue file")


@dataclass(frozen=True, slots=True)
class RunState:
    """The progress of a recipe; `score` is its best validation score, None before the first."""

    recipe: Recipe
    iteration: int
    score: float | None
    hours: float

    @property
    def is_complete(self) -> bool:
        """Whether the last iteration has been reached."""
        return self.iteration >= self.recipe.iterations


def load_queue(path: Path) -> list[Path]:
    """Return the recipe files of a queue file, in order.

    Raises:
        QueueError: A recipe is missing or appears twice.
    """
    names = QueueFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).recipes
    paths = [path.parent / name for name in names]
    missing = [name for name, recipe in zip(names, paths, strict=True) if not recipe.is_file()]
    if missing:
        raise QueueError(f"{path} names recipes that do not exist: {', '.join(missing)}")
    if len(set(paths)) < len(paths):
        raise QueueError(f"{path} names a recipe twice; list each once")
    return paths


def read_state(recipe: Recipe, runs: Path) -> RunState:
    """Return the progress of a recipe, from its log."""
    folder = runs / recipe.name
    iteration, score, hours, earlier, latest = 0, None, 0.0, 0.0, 0.0
    if (folder / "log.jsonl").exists():
        for line in read_log(folder):
            iteration = max(iteration, int(line["iteration"]))
            if "valid_score" in line:
                score = max(line["valid_score"], score if score is not None else line["valid_score"])
            if "seconds" in line:
                # The clock of a log restarts with each process.
                if line["seconds"] < latest:
                    earlier += latest
                latest = line["seconds"]
        hours = (earlier + latest) / 3600
    return RunState(recipe, iteration, score, hours)


def run_queue(recipes: Sequence[Path], runs: Path, arguments: Sequence[str] = ()) -> int:
    """Train every recipe that is not complete.

    Args:
        recipes: Recipe files, in order.
        runs: Folder of the checkpoints and logs; one queue at a time uses it.
        arguments: Further arguments of `python -m training`.

    Returns:
        0, 1 if a recipe failed, or 128 plus the signal that ended the queue.

    Raises:
        QueueError: Another queue uses the folder.
    """
    failed = False
    with _locked(runs), _Stop() as stop:
        for path in recipes:
            state = read_state(load_recipe(path), runs)
            if state.is_complete:
                logger.info("%s is complete", state.recipe.name)
                continue
            logger.info("training %s from iteration %d", state.recipe.name, state.iteration)
            command = [sys.executable, "-m", "training", str(path), "--runs", str(runs), *arguments]
            code = stop.run(command, recipes=recipes, runs=runs)
            if stop.signal is not None:
                return 128 + stop.signal
            if code:
                logger.error("%s failed with exit code %d; continuing with the next recipe", state.recipe.name, code)
                failed = True
    return int(failed)


def describe(recipes: Sequence[Path], runs: Path) -> str:
    """Return a table of all recipes: iterations, hours and best validation score."""
    lines = [f"{'recipe':<24} {'iterations':>17} {'hours':>7} {'score':>8}"]
    for path in recipes:
        state = read_state(load_recipe(path), runs)
        score = "-" if state.score is None else f"{state.score:.3f}"
        progress = f"{state.iteration} / {state.recipe.iterations}"
        lines.append(f"{state.recipe.name:<24} {progress:>17} {state.hours:>7.1f} {score:>8}")
    return "\n".join(lines)


def write_curves(recipes: Sequence[Path], runs: Path) -> Path:
    """Write the page of learning curves and return its path."""
    parts = []
    for path in recipes:
        state = read_state(load_recipe(path), runs)
        if state.iteration:
            parts.append(f"<h2>{html.escape(state.recipe.name)}</h2>\n{_draw(runs / state.recipe.name)}")
    page = (
        '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="60"><title>Learning curves</title>'
        f"<h1>Learning curves</h1><pre>{html.escape(describe(recipes, runs))}</pre>\n" + "\n".join(parts)
    )
    target = runs / "curves.html"
    partial = target.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, target)
    return target


def _draw(folder: Path) -> str:
    """Return the loss and the validation scores of a run as one SVG."""
    from matplotlib.figure import Figure

    lines = list(read_log(folder))
    figure = Figure(figsize=(11, 3.2), layout="tight")
    loss, score = figure.subplots(1, 2)
    steps = [line for line in lines if "loss" in line]
    loss.plot([line["iteration"] for line in steps], [line["loss"] for line in steps], linewidth=0.8)
    loss.set(xlabel="iteration", ylabel="training loss", yscale="log")
    for name in sorted({key for line in lines for key in line if key.startswith("valid_")}):
        points = [(line["iteration"], line[name]) for line in lines if name in line]
        width = 2.4 if name == "valid_score" else 0.7
        score.plot(*zip(*points, strict=True), linewidth=width, marker=".", label=name.removeprefix("valid_"))
    score.set(xlabel="iteration", ylabel="validation")
    if score.has_data():
        score.legend(fontsize=6)
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    return drawing.getvalue()[drawing.getvalue().index("<svg") :]


class _Stop:
    """Passes SIGTERM and SIGINT on to the running recipe, which then writes its checkpoint and ends."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Stop":
        self._before = {kind: signal.signal(kind, self._handle) for kind in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for kind, handler in self._before.items():
            signal.signal(kind, handler)

    def run(self, command: Sequence[str], *, recipes: Sequence[Path], runs: Path) -> int:
        """Run one recipe to its end, and keep the page of curves up to date."""
        # Under other load one of two threads often waits for the other: a spinning thread would take its time.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
        with subprocess.Popen(command, start_new_session=True, env=environment) as process:
            self._process = process
            if self.signal is not None:
                process.send_signal(signal.SIGTERM)
            while True:
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(_PAGE_EVERY_S)
                    write_curves(recipes, runs)
                    return code
                write_curves(recipes, runs)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signal = number
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)


@contextmanager
def _locked(runs: Path) -> Iterator[None]:
    runs.mkdir(parents=True, exist_ok=True)
    lock = FileLock.try_exclusive(runs / "queue.lock")
    if lock is None:
        raise QueueError(f"another training queue uses {runs}; stop it first or choose another folder")
    with lock:
        yield
