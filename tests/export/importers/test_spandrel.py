"""Image networks that users may import, small and with random weights, through every gate of an import."""

from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from export.comparison_inputs import random_tiles
from export.engine_builders import build_engine, has_builder
from export.fp16.convert import convert_to_fp16
from export.importers.spandrel import load_image_network
from export.onnx_export import Graph, export_graph
from runtime.engine.device import EngineType

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the exporter's deprecation warnings
    pytest.mark.skipif(
        find_spec("spandrel") is None, reason="no spandrel here: pip install --no-deps spandrel safetensors einops"
    ),
    pytest.mark.slow,
]

SMALL = {
    "ESRGAN": (
        "ESRGAN.__arch.RRDB",
        "RRDBNet",
        {"in_nc": 3, "out_nc": 3, "num_filters": 8, "num_blocks": 1, "scale": 4},
    ),
    "SPAN": ("SPAN.__arch.span", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    "SwinIR": (
        "SwinIR.__arch.SwinIR",
        "SwinIR",
        {
            "img_size": 16,
            "embed_dim": 12,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 8,
            "mlp_ratio": 2,
            "upscale": 2,
            "upsampler": "pixelshuffle",
        },
    ),
    "DAT": (
        "DAT.__arch.DAT",
        "DAT",
        {
            "img_size": 16,
            "embed_dim": 32,
            "split_size": [2, 4],
            "depth": [3, 2],
            "num_heads": [2, 2],
            "expansion_factor": 2.0,
            "upscale": 2,
        },
    ),
}
"""Three layers of DAT: the third shifts its windows."""


def compact() -> dict[str, torch.Tensor]:
    state = {f"body.{layer}.bias": torch.randn(width) for layer, width in ((0, 8), (2, 8), (4, 12))}
    state |= {"body.0.weight": torch.randn(8, 3, 3, 3), "body.2.weight": torch.randn(8, 8, 3, 3)}
    return state | {
        "body.4.weight": torch.randn(12, 8, 3, 3),
        "body.1.weight": torch.rand(8),
        "body.3.weight": torch.rand(8),
    }


@pytest.mark.parametrize("name", ["RealESRGAN Compact", *SMALL])
def test_image_networks_pass_every_gate(tmp_path, name: str) -> None:
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(compact(), path)
    load_image_network(path)  # imports spandrel, with or without torchvision
    if name in SMALL:
        module, kind, sizes = SMALL[name]
        network: nn.Module = getattr(import_module(f"spandrel.architectures.{module}"), kind)(**sizes)
        torch.save(network.state_dict(), path)
    descriptor = load_image_network(path)
    graph = Graph("window", descriptor.model.eval(), {"frame": (1, 3, 16, 16)}, ("output",), traced=True)

    exported = export_graph(graph, tmp_path / "window.onnx")
    converted = convert_to_fp16(exported.path, tmp_path / "half.onnx", random_tiles(graph.inputs, 5))

    assert descriptor.architecture.name == name
    assert exported.parity <= 1e-4
    assert converted.psnr_db >= 50
    if has_builder(EngineType.RTX):
        for source in (exported.path, converted.path):
            assert build_engine(source, tmp_path / "engine", capability="sm86").size_bytes > 0
