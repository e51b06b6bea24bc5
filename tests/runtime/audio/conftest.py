"""A speech model without a network: sessions in plain NumPy behind the real manifest and pipeline."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from runtime.engine.session import Array, Binding
from runtime.manifest import AudioSpec, Manifest, Model, ModelFile, StateSpec, TensorSpec, Training

DELAY = 508
BLOCK = 1024


class DelaySession:
    """A step engine that only delays, by 508 samples, then applies `change` to the block."""

    backend = "numpy"
    precision = "fp32"

    def __init__(self, block: int, change: Callable[[Array], Array]) -> None:
        shapes = {"x": (1, 1, block), "past": (1, 1, DELAY)}
        self.inputs = tuple(Binding(name, np.dtype("float32"), shape) for name, shape in shapes.items())
        self.outputs = self.inputs
        self.change = change
        self.runs = 0
        self.closed = False

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self.runs += 1
        joined = np.concatenate([tensors["past"], tensors["x"]], axis=2)
        y = self.change(joined[..., :-DELAY])
        return {"y": y.astype(np.float32), "past_next": joined[..., -DELAY:]}

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Opener:
    """Opens one DelaySession and keeps it."""

    def __init__(self, change: Callable[[Array], Array] = lambda y: y) -> None:
        self.change = change

    def open(self, model: Model, role: str, shape: Mapping[str, int]) -> DelaySession:  # noqa: ARG002
        self.session = DelaySession(shape["samples"], self.change)
        return self.session


@pytest.fixture
def open_with() -> type[Opener]:
    return Opener


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Model]:
    """Create a delay-only speech model; keyword arguments change its AudioSpec."""

    def make(**changes: Any) -> Model:
        (tmp_path / "step.onnx").write_bytes(b"not read")
        spec = AudioSpec(
            sample_rate=16_000,
            block_samples=BLOCK,
            block_multiple=256,
            delay_samples=DELAY,
            lead_in_samples=87,
            reset_after_frames=2,
            frame_samples=256,
        ).model_copy(update=changes)
        tensor = TensorSpec(name="x", shape=(1, 1, "samples"), meaning="")
        past = TensorSpec(name="past", shape=(1, 1, DELAY), meaning="")
        manifest = Manifest(
            name="delay",
            title="Delay",
            task="speech-denoise",
            architecture="none",
            paper="none",
            parameters=1,
            licence="Apache-2.0",
            attribution=(),
            files=(
                ModelFile(
                    path="step.onnx",
                    role="step",
                    precision="fp32",
                    sha256=hashlib.sha256(b"not read").hexdigest(),
                ),
            ),
            inputs=(tensor, past),
            outputs=(
                tensor.model_copy(update={"name": "y"}),
                past.model_copy(update={"name": "past_next"}),
            ),
            states=(StateSpec(input="past", output="past_next"),),
            audio=spec,
            training=Training(recipe="none", data=(), iterations=0, seed=0, date="2026-01-01"),
        )
        return Model(folder=tmp_path, manifest=manifest)

    return make
