"""The layers of a file that can be quantised: convolutions and products with stored weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from onnx import NodeProto, helper

QUANTISED = frozenset(("Conv", "Gemm", "MatMul"))
LEAST_SHARE = 0.3
"""Layers with a smaller share of the largest layer's operations stay in float32: they are cheap, and some carry the
image itself (a bicubic skip, a pixel unshuffle written as a convolution)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with stored weights.

    share: Of the multiply-adds of all such nodes.
    axis: The axis of the weight's output channels.
    """

    name: str
    kind: str
    activation: str
    weight: str
    axis: int
    share: float


def find_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Return the layers that can be quantised, in the file's order.

    Args:
        model: Float32. The shares are exact if all sizes are numbers; otherwise every layer counts as if it had the
            same number of pixels.
    """
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes = _shapes(model)
    found = [
        (node, prod(weights[node.input[1]]) * _positions(node, shapes))
        for node in model.graph.node
        if node.op_type in QUANTISED
        and node.input[1] in weights
        and node.input[0] not in weights
        and len(weights[node.input[1]]) >= 2
    ]
    total = sum(operations for _, operations in found) or 1
    return tuple(
        Layer(
            node.name,
            node.op_type,
            node.input[0],
            node.input[1],
            _channel_axis(node, len(weights[node.input[1]])),
            operations / total,
        )
        for node, operations in found
    )


def worth_quantising(layers: Iterable[Layer]) -> tuple[str, ...]:
    """Return the names of the layers with enough operations."""
    counted = tuple(layers)
    largest = max((layer.share for layer in counted), default=0.0)
    return tuple(layer.name for layer in counted if layer.share >= LEAST_SHARE * largest)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


def _positions(node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Return how often the weights are applied: pixels of a convolution, rows of a product."""
    shape = shapes.get(node.output[0], ())
    rows = shape[:1] + shape[2:] if node.op_type == "Conv" else shape[:-1]
    return prod(rows) if rows and all(rows) else 1


def _channel_axis(node: NodeProto, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return 0 if node.op_type == "Gemm" and attributes.get("transB", 0) else rank - 1


def weight_scales(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the scale that maps each output channel's largest weight to 127; (channels,) float32."""
    others = tuple(index for index in range(weight.ndim) if index != axis)
    return np.maximum(np.abs(weight).max(axis=others) / 127, np.finfo(np.float32).tiny * 1e6).astype(np.float32)
