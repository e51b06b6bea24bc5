"""Insert quantise/dequantise pairs (Q/DQ) into a float32 graph, around the layers that compute in INT8.

Only inputs of layers are quantised: activations per tensor, weights per output channel. Outputs stay float32, since
an addition or the next layer's quantisation follows. Quantising outputs too, as `onnxruntime.quantization` does, loses
6 dB on the light-x4 step (55.3 instead of 61.6) at the same speed in OpenVINO. Biases stay float32: TensorRT refuses an
INT32 bias after a DequantizeLinear.

OpenVINO 2026.4 returns wrong results with signed activations where a layer reads a Concat (0.4 dB against float32
instead of 26.6), so `QuantScheme.SYMMETRIC_S8` is for TensorRT only, which accepts no other.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.int8.layers import Layer, find_layers, weight_scales
from runtime.manifest import QuantScheme


def quantise_graph(
    model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], layers: Collection[str], *, scheme: QuantScheme
) -> onnx.ModelProto:
    """Return a copy whose named layers read quantised inputs and weights.

    Args:
        model: Float32, every node named; named dimensions are kept.
        ranges: Lowest and highest value of each tensor that a named layer reads.
        layers: Names of the nodes.
        scheme: Of the copy.

    Raises:
        ValueError: A name is not a layer of the file, or a tensor has no range.
    """
    known = {layer.name: layer for layer in find_layers(model)}
    unknown = sorted(set(layers) - set(known))
    if unknown:
        raise ValueError(f"got layers {', '.join(unknown)}; the file has {', '.join(known)}")
    lacking = sorted({known[name].activation for name in layers} - set(ranges))
    if lacking:
        raise ValueError(f"there is no range for {', '.join(lacking)}; calibrate with this file")
    writer = _Writer(model, ranges, scheme)
    for node in model.graph.node:
        writer.add(node, known[node.name] if node.name in layers else None)
    return writer.finish()


class _Writer:
    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]], scheme: QuantScheme) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.ranges, self.scheme = ranges, scheme
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.factors = _scalar_factors(model) if scheme is QuantScheme.ASYMMETRIC_U8 else set()
        self.nodes: list[NodeProto] = []
        self.tensors: dict[str, TensorProto] = {}
        self.made: dict[str, str] = {}

    def add(self, node: NodeProto, layer: Layer | None) -> None:
        copy = NodeProto()
        copy.CopyFrom(node)
        if layer is not None:
            copy.input[0] = self._activation(layer.activation)
            copy.input[1] = self._weight(layer)
        for index, name in enumerate(node.input):
            if (node.name, name) in self.factors:
                copy.input[index] = self._at_rank_four(name)
        self.nodes.append(copy)

    def finish(self) -> onnx.ModelProto:
        graph = self.model.graph
        read = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend([*kept, *self.tensors.values()])
        onnx.checker.check_model(self.model, full_check=True)
        return self.model

    def _activation(self, name: str) -> str:
        if name not in self.made:
            scale, zero = activation_scale(*self.ranges[name], scheme=self.scheme)
            parts = [name, self._keep(f"{name}_scale", scale), self._keep(f"{name}_zero", zero)]
            stored = f"{name}_quantised"
            self.nodes.append(helper.make_node("QuantizeLinear", parts, [stored], name=f"{name}_quantise"))
            self.made[name] = self._dequantise(name, [stored, *parts[1:]])
        return self.made[name]

    def _weight(self, layer: Layer) -> str:
        name = layer.weight
        if name not in self.made:
            weight = numpy_helper.to_array(self.weights[name])
            scales = weight_scales(weight, layer.axis)
            shape = [1] * weight.ndim
            shape[layer.axis] = -1
            whole = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
            parts = [self._keep(f"{name}_quantised", whole), self._keep(f"{name}_scale", scales)]
            parts.append(self._keep(f"{name}_zero", np.zeros(scales.size, np.int8)))
            self.made[name] = self._dequantise(name, parts, axis=layer.axis)
        return self.made[name]

    def _dequantise(self, name: str, parts: list[str], **attributes: int) -> str:
        result = f"{name}_dequantised"
        node = helper.make_node("DequantizeLinear", parts, [result], name=f"{name}_dequantise", **attributes)
        self.nodes.append(node)
        return result

    def _at_rank_four(self, name: str) -> str:
        result = f"{name}_at_rank_four"
        if result not in self.made:
            self.made[result] = result
            shape = self._keep("rank_four", np.ones(4, np.int64))
            self.nodes.append(helper.make_node("Reshape", [name, shape], [result], name=f"{name}_reshape"))
        return result

    def _keep(self, name: str, value: NDArray[np.generic]) -> str:
        self.tensors[name] = numpy_helper.from_array(value, name)
        return name


def activation_scale(
    low: float, high: float, *, scheme: QuantScheme
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Return a tensor's scale and zero point; zero is always exact.

    Args:
        low: Lowest value, at most 0.
        high: Highest value, at least 0.
        scheme: Asymmetric for the CPU, symmetric for TensorRT.
    """
    tiny = 1e-9  # a tensor that is always zero
    if scheme is QuantScheme.SYMMETRIC_S8:
        return np.array(max(-low, high, tiny) / 127, np.float32), np.array(0, np.int8)
    scale = np.array(max(high - low, tiny) / 255, np.float32)
    zero = int(np.clip(np.rint(-low / float(scale)), 0, 255))
    return scale, np.array(zero, np.uint8)


def _scalar_factors(model: onnx.ModelProto) -> set[tuple[str, str]]:
    """Find multiplications of an image by an input of one value, such as a light model's strength: node and input.

    At rank 1 such a factor makes OpenVINO 2026.4 reorder the whole image before and after it; at rank 4 it does not,
    which saves 12 % of the light-x4 step.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim) for value in (*graph.value_info, *graph.input, *graph.output)
    }
    scalars = {
        value.name for value in graph.input if [size.dim_value for size in value.type.tensor_type.shape.dim] == [1]
    }
    return {
        (node.name, name)
        for node in graph.node
        for name in node.input
        if node.op_type == "Mul" and name in scalars and ranks.get(node.output[0]) == 4
    }
