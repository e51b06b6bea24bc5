"""The weights of a shipped step engine, as a starting point for training."""

from pathlib import Path

import onnx
import torch
from onnx.numpy_helper import to_array

from models.light_vsr import LightVsr
from models.light_vsr_step import network_weights
from models.speech_mask import SpeechMask

Weights = dict[str, torch.Tensor]


def read_shipped_weights(path: Path, model: torch.nn.Module) -> Weights:
    """Read a network's weights from a `step.onnx` of the zoo.

    Raises:
        ValueError: The weights of this kind of network cannot be read back.
    """
    graph = onnx.load(path).graph
    weights = {weight.name: torch.from_numpy(to_array(weight).copy()) for weight in graph.initializer}
    if isinstance(model, LightVsr):
        return network_weights(weights, model.config)
    if isinstance(model, SpeechMask):
        return _mask_weights(graph, weights)
    raise ValueError(f"{path}: a {type(model).__name__} cannot start from a shipped model; use a checkpoint")


def _mask_weights(graph: onnx.GraphProto, initializers: Weights) -> Weights:
    """Undo the exporter's changes: products are transposed, and the gates of a GRU have another order."""
    found: Weights = {}
    products = [
        initializers[name]
        for node in graph.node
        if node.op_type == "MatMul"
        for name in node.input[1:]
        if name in initializers
    ]
    layers = [node for node in graph.node if node.op_type == "GRU"]
    hidden = initializers[layers[0].input[2]].shape[-1]
    for side in ("inward", "outward"):
        found[f"{side}.bias"] = initializers[f"network.{side}.bias"]
    for product in products:
        if tuple(product.shape) == (found["outward.bias"].numel(), hidden):
            found["inward.weight"] = product.T.contiguous()
        elif tuple(product.shape) == (hidden, found["outward.bias"].numel()):
            found["outward.weight"] = product.T.contiguous()
    for index, node in enumerate(layers):
        inward, recurrent, biases = (initializers[name][0] for name in node.input[1:4])
        found[f"gru.weight_ih_l{index}"] = _gates(inward)
        found[f"gru.weight_hh_l{index}"] = _gates(recurrent)
        found[f"gru.bias_ih_l{index}"], found[f"gru.bias_hh_l{index}"] = (_gates(part) for part in biases.chunk(2))
    return found


def _gates(stacked: torch.Tensor) -> torch.Tensor:
    """Reorder ONNX's gates (update, reset, new) into torch's order (reset, update, new)."""
    update, reset, new = stacked.chunk(3)
    return torch.cat((reset, update, new))
