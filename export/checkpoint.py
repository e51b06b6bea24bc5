"""Checkpoints of others and of our own training: read with nothing run that they hold, and loaded strictly."""

from pathlib import Path
from typing import Any

import torch

from models.published import CheckpointError, load_published
from models.registry import Entry

PREFIXES = ("generator_ema.", "generator.")
"""What mmediting writes before a network's names beside its training's own; the first is the better one."""


def load_checkpoint(model: torch.nn.Module, checkpoint: Path, entry: Entry) -> None:
    """Load a checkpoint under our names or the published ones, strictly.

    Raises:
        CheckpointError: It is of another network.
    """
    state = read_state(checkpoint)
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            break
    if state.keys() == model.state_dict().keys():
        model.load_state_dict(state)
    elif entry.published is not None:
        load_published(model, state, entry.published.table, optional=entry.published.optional)
    else:
        raise CheckpointError(f"{checkpoint} is not of {entry.name}, and there is no rename table for it")


def read_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint's tensors, with nothing run that it holds.

    Raises:
        CheckpointError: The file cannot be read, or holds no tensors.
    """
    try:
        held: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what pickle, zipfile and the file system raise
        raise CheckpointError(f"{checkpoint} cannot be read as a checkpoint: {error}") from error
    for key in ("params_ema", "params", "state_dict", "ema"):  # the last is what our own training writes
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not held or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise CheckpointError(f"{checkpoint} holds no table of tensors; give a published .pth file")
    return held
