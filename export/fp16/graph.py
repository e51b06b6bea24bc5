"""Rewrite a float32 graph to float16, except for named nodes.

ONNX Runtime's own converter (1.31) produces graphs that break single assignment where two excluded nodes read one
value, or that keep stale types; this one keeps the order of nodes and casts each value at most once per direction.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

LARGEST = 65504.0
UNTYPED = frozenset(("Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Shape", "Size"))
"""Operators with float inputs and other outputs, for values that shape inference left untyped."""
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def rewrite_to_fp16(model: onnx.ModelProto, fp32_nodes: Collection[str], *, emulated: bool = False) -> onnx.ModelProto:
    """Return a copy in float16 whose inputs and outputs stay float32.

    Args:
        model: Float32, with fixed shapes and every node named.
        fp32_nodes: Names of the nodes that stay in float32.
        emulated: Compute in float32 and round each value to float16 where the other graph holds float16. ONNX Runtime
            has no float16 kernels on a CPU and leaves out the rounding between its float32 ones, so that only this
            graph shows there what a GPU will lose.

    Raises:
        ValueError: The graph has a subgraph, or a weight that float16 cannot represent.
    """
    rewriter = _Emulator(model) if emulated else _Rewriter(model)
    for node in model.graph.node:
        rewriter.add(node, half=node.name not in fp32_nodes)
    return rewriter.finish()


class _Rewriter:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.floats = {
            value.name
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.elem_type == FLOAT
        }
        self.known = {value.name for value in (*graph.value_info, *graph.output)}
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
        self.outputs = {value.name for value in model.graph.output}
        self.kinds = {value.name: FLOAT for value in model.graph.input if value.name in self.floats}
        self.names: dict[tuple[str, int], str] = {}
        self.nodes: list[NodeProto] = []
        self.tensors = [tensor for tensor in model.graph.initializer if tensor.data_type != FLOAT]

    def add(self, node: NodeProto, *, half: bool) -> None:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise ValueError(f"node {node.name} has a subgraph; export the network without branches")
        kind = HALF if half else FLOAT
        copy = NodeProto()
        copy.CopyFrom(node)
        for index, name in enumerate(node.input):
            copy.input[index] = self._read(name, kind)
        for index, name in enumerate(node.output):
            if name not in self.known and node.op_type not in UNTYPED and self.floats.intersection(node.input):
                self.floats.add(name)
            if name in self.floats:
                self.kinds[name] = kind
                copy.output[index] = self._write(name, kind)
        self._place(copy, half=half)

    def finish(self) -> onnx.ModelProto:
        # In the file's order, so that a conversion is reproducible.
        for name in (value.name for value in self.model.graph.output):
            if self.kinds.get(name) == HALF:
                self.nodes.append(_cast(f"{name}_half", name, FLOAT))
        graph = self.model.graph
        for field, values in ((graph.node, self.nodes), (graph.initializer, self.tensors), (graph.value_info, ())):
            del field[:]
            field.extend(values)
        return self.model

    def _write(self, name: str, kind: int) -> str:
        """Return the name under which a node writes a value."""
        written = f"{name}_half" if kind == HALF and name in self.outputs else name
        self.names[name, kind] = written
        return written

    def _place(self, node: NodeProto, *, half: bool) -> None:
        if half:
            _retype(node)
        self.nodes.append(node)

    def _read(self, name: str, kind: int) -> str:
        """Return the name of a value in a type, casting it if needed."""
        if name in self.weights:
            return self._weight(name, kind)
        if name not in self.floats:
            return name
        made = self.kinds[name]
        if made == kind:
            return self.names.get((name, kind), name)
        if (name, kind) not in self.names:
            self.names[name, kind] = self._convert(name, self.names.get((name, made), name), kind)
        return self.names[name, kind]

    def _convert(self, name: str, source: str, kind: int) -> str:
        cast = f"{name}_as_{'half' if kind == HALF else 'float'}"
        self.nodes.append(_cast(source, cast, kind))
        return cast

    def _weight(self, name: str, kind: int) -> str:
        if (name, kind) not in self.names:
            value = numpy_helper.to_array(self.weights[name])
            stored = name
            if kind == HALF:
                if value.size and float(np.abs(value[np.isfinite(value)]).max(initial=0.0)) > LARGEST:
                    raise ValueError(f"weight {name} has values above {LARGEST:g}; keep its node in float32")
                stored = f"{name}_half"
                value = self._round(value)
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), stored))
            self.names[name, kind] = stored
        return self.names[name, kind]

    def _round(self, value: NDArray[np.float32]) -> NDArray[Any]:
        return value.astype(np.float16)


class _Emulator(_Rewriter):
    """The same graph in float32, with every float16 value rounded where it is computed."""

    def finish(self) -> onnx.ModelProto:
        self.kinds.clear()
        return super().finish()

    def _write(self, name: str, kind: int) -> str:
        self.names[name, FLOAT] = self.names[name, kind] = name
        return f"{name}_exact" if kind == HALF else name

    def _place(self, node: NodeProto, *, half: bool) -> None:
        self.nodes.append(node)
        for name in node.output if half else ():
            if name.endswith("_exact"):
                self._rounded(name, name.removesuffix("_exact"))

    def _convert(self, name: str, source: str, kind: int) -> str:
        assert kind == HALF  # every value exists in float32
        return self._rounded(source, f"{name}_rounded")

    def _rounded(self, source: str, target: str) -> str:
        self.nodes.extend((_cast(source, f"{target}_short", HALF), _cast(f"{target}_short", target, FLOAT)))
        return target

    def _round(self, value: NDArray[np.float32]) -> NDArray[Any]:
        return value.astype(np.float16).astype(np.float32)


def _retype(node: NodeProto) -> None:
    """Change float32 to float16 in the attributes of Cast, Constant and ConstantOfShape (float32 by default)."""
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
            attribute.i = HALF
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)
