"""One part of a network to one ONNX file of fixed shapes, kept only if it agrees with PyTorch."""

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.differences import first_difference
from export.parity import ParityError, check_parity

OPSET = 18
PARITY = 1e-4


@dataclass(frozen=True, slots=True)
class Graph:
    """One engine-to-be.

    `module` takes the inputs in their order and gives a tensor or a tuple. `traced`: the older exporter runs it and
    writes down what it did. It is for an LSTM over many frames, which torch.export would unroll, and for networks from
    elsewhere: torch.export (2.13) crashes the process at one that sets its weights while it runs, as SPAN does.
    `states`: inputs that are an output of the step before. `sound`: the input that is a waveform of unit level, if one
    is. `derive`: gives the inputs that follow from another one, as a spectrum does from its waveform.
    """

    role: str
    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    traced: bool = False
    states: Mapping[str, str] = field(default_factory=dict)
    sound: str | None = None
    derive: Callable[[dict[str, NDArray[np.float32]]], dict[str, NDArray[np.float32]]] | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export made: the largest difference from PyTorch as a share of the peak, and what it cost."""

    path: Path
    parity: float
    nodes: int
    size_bytes: int
    time_s: float


def export_graph(graph: Graph, path: Path, *, tolerance: float = PARITY, seed: int = 0) -> Exported:
    """Write a graph in float32 and check it.

    Raises:
        ParityError: ONNX Runtime gives another result; the message names the first layer that differs, and no file is
            left.
    """
    started = time.monotonic()
    inputs = random_inputs(graph.inputs, seed)
    module = _Tuple(graph.module).eval()
    with warnings.catch_warnings(), torch.no_grad(), _quiet_exporter():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        if graph.traced:
            program = None
            _export_traced(module, graph, inputs, path)
        else:
            program = _export(module, graph, inputs, path)
    model = onnx.load(path)
    forget_traces(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    try:
        parity = check_parity(module, path, inputs, graph.outputs, dimensions={}, tolerance=tolerance)
    except ParityError as error:
        where = first_difference(program, path, inputs, tolerance) if program is not None else "unknown"
        path.unlink()
        raise ParityError(f"{error}; the first layer that differs is {where}") from error
    return Exported(path, parity, len(model.graph.node), path.stat().st_size, time.monotonic() - started)


def forget_traces(model: onnx.ModelProto) -> None:
    """Take out where in which source file each node came from: paths of this machine, which are nobody's business."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def random_inputs(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Return an array in [0, 1] for each input."""
    generator = np.random.default_rng(seed)
    return {name: generator.random(shape, np.float32) for name, shape in shapes.items()}


class _Tuple(nn.Module):
    """A module whose result is a tuple, however many tensors it gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        result = self.module(*tensors)
        return result if isinstance(result, tuple) else (result,)


def _export(module: nn.Module, graph: Graph, inputs: dict[str, NDArray[np.float32]], path: Path) -> Any:
    program = torch.onnx.export(
        module,
        tuple(torch.from_numpy(value) for value in inputs.values()),
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=list(inputs),
        output_names=list(graph.outputs),
        verbose=False,
    )
    assert program is not None
    program.save(str(path))
    return program.exported_program


def _export_traced(module: nn.Module, graph: Graph, inputs: dict[str, NDArray[np.float32]], path: Path) -> None:
    torch.onnx.export(
        module,
        tuple(torch.from_numpy(value) for value in inputs.values()),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=list(graph.outputs),
    )


class _quiet_exporter:  # noqa: N801  used as a function is
    """Keep the exporter from telling that torchvision is not installed."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("torch.onnx")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)
