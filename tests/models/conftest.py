import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Oracle:
    """The output of a published implementation for an input, and its weights."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    input: Tensor
    output: Tensor


def beside_the_project(name: str) -> Path:
    for parent in Path(__file__).parents:
        path = parent / "shared" / "oracles" / name
        if path.exists():
            return path
    pytest.skip(f"no shared/oracles/{name} beside the project")


@pytest.fixture
def load_oracle() -> Callable[[str], Oracle]:
    """Find the published implementation's data, next to a developer's checkout."""

    def load(name: str) -> Oracle:
        with np.load(beside_the_project(f"{name}.npz")) as data:
            weights = {
                key.removeprefix("param/"): torch.from_numpy(data[key].astype(np.float32))
                for key in data.files
                if key.startswith("param/")
            }
            return Oracle(
                json.loads(str(data["config"])),
                weights,
                torch.from_numpy(data["input"]),
                torch.from_numpy(data["output"]),
            )

    return load


@pytest.fixture
def published_state() -> Callable[[str, str], dict[str, Tensor]]:
    """Return an empty checkpoint with a published one's names and shapes."""

    def make(file: str, name: str) -> dict[str, Tensor]:
        lists = json.loads(beside_the_project(file).read_text())
        while isinstance(lists[name], str):
            name = lists[name].removeprefix("same as ")
        return {key: torch.zeros(shape) for key, shape in lists[name].items()}

    return make
