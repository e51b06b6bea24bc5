from pathlib import Path

import onnx
import pytest
import torch

from export.speech_step import StepGraph, export_step, mask_graph, stream_parity, tensor_specs
from models.speech_mask import SpeechMask, SpeechMaskConfig

TOLERANCE = 1e-5
"""Tolerance of float32: the same sums in a different order."""


@pytest.fixture(scope="module")
def graph() -> StepGraph:
    torch.manual_seed(0)
    return mask_graph(SpeechMask(SpeechMaskConfig(hidden=16)).eval())


@pytest.fixture(scope="module")
def step(graph: StepGraph, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "step.onnx"
    export_step(graph, path)
    return path


@pytest.mark.parametrize("block_samples", [256, 512, 1024, 4096])
def test_a_stream_through_onnx_equals_the_whole_file_network(graph: StepGraph, step: Path, block_samples: int) -> None:
    assert stream_parity(graph, step, block_samples=block_samples, seconds=2) <= TOLERANCE


def test_the_manifest_describes_the_graph(graph: StepGraph, step: Path) -> None:
    inputs, outputs, _ = tensor_specs(graph)
    written = onnx.load(step).graph
    for specs, tensors in ((inputs, written.input), (outputs, written.output)):
        assert [spec.name for spec in specs] == [tensor.name for tensor in tensors]
        for spec, tensor in zip(specs, tensors, strict=True):
            sizes = tensor.type.tensor_type.shape.dim
            assert spec.shape == tuple(size.dim_param or size.dim_value for size in sizes)
