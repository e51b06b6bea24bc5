from dataclasses import replace

import pytest
import torch

from models.basicvsr import BasicVsrConfig, count_parameters
from models.published import REALBASICVSR, load_published
from models.realbasicvsr import (
    CleaningConfig,
    CleaningPass,
    RealBasicVsr,
    RealBasicVsrConfig,
    ResidualCleaning,
    UnetCleaning,
    side_multiple,
    unet_config,
)
from models.spynet import SpynetConfig

SMALL_VSR = BasicVsrConfig(channels=4, blocks=1, flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)))


def test_the_network_agrees_with_the_published_one(load_oracle) -> None:
    oracle = load_oracle("realbasicvsr")
    config, channels = oracle.config, oracle.config["mid_channels"]
    network = RealBasicVsr(
        RealBasicVsrConfig(
            CleaningConfig(
                blocks=config["num_cleaning_blocks"],
                channels=channels,
                passes=config["max_cleaning_passes"],
                threshold=config["dynamic_refine_thres"],
            ),
            BasicVsrConfig(channels, config["num_propagation_blocks"]),
        )
    ).eval()
    load_published(network, oracle.weights, REALBASICVSR)

    with torch.inference_mode():
        seen = network(oracle.input)

    assert (seen - oracle.output).abs().max() <= 1e-4 * oracle.output.abs().max()


def test_the_published_checkpoint_loads_strictly_and_has_the_stated_size(published_state) -> None:
    network = RealBasicVsr(RealBasicVsrConfig())
    load_published(network, published_state("basicvsr_state_dicts.json", "realbasicvsr_x4"), REALBASICVSR)
    assert count_parameters(network, without=network.vsr.flow) == 4_854_534


def test_the_two_level_variant_is_near_the_seed_s_size() -> None:
    network = RealBasicVsr(unet_config(2, 1, skip=True))
    # 3,502,462 in the seed, whose figure of widths is illegible: see the module's docstring.
    assert count_parameters(network, without=network.vsr.flow) == 3_491_878


def cleaning(threshold: float) -> ResidualCleaning:
    torch.manual_seed(0)
    return ResidualCleaning(CleaningConfig(blocks=1, channels=4, threshold=threshold)).eval()


def test_cleaning_stops_when_little_changes() -> None:
    frames = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        change = float(cleaning(0).correction(frames).abs().mean()) * 255
        once = CleaningPass(cleaning(0))(frames)[0]
        assert torch.equal(cleaning(change * 1.01)(frames), once)
        assert not torch.equal(cleaning(change * 0.5)(frames), once)


def test_a_pass_reports_its_mean_change_in_255ths() -> None:
    module = CleaningPass(cleaning(1.5))
    frames = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        cleaned, change = module(frames)
    assert change.shape == (1,)
    assert float(change) == pytest.approx(float((cleaned - frames).abs().mean()) * 255, rel=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 1e3, "middle"])
def test_the_graph_without_branches_cleans_the_same(threshold: float | str) -> None:
    frames = torch.rand(2, 3, 8, 8)
    if threshold == "middle":
        with torch.inference_mode():
            first = float(cleaning(0).correction(frames).abs().mean()) * 255
            second = CleaningPass(cleaning(0))(CleaningPass(cleaning(0))(frames)[0])[1]
        threshold = (first + float(second)) / 2
    module = cleaning(float(threshold))
    graph = torch.export.export(module, (frames,)).module()
    with torch.inference_mode():
        torch.testing.assert_close(graph(frames), module(frames))


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("skip", [True, False])
def test_the_unet_variants_restore_at_the_same_size(levels: int, blocks: int, skip: bool) -> None:
    config = unet_config(levels, blocks, skip=skip, vsr=SMALL_VSR)
    side = side_multiple(config.cleaning)
    network = RealBasicVsr(config).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 2, 3, side, 2 * side)).shape == (1, 2, 3, side, 2 * side)


def test_the_frame_itself_is_the_skip() -> None:
    network = RealBasicVsr(unet_config(2, 1, skip=True, vsr=SMALL_VSR)).eval()
    for parameter in network.vsr.reconstruction.conv_last.parameters():
        parameter.data.zero_()
    frames = torch.rand(1, 2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(network(frames), frames)


def test_frames_that_do_not_divide_are_refused() -> None:
    config = replace(unet_config(3, 1, skip=True).cleaning)
    with pytest.raises(ValueError, match="got frames of 24x20; 3 levels need sides that are multiples of 16"):
        UnetCleaning(config)(torch.rand(1, 3, 20, 24))
