"""Weights read back from a shipped step are those of the network."""

import pytest
import torch

from export.light_vsr import export_onnx
from export.speech_step import export_step, mask_graph
from models.demucs import Demucs, DemucsConfig
from models.light_vsr import LightVsr, LightVsrConfig
from models.speech_mask import SpeechMask, SpeechMaskConfig
from training.shipped import read_shipped_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's deprecation warnings


def untrained(network):
    """Random everywhere, since the exporter omits zeros."""
    torch.manual_seed(8)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network.eval()


def test_a_video_step_gives_back_every_weight(tmp_path):
    network = untrained(LightVsr(LightVsrConfig(2, 2, 16, 1, True)))
    export_onnx(network, tmp_path / "step.onnx")

    weights = read_shipped_weights(tmp_path / "step.onnx", network)

    assert_same(weights, network)


def test_a_speech_step_gives_back_every_weight(tmp_path):
    network = untrained(SpeechMask(SpeechMaskConfig(hidden=16)))
    export_step(mask_graph(network), tmp_path / "step.onnx")

    weights = read_shipped_weights(tmp_path / "step.onnx", network)

    assert_same(weights, network)


def test_a_network_that_cannot_be_read_back_says_what_to_do(tmp_path):
    export_step(mask_graph(untrained(SpeechMask(SpeechMaskConfig(hidden=16)))), tmp_path / "step.onnx")

    with pytest.raises(ValueError, match="Demucs cannot start from a shipped model; use a checkpoint"):
        read_shipped_weights(tmp_path / "step.onnx", Demucs(DemucsConfig(hidden=4)))


def assert_same(weights, network):
    expected = network.state_dict()
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, atol=0, rtol=0)
