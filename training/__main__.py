"""`python -m training`: train one recipe, or a queue of recipes, and resume where training stopped."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch

from training.loop import Recipe, Task, load_recipe, train
from training.queue import LOWEST_PRIORITY, QueueError, describe, load_queue, run_queue, write_curves

_QUEUE = Path(__file__).parent / "recipes" / "queue.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return _run_queue(given[1:]) if given[:1] == ["queue"] else _train(given)


def _run_queue(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training queue", description="Train the recipes of a queue at the lowest priority."
    )
    parser.add_argument("queue", type=Path, nargs="?", default=_QUEUE, help="a TOML file that lists recipes")
    parser.add_argument("--status", action="store_true", help="show the progress, write the curves and exit")
    _add_common(parser)
    given = parser.parse_args(arguments)
    try:
        recipes = load_queue(given.queue)
        if given.status:
            print(describe(recipes, given.runs))
            print(write_curves(recipes, given.runs))
            return 0
        shared = ["--media", str(given.media), "--threads", str(given.threads), "--nice", str(LOWEST_PRIORITY)]
        return run_queue(recipes, given.runs, shared)
    except QueueError as error:
        print(f"training queue: {error}", file=sys.stderr)
        return 2


def _train(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Train one network; see also `python -m training queue --help`.",
    )
    parser.add_argument("recipe", type=Path, help="a TOML file of training/recipes")
    parser.add_argument("--nice", type=int, default=0, help="lower the priority by this much")
    _add_common(parser)
    given = parser.parse_args(arguments)
    os.nice(given.nice)
    if given.threads:
        torch.set_num_threads(given.threads)
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        stopped.append(number)

    signal.signal(signal.SIGTERM, stop)
    recipe = load_recipe(given.recipe)
    train(_task(recipe, given.media), recipe, given.runs / recipe.name, is_stopped=lambda: bool(stopped))
    return 128 + stopped[0] if stopped else 0


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--media", type=Path, required=True, help="folder with video/, images/, speech/, noise/")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints and logs go")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")


def _task(recipe: Recipe, media: Path) -> Task:
    if recipe.kind == "speech":
        from training.speech import open_speech_task

        return open_speech_task(recipe, media)
    if recipe.kind == "window":
        from training.window import WindowTask

        return WindowTask(recipe, media)
    from training.video import VideoTask

    return VideoTask(recipe, media)


if __name__ == "__main__":
    sys.exit(main())
