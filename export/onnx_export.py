"""Export a part of a network to an ONNX file of fixed shapes, and check its parity with PyTorch.

If the outputs differ, the first layer that differs is named: the exporter names each ONNX value after the operation of
the exported program, so both can run side by side.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession, load_onnxruntime

OPSET = 18
PARITY = 1e-4


@dataclass(frozen=True, slots=True)
class Graph:
    """A part of a network that becomes an engine.

    `module` takes the inputs in order and returns a tensor or a tuple. `traced`: use the older, tracing exporter, for
    an LSTM over many frames, which torch.export would unroll, and for imported networks: torch.export (2.13) crashes on
    networks that set their weights while they run, such as SPAN. `states`: inputs that are outputs of the previous
    step, with the names of these outputs. `audio`: name of the input that is a waveform of unit level. `derive`: adds
    inputs that depend on another one, such as a spectrum on its waveform.
    """

    role: str
    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    traced: bool = False
    states: Mapping[str, str] = field(default_factory=dict)
    audio: str | None = None
    derive: Callable[[dict[str, NDArray[np.float32]]], dict[str, NDArray[np.float32]]] | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export; `parity` is the largest difference from PyTorch, relative to the peak."""

    path: Path
    parity: float
    nodes: int
    size_bytes: int
    time_s: float


def export_graph(graph: Graph, path: Path, *, tolerance: float = PARITY, seed: int = 0) -> Exported:
    """Export a graph in float32 and check it.

    Raises:
        ParityError: ONNX Runtime returns a different result. The message names the first layer that differs; no file is
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
    strip_stack_traces(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    try:
        parity = check_parity(module, path, inputs, graph.outputs, dimensions={}, tolerance=tolerance)
    except ParityError as error:
        where = find_first_difference(program, path, inputs, tolerance) if program is not None else "unknown"
        path.unlink()
        raise ParityError(f"{error}; the first layer that differs is {where}") from error
    return Exported(path, parity, len(model.graph.node), path.stat().st_size, time.monotonic() - started)


def strip_stack_traces(model: onnx.ModelProto) -> None:
    """Remove the stack traces of the nodes, which contain local paths."""
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key != "pkg.torch.onnx.stack_trace"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)


def random_inputs(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Return uniform noise in [0, 1] for each input."""
    generator = np.random.default_rng(seed)
    return {name: generator.random(shape, np.float32) for name, shape in shapes.items()}


class _Tuple(nn.Module):
    """A module that always returns a tuple."""

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


class _quiet_exporter:  # noqa: N801  used like a function
    """Suppress the exporter's message that torchvision is not installed."""

    def __enter__(self) -> None:
        self.logger = logging.getLogger("torch.onnx")
        self.level = self.logger.level
        self.logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self.logger.setLevel(self.level)


class ParityError(RuntimeError):
    """The exported file returns a different result than PyTorch."""


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
        module: Takes the inputs and returns the outputs, each in order.
        path: The ONNX file.
        inputs: By name, in the module's order.
        outputs: Names, in the module's order.
        dimensions: Sizes of the file's named dimensions.
        tolerance: Largest difference allowed, relative to the output's peak.

    Returns:
        The largest difference, relative to the peak.

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


def find_first_difference(program: Any, path: Path, inputs: Mapping[str, NDArray[np.float32]], tolerance: float) -> str:
    """Return the name of the first layer whose result differs by more than `tolerance`.

    Args:
        program: The `torch.export.ExportedProgram` behind the file.
        path: The ONNX file.
        inputs: By name, in the program's order.
        tolerance: Relative to a value's peak.

    Returns:
        The module's name and its operation, or "none" if every single layer agrees.
    """
    made = {name for node in onnx.load(path).graph.node for name in node.output}
    traced = _Recorder(program, made)
    traced.run(*_arguments(program, inputs))
    names = [name for name, value in traced.values.items() if value.is_floating_point()]
    found = run_with_outputs(path, names, inputs)
    for name in names:
        reference = traced.values[name].numpy()
        peak = max(float(np.abs(reference).max(initial=0.0)), 1e-6)
        if found[name].shape != reference.shape:
            continue
        if not float(np.abs(found[name] - reference).max(initial=0.0)) <= tolerance * peak:
            return f"{traced.modules[name]} ({name})"
    return "none: every single layer agrees, the differences accumulate"


class _Recorder(fx.Interpreter):
    """Runs the program and records the named results."""

    def __init__(self, program: Any, wanted: set[str]) -> None:
        super().__init__(program.graph_module)
        self.wanted = wanted
        self.values: dict[str, Tensor] = {}
        self.modules: dict[str, str] = {}

    def run_node(self, n: fx.Node) -> Any:
        with torch.no_grad():
            result = super().run_node(n)
        if n.name in self.wanted and isinstance(result, Tensor) and n.op == "call_function":
            self.values[n.name] = result.detach().clone()
            stack = list(n.meta.get("nn_module_stack", {}).values())
            self.modules[n.name] = (stack[-1][0] if stack else "").removeprefix("module.") or "the network itself"
        return result


def _arguments(program: Any, inputs: Mapping[str, NDArray[np.float32]]) -> list[Any]:
    tensors = {**program.state_dict, **program.constants}
    given = iter(inputs.values())
    arguments: list[Any] = []
    for spec in program.graph_signature.input_specs:
        arguments.append(tensors[spec.target] if spec.target is not None else torch.from_numpy(next(given)))
    return arguments


def run_with_outputs(
    path: Path, names: Iterable[str], inputs: Mapping[str, NDArray[np.float32]]
) -> Mapping[str, NDArray[np.float32]]:
    """Run a file in ONNX Runtime with additional intermediate outputs."""
    model = onnx.load(path)
    given = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    session = load_onnxruntime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = [*given, *(name for name in names if name not in given)]
    return dict(zip(wanted, session.run(wanted, dict(inputs)), strict=True))


def set_static_shapes(source: Path, target: Path, dimensions: Mapping[str, int]) -> None:
    """Write a copy of a file with numbers for its named dimensions, as builders without optimisation profiles need.

    Args:
        source: Has dimensions such as `height` and `2*height`.
        target: Path of the copy.
        dimensions: A size for every name.

    Raises:
        ValueError: A name has no size.
    """
    model = onnx.load(source)
    # Shapes inferred with names would contradict the sizes.
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = _size(size.dim_param, dimensions, value.name)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def _size(label: str, dimensions: Mapping[str, int], value: str) -> int:
    multiple, _, name = label.rpartition("*")
    if name not in dimensions or not (multiple.isdigit() or not multiple):
        raise ValueError(f"{value} has a dimension named {label}; set each size in it, got {dict(dimensions)}")
    return int(multiple or 1) * dimensions[name]


def file_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file's inputs."""
    values = onnx.load(path).graph.input
    return {value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim) for value in values}


def file_outputs(path: Path) -> tuple[str, ...]:
    """Return the names of a file's outputs."""
    return tuple(value.name for value in onnx.load(path).graph.output)
