import pytest
import torch

from models.flow_warp import flow_warp, gather_at, graph_warp, pixel_grid, sample_at


def test_an_integer_flow_shifts_the_image() -> None:
    frame = torch.rand(1, 2, 6, 9)
    flow = torch.zeros(1, 2, 6, 9)
    flow[:, 0], flow[:, 1] = 2, -1

    warped = flow_warp(frame, flow)

    torch.testing.assert_close(warped[:, :, 1:, :-2], frame[:, :, :-1, 2:], rtol=0, atol=1e-5)
    assert warped[:, :, 0].abs().max() < 1e-5
    assert warped[:, :, :, -2:].abs().max() < 1e-5


def test_outside_may_repeat_the_border() -> None:
    frame = torch.rand(1, 1, 5, 5)
    flow = torch.full((1, 2, 5, 5), 50.0)
    torch.testing.assert_close(flow_warp(frame, flow, padding="border"), frame[:, :, -1:, -1:].expand(1, 1, 5, 5))


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (8, 8)])
def test_gathers_equal_grid_sample(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    frame = torch.randn(3, 4, *size)
    positions = pixel_grid(frame[:, :2]) + 3 * torch.randn(3, *size, 2)
    if min(size) == 1:
        positions[..., 1] = 0.0  # grid_sample cannot sample between rows if there is only one

    torch.testing.assert_close(gather_at(frame, positions), sample_at(frame, positions), rtol=1e-5, atol=1e-5)


def test_sampling_stays_float32_inside_half_precision() -> None:
    frame = torch.rand(1, 1, 300, 300)
    positions = pixel_grid(frame) + 0.3
    exact = sample_at(frame, positions)
    half = sample_at(frame.half(), positions)
    assert half.dtype == torch.float16
    # Positions in float16 would be off by up to an eighth of a pixel at 300.
    assert (half.float() - exact).abs().max() < 2e-3


class Warp(torch.nn.Module):
    def forward(self, x: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        return graph_warp(x, flow)


def test_a_graph_gathers_and_gives_the_same() -> None:
    torch.manual_seed(0)
    frame, flow = torch.randn(1, 3, 6, 7), 3 * torch.randn(1, 2, 6, 7)
    program = torch.export.export(Warp(), (frame, flow))
    assert "grid_sampler" not in str(program.graph)
    torch.testing.assert_close(program.module()(frame, flow), flow_warp(frame, flow), rtol=1e-5, atol=1e-5)
