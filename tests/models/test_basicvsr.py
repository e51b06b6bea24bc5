import pytest
import torch

from models.basicvsr import BasicVsr, BasicVsrConfig, count_parameters
from models.published import BASICVSR, load_published
from models.spynet import SpyNet, SpynetConfig

TINY = BasicVsrConfig(channels=4, blocks=1, flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)))


def test_the_network_agrees_with_the_published_one(load_oracle) -> None:
    oracle = load_oracle("basicvsr")
    network = BasicVsr(BasicVsrConfig(oracle.config["mid_channels"], oracle.config["num_blocks"])).eval()
    load_published(network, oracle.weights, BASICVSR)

    with torch.inference_mode():
        seen = network(oracle.input)

    assert (seen - oracle.output).abs().max() <= 1e-4 * oracle.output.abs().max()


def test_the_published_checkpoint_loads_strictly(published_state) -> None:
    network = BasicVsr(BasicVsrConfig())
    load_published(network, published_state("basicvsr_state_dicts.json", "basicvsr_reds_x4"), BASICVSR)
    assert count_parameters(network) == 6_291_311
    assert all(not parameter.any() for parameter in network.parameters())


def test_every_frame_sees_the_whole_clip() -> None:
    torch.manual_seed(0)
    network = BasicVsr(TINY).eval()
    clip = torch.rand(1, 4, 3, 16, 16)
    with torch.inference_mode():
        plain = network(clip)
        for changed in range(4):
            other = clip.clone()
            other[:, changed] += 0.3
            difference = (network(other) - plain).abs().amax(dim=(0, 2, 3, 4))
            assert (difference > 0).all()


def test_one_frame_is_a_clip() -> None:
    network = BasicVsr(TINY).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 1, 3, 9, 11)).shape == (2, 1, 3, 36, 44)


@pytest.mark.parametrize("size", [(32, 32), (30, 44)])
def test_flow_has_the_size_of_the_image(size: tuple[int, int]) -> None:
    network = SpyNet(SpynetConfig(levels=3, widths=(4, 4, 4, 4), shrink=2)).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, *size), torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_an_image_resized_for_the_pyramid_gives_flow_in_its_own_pixels() -> None:
    network = SpyNet(SpynetConfig(levels=3, widths=(4, 4, 4, 4))).eval()
    for level in network.levels:
        for parameter in level.parameters():
            parameter.data.zero_()
    network.levels[-1][-1].bias.data = torch.tensor([3.0, 2.0])
    with torch.inference_mode():
        flow = network(torch.rand(1, 3, 18, 6), torch.rand(1, 3, 18, 6))
    torch.testing.assert_close(flow[0, 0], torch.full((18, 6), 3.0 * 6 / 8))
    torch.testing.assert_close(flow[0, 1], torch.full((18, 6), 2.0 * 18 / 20))
