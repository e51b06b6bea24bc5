"""LightVsr sees no further than its halo, and is plain bicubic at the start."""

import numpy as np
import pytest
import torch
from PIL import Image

from models.light_vsr import BicubicSkip, LightVsr, LightVsrConfig, unshuffle_kernel

CONFIGS = [LightVsrConfig(4, 1, 16, 2), LightVsrConfig(2, 2, 16, 3, True), LightVsrConfig(1, 2, 16, 2, True)]


def trained_like(config):
    torch.manual_seed(3)
    network = LightVsr(config).eval()
    torch.nn.init.normal_(network.last.weight, std=0.1)
    return network


@pytest.mark.parametrize("config", CONFIGS)
def test_shapes_follow_scale_and_grid(config):
    frame = torch.rand(2, 3, 24 * config.grid, 20 * config.grid)
    state = torch.rand(2, config.state_channels, 24, 20)

    output, following = LightVsr(config)(frame, state)

    assert output.shape == (2, 3, 24 * config.grid * config.scale, 20 * config.grid * config.scale)
    assert following.shape == state.shape


@pytest.mark.parametrize("config", CONFIGS)
def test_nothing_beyond_the_halo_is_seen(config):
    network, size, grid = trained_like(config), 48, config.grid
    frame, state = torch.rand(1, 3, size * grid, size * grid), torch.rand(1, config.state_channels, size, size)
    other_frame, other_state = frame.clone(), state.clone()
    other_frame[..., : 8 * grid, :] = 0
    other_state[..., :8, :] = 0

    with torch.no_grad():
        one, one_state = network(frame, state)
        other, other_state = network(other_frame, other_state)

    edge = 8 + config.halo
    scale = grid * config.scale
    assert torch.equal(one[..., edge * scale :, :], other[..., edge * scale :, :])
    assert torch.equal(one_state[..., edge:, :], other_state[..., edge:, :])
    assert not torch.equal(one[..., (edge - 1) * scale :, :], other[..., (edge - 1) * scale :, :])


@pytest.mark.parametrize("config", CONFIGS)
def test_an_untrained_network_is_bicubic_upscaling(config):
    frame = torch.rand(1, 3, 20, 24)
    state = torch.zeros(1, config.state_channels, 20 // config.grid, 24 // config.grid)

    output, _ = LightVsr(config)(frame, state)

    torch.testing.assert_close(output, BicubicSkip(config.scale)(frame))


@pytest.mark.parametrize("scale", [2, 4])
def test_the_skip_is_the_bicubic_that_everyone_uses(scale):
    frame = np.random.default_rng(4).random((20, 24)).astype(np.float32)
    expected = np.asarray(Image.fromarray(frame).resize((24 * scale, 20 * scale), Image.Resampling.BICUBIC))

    found = BicubicSkip(scale)(torch.from_numpy(frame)[None, None].repeat(1, 3, 1, 1))[0, 0].numpy()

    border = 2 * scale
    inner = np.s_[border:-border, border:-border]
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)


def test_strength_zero_leaves_the_bicubic_upscaling():
    config = CONFIGS[0]
    frame, state = torch.rand(1, 3, 16, 16), torch.rand(1, config.state_channels, 16, 16)

    output, _ = trained_like(config)(frame, state, torch.zeros(1))

    torch.testing.assert_close(output, BicubicSkip(4)(frame))


@pytest.mark.parametrize("grid", [2, 4])
def test_the_unshuffle_kernel_is_pixel_unshuffle(grid):
    frame = torch.rand(2, 3, 8 * grid, 6 * grid)

    found = torch.nn.functional.conv2d(frame, unshuffle_kernel(grid), stride=grid)

    assert torch.equal(found, torch.nn.functional.pixel_unshuffle(frame, grid))


@pytest.mark.parametrize("scale", [2, 4])
def test_training_in_bfloat16_leaves_the_brightness_of_the_skip_alone(scale):
    grey = torch.full((1, 3, 16, 16), 0.7)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        enlarged = BicubicSkip(scale)(grey)

    torch.testing.assert_close(enlarged.float(), torch.full(enlarged.shape, 0.7), atol=1e-6, rtol=0)
