"""Parity between PyTorch and what was exported: the gate that an exported file passes before it is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession


class ParityError(RuntimeError):
    """The exported file gives another result than PyTorch."""


def check_parity(
    module: torch.nn.Module,
    path: Path,
    inputs: Mapping[str, NDArray[np.float32]],
    outputs: Sequence[str],
    *,
    dimensions: Mapping[str, int],
    tolerance: float,
) -> float:
    """Run both on the same inputs and compare every output.

    Args:
        module: Takes the inputs in their order, gives the outputs in theirs.
        path: The ONNX file.
        inputs: By name, in the module's order.
        outputs: Names, in the module's order.
        dimensions: Sizes of the file's named dimensions.
        tolerance: Largest difference allowed, as a share of the output's peak.

    Returns:
        The largest difference found, as a share of the peak.

    Raises:
        ParityError: An output differs by more; the message names it.
    """
    with torch.no_grad():
        expected = module(*(torch.from_numpy(value) for value in inputs.values()))
    with OnnxRuntimeCpuSession(path, dimensions=dimensions, precision="fp32", threads=1) as session:
        found = session.run(inputs)
    worst = 0.0
    for name, tensor in zip(outputs, expected, strict=True):
        reference = tensor.numpy()
        peak = max(float(np.abs(reference).max()), 1e-6)
        difference = float(np.abs(found[name] - reference).max()) / peak
        if not difference <= tolerance:
            raise ParityError(
                f"{path.name}: output {name} differs by {difference:.2e} of its peak, allowed {tolerance}"
            )
        worst = max(worst, difference)
    return worst
