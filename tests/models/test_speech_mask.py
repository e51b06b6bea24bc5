import pytest
import torch

from models.speech_mask import SpeechMask, SpeechMaskConfig


@pytest.fixture
def network() -> SpeechMask:
    torch.manual_seed(0)
    network = SpeechMask(SpeechMaskConfig(hidden=16)).eval()
    for weight in network.parameters():
        weight.data *= 2
    return network


@pytest.mark.parametrize("length", [1, 255, 256, 1000])
def test_a_mask_of_ones_rebuilds_any_length(network: SpeechMask, length: int) -> None:
    torch.nn.init.zeros_(network.outward.weight)
    torch.nn.init.constant_(network.outward.bias, 40.0)
    mixture = torch.randn(2, 1, length)
    with torch.inference_mode():
        torch.testing.assert_close(network(mixture), mixture, atol=1e-5, rtol=0)


def test_a_mask_of_zeros_is_silence(network: SpeechMask) -> None:
    torch.nn.init.zeros_(network.outward.weight)
    torch.nn.init.constant_(network.outward.bias, -40.0)
    with torch.inference_mode():
        assert network(torch.randn(1, 1, 1000)).abs().max() < 1e-6


@pytest.mark.parametrize("hops", [1, 3])
def test_a_stream_equals_the_whole(network: SpeechMask, hops: int) -> None:
    hop = network.config.hop
    mixture = torch.randn(1, 1, 12 * hop)
    state = [torch.zeros(shape) for shape in network.state_shapes().values()]
    outputs = []
    with torch.inference_mode():
        for start in range(0, mixture.shape[-1], hops * hop):
            y, *state = network.step(mixture[..., start : start + hops * hop], *state)
            outputs.append(y)
        whole = network(mixture)
    late = torch.cat(outputs, dim=-1)[..., hop:]
    torch.testing.assert_close(late, whole[..., :-hop], atol=1e-5, rtol=0)


def test_nothing_is_heard_more_than_a_window_ahead(network: SpeechMask) -> None:
    mixture = torch.randn(1, 1, 4000)
    other = mixture.clone()
    other[..., 3000:] += 1
    with torch.inference_mode():
        difference = (network(mixture) - network(other)).abs()[0, 0]
    assert difference[: 3000 - 512].max() == 0
    assert difference[2900:].max() > 1e-3


def test_a_smaller_exponent_takes_less_away(network: SpeechMask) -> None:
    mixture = torch.randn(1, 1, 4000)
    energies = []
    with torch.inference_mode():
        for network.gain_exponent in (0.0, 0.5, 1.0):
            energies.append(float(network(mixture).square().sum()))
    assert energies[0] > 1.05 * energies[1] > 1.1 * energies[2]
