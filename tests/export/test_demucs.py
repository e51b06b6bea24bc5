from pathlib import Path

import onnx
import pytest
import torch

from export.speech_step import demucs_graph, export_step, stream_parity, tensor_specs
from models.demucs import Demucs, DemucsConfig
from models.demucs_step import reset_states

TOLERANCE = 1e-5
"""Tolerance of float32: the same sums in a different order."""


@pytest.fixture(scope="module")
def network() -> Demucs:
    torch.manual_seed(0)
    return Demucs(DemucsConfig(hidden=6), normalize=False).eval()


@pytest.fixture(scope="module")
def step(network: Demucs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "step.onnx"
    export_step(demucs_graph(network), path)
    return path


@pytest.mark.parametrize("block_samples", [256, 512, 1024, 4096])
def test_a_stream_through_onnx_equals_the_whole_file_network(network: Demucs, step: Path, block_samples: int) -> None:
    assert stream_parity(demucs_graph(network), step, block_samples=block_samples, seconds=2) <= TOLERANCE


def test_parity_sees_other_weights(step: Path) -> None:
    torch.manual_seed(1)
    other = Demucs(DemucsConfig(hidden=6), normalize=False).eval()
    assert stream_parity(demucs_graph(other), step, block_samples=1024, seconds=2) > TOLERANCE


def test_the_manifest_describes_the_graph(network: Demucs, step: Path) -> None:
    inputs, outputs, states = tensor_specs(demucs_graph(network))
    graph = onnx.load(step).graph
    for specs, tensors in ((inputs, graph.input), (outputs, graph.output)):
        assert [spec.name for spec in specs] == [tensor.name for tensor in tensors]
        for spec, tensor in zip(specs, tensors, strict=True):
            sizes = tensor.type.tensor_type.shape.dim
            assert spec.shape == tuple(size.dim_param or size.dim_value for size in sizes)
    assert [state.input for state in states] == [spec.name for spec in inputs[1:]]


def test_the_recurrence_stays_one_operator(step: Path) -> None:
    kinds = [node.op_type for node in onnx.load(step).graph.node]
    assert kinds.count("LSTM") == 2
    assert not {"Loop", "Scan", "If", "ReduceMean", "Sqrt"} & set(kinds)


def test_delays_go_into_the_manifest(network: Demucs) -> None:
    spec = demucs_graph(network).spec
    assert (spec.delay_samples, spec.lead_in_samples, spec.frame_samples) == (508, 87, 256)
    assert spec.reset_states == reset_states(network.config)
    assert spec.predicts == "speech"


def test_a_network_that_normalises_is_refused() -> None:
    with pytest.raises(ValueError, match="the host tracks the level"):
        demucs_graph(Demucs(DemucsConfig(hidden=4)))
