"""Where an exported file and PyTorch part: the first layer whose result differs.

The exporter names each ONNX value after the operation of the exported program that it came from, so both can be run
side by side.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession


def first_difference(program: Any, path: Path, inputs: Mapping[str, NDArray[np.float32]], tolerance: float) -> str:
    """Name the first layer whose result differs by more than `tolerance` of its peak.

    Args:
        program: The `torch.export.ExportedProgram` behind the file.
        path: The ONNX file.
        inputs: By name, in the program's order.
        tolerance: As a share of a value's peak.

    Returns:
        The module's name and its operation, or "none" where every layer by itself agrees.
    """
    made = {name for node in onnx.load(path).graph.node for name in node.output}
    traced = _Recorder(program, made)
    traced.run(*_arguments(program, inputs))
    names = [name for name, value in traced.values.items() if value.is_floating_point()]
    found = _run_with_outputs(path, names, inputs)
    for name in names:
        reference = traced.values[name].numpy()
        peak = max(float(np.abs(reference).max(initial=0.0)), 1e-6)
        if found[name].shape != reference.shape:
            continue
        if not float(np.abs(found[name] - reference).max(initial=0.0)) <= tolerance * peak:
            return f"{traced.modules[name]} ({name})"
    return "none: every layer agrees by itself, the differences add up"


class _Recorder(fx.Interpreter):
    """Runs the program and keeps the named results."""

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


def _run_with_outputs(
    path: Path, names: list[str], inputs: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[Any]]:
    model = onnx.load(path)
    known = {value.name for value in model.graph.output}
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    for name in names:
        if name not in known:
            model.graph.output.append(inferred.get(name) or onnx.ValueInfoProto(name=name))
    with tempfile.TemporaryDirectory() as folder:
        opened = Path(folder) / "opened.onnx"
        onnx.save(model, opened)
        with OnnxRuntimeCpuSession(opened, dimensions={}, precision="fp32", threads=1) as session:
            return session.run(inputs)
