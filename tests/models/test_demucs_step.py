import pytest
import torch

from models.demucs import Demucs, DemucsConfig
from models.demucs_step import DemucsStep, reset_states, state_shapes, step_timing


def stream(network: Demucs, signal: torch.Tensor, *, frames: int, reset: bool = True) -> torch.Tensor:
    """Run a network in blocks of `frames` frames, trimmed so that sample j is under sample j."""
    config = network.config
    timing, step = step_timing(config), DemucsStep(network)
    spare = -timing.reset_after_frames % frames
    lead_in = timing.lead_in + spare * timing.frame
    block = frames * timing.frame
    length = signal.shape[-1]
    padded = torch.nn.functional.pad(signal, (lead_in, lead_in + timing.delay + block))
    state = {name: torch.zeros(shape) for name, shape in state_shapes(config).items()}
    outputs = []
    for index in range(padded.shape[-1] // block):
        if reset and index * frames == timing.reset_after_frames + spare:
            state |= {name: torch.zeros_like(state[name]) for name in reset_states(config)}
        y, *following = step(padded[..., index * block : (index + 1) * block], *state.values())
        outputs.append(y)
        state = dict(zip(state, following, strict=True))
    return torch.cat(outputs, dim=-1)[..., lead_in + timing.delay :][..., :length]


@pytest.mark.parametrize("depth", [4, 5])
@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_stream_equals_the_whole_inside_it(frames: int, depth: int) -> None:
    torch.manual_seed(depth)
    network = Demucs(DemucsConfig(hidden=4, depth=depth), normalize=False).eval()
    signal = torch.randn(1, 1, 3000)

    with torch.inference_mode():
        streamed, whole = stream(network, signal, frames=frames), network(signal)

    inside = slice(1000, 2000)
    torch.testing.assert_close(streamed[..., inside], whole[..., inside], atol=1e-6, rtol=0)


def test_the_reset_is_what_makes_the_start_agree() -> None:
    torch.manual_seed(3)
    network = Demucs(DemucsConfig(hidden=4), normalize=False).eval()
    for name, weight in network.lstm.named_parameters():
        if "bias" in name:
            weight.data += 1  # open gates: the cell counts its steps
    # Silence first, and the first 120 samples are excluded: the stream's filters ring before the first sample.
    signal = torch.nn.functional.pad(torch.randn(1, 1, 3000), (200, 0))
    start = slice(120, 1000)

    with torch.inference_mode():
        whole = network(signal)[..., start]
        with_reset = stream(network, signal, frames=2)[..., start]
        without = stream(network, signal, frames=2, reset=False)[..., start]

    assert (with_reset - whole).abs().max() < 1e-6
    assert (without - whole).abs().max() > 4e-6


def test_the_published_geometry_has_the_published_delays() -> None:
    timing = step_timing(DemucsConfig())
    assert (timing.frame, timing.lead_in, timing.reset_after_frames, timing.delay) == (256, 87, 2, 508)


def test_states_have_the_sizes_that_were_worked_out() -> None:
    shapes = state_shapes(DemucsConfig(hidden=24))
    assert [shapes[f"skip{level}"] for level in (1, 2, 3, 4)] == [
        (1, 24, 340),
        (1, 48, 84),
        (1, 96, 20),
        (1, 192, 4),
    ]
    assert shapes["h"] == (2, 1, 384)
    assert (shapes["down1"], shapes["down2"]) == ((1, 2, 112), (1, 2, 111))


def test_another_geometry_is_refused() -> None:
    network = Demucs(DemucsConfig(hidden=4, depth=2, stride=2))
    with pytest.raises(ValueError, match="got kernel 8, stride 2, resample 4"):
        DemucsStep(network)
