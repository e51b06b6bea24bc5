"""Values passed from a training checkpoint to an entry of the zoo."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from runtime.manifest import AudioSpec, StateSpec, TensorSpec, VideoSpec


@dataclass(frozen=True, slots=True)
class TrainingCheckpoint:
    """Averaged weights, with their recipe and iteration."""

    weights: dict[str, torch.Tensor]
    recipe: dict[str, Any]
    iteration: int

    @property
    def task(self) -> dict[str, Any]:
        """The recipe's `[task]` table."""
        table: dict[str, Any] = self.recipe["task"]
        return table

    @property
    def kind(self) -> Literal["video", "speech"]:
        """The kind of network; checkpoints of recipes without `kind` are told apart by their task tables."""
        kind = self.recipe.get("kind")
        return "speech" if kind == "speech" or (kind is None and "hidden" in self.task) else "video"


@dataclass(frozen=True, slots=True)
class TrainedStep:
    """An exported step and the part of its manifest that depends on the kind of network.

    `parity`: largest difference from PyTorch.
    """

    parity: float
    parameters: int
    title: str
    task: str
    architecture: str
    paper: str
    attribution: tuple[str, ...]
    data: tuple[str, ...]
    held_out: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    video: VideoSpec | None = None
    audio: AudioSpec | None = None
