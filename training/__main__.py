"""`python -m training RECIPE --media FOLDER --runs FOLDER`: train one network, going on where it stopped."""

import argparse
import logging
from pathlib import Path

import torch

from training.loop import Task, load_recipe, train


def main() -> None:
    """Read the recipe, build its task and train."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train a network of Relume.")
    parser.add_argument("recipe", type=Path, help="a TOML file of training/recipes")
    parser.add_argument("--media", type=Path, required=True, help="folder with video/, images/, speech/, noise/")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where checkpoints and logs go")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes them all")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = load_recipe(arguments.recipe)
    train(_task(recipe, arguments.media), recipe, arguments.runs / recipe.name)


def _task(recipe: object, media: Path) -> Task:
    from training.loop import Recipe

    assert isinstance(recipe, Recipe)
    if recipe.name.startswith("speech"):
        from training.speech import SpeechTask

        return SpeechTask(recipe, media)
    if "network" in recipe.task:
        from training.window import WindowTask

        return WindowTask(recipe, media)
    from training.video import VideoTask

    return VideoTask(recipe, media)


if __name__ == "__main__":
    main()
