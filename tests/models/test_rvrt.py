from dataclasses import replace

import pytest
import torch

from models.basicvsr import count_parameters
from models.published import RVRT, load_published
from models.rvrt import RVRT_CONFIGS, Rvrt, RvrtConfig
from models.rvrt.attention import WindowAttention, relative_index
from models.rvrt.blocks import ResidualRefinement, quarter
from models.rvrt.configs import SUPER_RESOLUTION
from models.spynet import SpynetConfig

TINY = RvrtConfig(
    embed=8,
    window=4,
    blocks=(1, 1, 1),
    heads=2,
    deformable_groups=4,
    deformable_heads=2,
    offset_width=4,
    up_width=4,
    flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)),
)
PARAMETERS = {"001": 10_782_295, "004": 13_573_159, "006": 12_786_919}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rvrt_sr_x4", "residual_rvrt_sr_x4", "rvrt_denoise"])
@pytest.mark.parametrize("sampling", ["grid_sample", "gather"])
def test_the_network_agrees_with_the_published_one(load_oracle, name: str, sampling: str) -> None:
    oracle = load_oracle(name)
    given = oracle.config
    config = RvrtConfig(
        scale=given["upscale"],
        embed=given["embed_dims"][0],
        window=given["window_size"][1],
        blocks=tuple(given["num_blocks"]),
        depths=tuple(given["depths"]),
        heads=given["num_heads"][0],
        deformable_groups=given["deformable_groups"],
        deformable_heads=given["attention_heads"],
        groups=tuple(given["inputconv_groups"]),
        noise_level=given.get("nonblind_denoising", False),
        refinement="ResidualRefinement" in given["net"],
        sampling=sampling,
        flow=SpynetConfig(upsampling=given["spynet_upsampling"].split(",")[0]),
    )
    network = Rvrt(config).eval()
    load_published(network, oracle.weights, RVRT)

    with torch.inference_mode():
        seen = network(oracle.input)

    assert (seen - oracle.output).abs().max() <= 1e-4 * oracle.output.abs().max()


@pytest.mark.parametrize("name", [name for name in RVRT_CONFIGS if name[0] == "0"])
def test_published_checkpoints_load_strictly(published_state, name: str) -> None:
    state = published_state("rvrt_state_dicts.json", name)
    plain = Rvrt(RVRT_CONFIGS[name])
    load_published(plain, state, RVRT)
    expected = PARAMETERS[{"002": "001", "003": "001", "005": "004"}.get(name[:3], name[:3])]
    assert count_parameters(plain) == expected


def test_the_residual_checkpoint_loads_strictly(published_state) -> None:
    state = published_state("rvrt_state_dicts.json", "videosr")
    state |= published_state("rvrt_state_dicts.json", "residual_videosr_extra_keys")
    network = Rvrt(replace(SUPER_RESOLUTION, refinement=True))
    load_published(network, state, RVRT)
    assert count_parameters(network) == 11_114_263


def test_the_small_ones_are_small() -> None:
    assert count_parameters(Rvrt(RVRT_CONFIGS["small"])) == 901_845
    assert count_parameters(Rvrt(RVRT_CONFIGS["tiny"])) == 525_629


def wake(network: Rvrt) -> Rvrt:
    """Initialise the offsets, which start at zero, with non-zero values."""
    for aligner in network.align.values():
        torch.nn.init.normal_(aligner.offsets[-1].weight, std=0.3)
    return network.eval()


def test_a_new_residual_block_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = wake(Rvrt(TINY))
    residual = Rvrt(replace(TINY, refinement=True)).eval()
    missing = residual.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(name.startswith("refinement.") for name in missing)
    clip = torch.rand(1, 4, 3, 8, 12)
    with torch.inference_mode():
        torch.testing.assert_close(residual(clip), plain(clip))


def test_the_residual_block_is_three_dimensional_convolution() -> None:
    torch.manual_seed(0)
    block = ResidualRefinement(4)
    for convolution in block.convolutions:
        torch.nn.init.normal_(convolution.weight, std=0.1)
    clip = torch.randn(1, 5, 4, 6, 7)
    expected = clip.transpose(1, 2)
    for convolution in block.convolutions:
        expected = torch.nn.functional.leaky_relu(convolution(expected), 0.1)
    torch.testing.assert_close(block(clip), clip + expected.transpose(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (4, 4)])
def test_any_size_comes_out_four_times_as_large(size: tuple[int, int]) -> None:
    network = wake(Rvrt(TINY))
    with torch.inference_mode():
        restored = network(torch.rand(2, 4, 3, *size))
    assert restored.shape == (2, 4, 3, 4 * size[0], 4 * size[1])
    assert torch.isfinite(restored).all()


def test_clips_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(0)
    network = wake(Rvrt(TINY))
    clips = torch.rand(2, 4, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(network(clips)[1:], network(clips[1:]), rtol=1e-4, atol=1e-5)


def test_gather_and_grid_sample_agree() -> None:
    torch.manual_seed(0)
    network = wake(Rvrt(TINY))
    other = Rvrt(replace(TINY, sampling="gather")).eval()
    other.load_state_dict(network.state_dict())
    clip = torch.rand(1, 4, 3, 8, 12)
    with torch.inference_mode():
        torch.testing.assert_close(other(clip), network(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 3, 8, 8), "an even number of frames"), ((1, 2, 4, 8, 8), "height, width")],
)
def test_other_clips_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rvrt(TINY)(torch.rand(shape))


def test_restoration_needs_sides_that_divide() -> None:
    with pytest.raises(ValueError, match="sides must be multiples of 4: pad the frames"):
        Rvrt(replace(TINY, scale=1))(torch.rand(1, 2, 3, 16, 18))


def test_the_quarter_is_bicubic() -> None:
    frames = torch.rand(2, 3, 16, 24)
    expected = torch.nn.functional.interpolate(frames, scale_factor=0.25, mode="bicubic", align_corners=False)
    torch.testing.assert_close(quarter(frames), expected, rtol=0, atol=1e-5)


def test_shifted_windows_do_not_join_opposite_borders() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 4, 2).eval()
    x = torch.randn(1, 2, 12, 12, 8)
    other = x.clone()
    other[:, :, -1, :] += 5
    with torch.inference_mode():
        difference = (attention(x, shifted=True) - attention(other, shifted=True)).abs().amax(dim=(0, 1, 3, 4))
    assert difference[:10].max() == 0
    assert difference[10:].min() > 0


def test_every_pair_of_positions_at_one_distance_shares_a_bias() -> None:
    index = relative_index(2, 3)
    assert index.shape == (18, 18)
    assert index.min() == 0
    assert index.max() == 3 * 5 * 5 - 1
    assert (index.diagonal() == index[0, 0]).all()
    assert index[0, 1] == index[1, 2] != index[1, 0]


@pytest.mark.parametrize("change", [{"embed": 9}, {"deformable_groups": 3}])
def test_sizes_that_do_not_divide_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="got"):
        replace(TINY, **change)
