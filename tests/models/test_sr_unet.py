import pytest
import torch

from models.sr_unet import SrUnet, SrUnetConfig

TINY = SrUnetConfig(widths=(4, 6, 8))


def test_a_frame_comes_out_twice_as_large() -> None:
    with torch.inference_mode():
        assert SrUnet(TINY)(torch.rand(2, 3, 8, 12)).shape == (2, 3, 16, 24)


def test_the_network_adds_detail_to_the_bicubic_upscaling() -> None:
    network = SrUnet(TINY)
    for parameter in network.last.parameters():
        parameter.data.zero_()
    frame = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        plain = torch.nn.functional.interpolate(frame, scale_factor=2, mode="bilinear")
        assert torch.equal(network(frame), plain)


def test_a_corner_reaches_far_through_the_levels() -> None:
    torch.manual_seed(0)
    network = SrUnet(TINY).eval()
    frame = torch.rand(1, 3, 32, 32)
    other = frame.clone()
    other[..., 0, 0] += 1
    with torch.inference_mode():
        changed = (network(frame) - network(other)).abs().amax(dim=(0, 1))
    # Without pooling it would reach ten rows.
    assert changed[14:].max() > 0


def test_a_frame_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="got a frame of 10x8; sides must be multiples of 4: pad it"):
        SrUnet(TINY)(torch.rand(1, 3, 8, 10))
