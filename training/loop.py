"""The training loop of every network: seeded, resumable, with averaged weights and a JSON log."""

import json
import logging
import math
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

logger = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


class Recipe(BaseModel):
    """The settings of a training run; one TOML file of `training/recipes`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["video", "window", "speech"] = Field(
        description="the task; recipes without it are told apart by their `[task]` table"
    )
    seed: int = 1
    iterations: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    final_learning_rate: float = Field(default=1e-6, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warm_up: int = Field(default=100, ge=0, description="iterations of linear warm-up")
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    ema: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights")
    bfloat16: bool = Field(default=False, description="convolutions in bfloat16, master weights in float32")
    checkpoint_every: int = Field(default=200, gt=0)
    validate_every: int = Field(default=1000, gt=0)
    start_from: str | None = Field(
        default=None, description="checkpoint, or step.onnx of the zoo, whose matching weights are loaded"
    )
    task: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _derive_kind(cls, values: Any) -> Any:
        """Derive `kind` for recipes and checkpoints of releases that did not have it."""
        if not isinstance(values, dict) or "kind" in values:
            return values
        task = values.get("task", {})
        return {**values, "kind": "speech" if "hidden" in task else "window" if "network" in task else "video"}


class Task(Protocol):
    """A learning task: a model, its batches, its loss and its validation."""

    model: torch.nn.Module

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw one batch, with all randomness from `rng`."""
        ...

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss to minimise and the figures to log."""
        ...

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Measure held-out data; the figure named `score` selects the best weights."""
        ...


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from TOML."""
    return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def train(task: Task, recipe: Recipe, folder: Path, *, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Train until the recipe's last iteration, resuming from `folder/last.pt` where there is one.

    Writes `last.pt` and `best.pt` (keys `model`, `ema`, `iteration`, ...) and appends to `log.jsonl`. The batch of
    an iteration depends on the seed and the iteration only, so a resumed run sees the same batches as an uninterrupted
    one.

    Args:
        task: The model and its data.
        recipe: The settings.
        folder: Of the checkpoints and the log.
        is_stopped: Called after each iteration; if true, a checkpoint is written and training ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    torch.set_flush_denormal(True)
    optimiser = torch.optim.Adam(task.model.parameters(), lr=recipe.learning_rate, betas=recipe.betas)
    average = _Average(task.model, recipe.ema)
    first, best = _resume(folder / "last.pt", task.model, optimiser, average, recipe)
    started, sums, count = time.monotonic(), dict[str, float](), 0
    for iteration in range(first, recipe.iterations):
        rate = learning_rate(recipe, iteration)
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = task.batch(np.random.default_rng((recipe.seed, iteration)))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
            loss, figures = task.loss(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(task.model.parameters(), recipe.clip_norm)
        if not torch.isfinite(norm):
            logger.warning("skipping iteration %d: its gradient is not finite", iteration)
            continue
        optimiser.step()
        average.update(task.model, iteration)
        for name, value in {"loss": float(loss.detach()), **figures}.items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        done = iteration + 1
        if done % 50 == 0:
            means = {name: value / count for name, value in sums.items()}
            _log(folder, iteration=done, rate=rate, seconds=time.monotonic() - started, **means)
            sums, count = {}, 0
        if done % recipe.validate_every == 0 or done == recipe.iterations:
            with average.applied(task.model):
                figures = task.validate(task.model)
            _log(folder, iteration=done, **{f"valid_{k}": v for k, v in figures.items()})
            if figures.get("score", -math.inf) > best:
                best = figures["score"]
                _save(folder / "best.pt", task.model, optimiser, average, done, best, recipe)
        ends = done == recipe.iterations or is_stopped()
        if done % recipe.checkpoint_every == 0 or ends:
            _save(folder / "last.pt", task.model, optimiser, average, done, best, recipe)
        if ends:
            return


def learning_rate(recipe: Recipe, iteration: int) -> float:
    """Return the learning rate of one iteration: linear warm-up, then constant or half a cosine."""
    if iteration < recipe.warm_up:
        return recipe.learning_rate * (iteration + 1) / recipe.warm_up
    if recipe.schedule == "constant":
        return recipe.learning_rate
    share = (iteration - recipe.warm_up) / max(1, recipe.iterations - recipe.warm_up)
    span = recipe.learning_rate - recipe.final_learning_rate
    return recipe.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * share))


class _Average:
    """Exponential moving average of the weights; the decay grows from 0, so early steps fade quickly."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, iteration: int) -> None:
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def applied(self, model: torch.nn.Module) -> "_Applied":
        return _Applied(model, self.weights)


class _Applied:
    """Load weights into a model for the duration of a `with` block."""

    def __init__(self, model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
        self.model, self.weights = model, weights

    def __enter__(self) -> None:
        self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.weights)

    def __exit__(self, *_: object) -> None:
        self.model.load_state_dict(self.kept)


def load_fitting(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> list[str]:
    """Load the weights whose name and shape match; return the names of the others."""
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    model.load_state_dict(own | fitting)
    return sorted(own.keys() - fitting.keys())


def _resume(
    path: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: _Average,
    recipe: Recipe,
) -> tuple[int, float]:
    if path.exists():
        kept = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(kept["model"])
        average.weights = kept["ema"]
        optimiser.load_state_dict(kept["optimiser"])
        logger.info("resuming from iteration %d of %s", kept["iteration"], path)
        return kept["iteration"], kept["best"]
    if recipe.start_from:
        left = load_fitting(model, _starting_weights(Path(recipe.start_from), model))
        average.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        logger.info("initialised from %s; not loaded: %s", recipe.start_from, ", ".join(left) or "nothing")
    return 0, -math.inf


def _starting_weights(path: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    if path.suffix != ".onnx":
        weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["ema"]
        return weights
    from training.shipped import read_shipped_weights

    return read_shipped_weights(path, model)


def _save(
    path: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: _Average,
    iteration: int,
    best: float,
    recipe: Recipe,
) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "model": model.state_dict(),
            "ema": average.weights,
            "optimiser": optimiser.state_dict(),
            "iteration": iteration,
            "best": best,
            "recipe": recipe.model_dump(),
        },
        partial,
    )
    os.replace(partial, path)


def _log(folder: Path, **figures: float) -> None:
    line = json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in figures.items()})
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    logger.info("%s", line)


def read_log(folder: Path) -> Iterator[dict[str, float]]:
    """Yield the entries of a run's log."""
    for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
