"""Sampling of an image along a flow, as ONNX GridSample and by plain gathers.

A flow is (batch, 2, height, width): x first, then y, in pixels, from a position to the sampled one.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["zeros", "border"]


def flow_warp(x: Tensor, flow: Tensor, *, padding: Padding = "zeros") -> Tensor:
    """Read (batch, channels, height, width) bilinearly at each position plus its flow."""
    return sample_at(x, pixel_grid(flow) + flow.permute(0, 2, 3, 1), padding=padding)


def graph_warp(x: Tensor, flow: Tensor) -> Tensor:
    """As `flow_warp` with zeros outside; in an exported graph by gathers.

    TensorRT for RTX 1.7 fails to build a GridSample at positions that depend on another one (docs/export.md), and ONNX
    Runtime gathers faster than it samples. In PyTorch, and so in training, GridSample is the faster one.
    """
    if torch.compiler.is_exporting():
        return gather_at(x, pixel_grid(flow) + flow.permute(0, 2, 3, 1))
    return flow_warp(x, flow)


def sample_at(x: Tensor, positions: Tensor, *, padding: Padding = "zeros") -> Tensor:
    """Sample an image bilinearly, in float32 whatever its type.

    Args:
        x: (batch, channels, height, width).
        positions: (batch, rows, columns, 2), x and y in pixels.
        padding: Padding outside the image.

    Returns:
        (batch, channels, rows, columns), of the image's type.
    """
    height, width = x.shape[-2:]
    scale = positions.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    grid = positions * scale - 1
    read = functional.grid_sample(x.to(grid.dtype), grid, mode="bilinear", padding_mode=padding, align_corners=True)
    return read.to(x.dtype)


def gather_at(x: Tensor, positions: Tensor) -> Tensor:
    """As `sample_at` with zeros outside, by four gathers of whole rows of channels.

    For engines without GridSample, and faster than it in ONNX Runtime on a CPU.
    """
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    corner = positions.floor()
    share = positions - corner
    result: Tensor | None = None
    base = torch.arange(batch, device=x.device).view(batch, 1, 1) * (height * width)
    for down in (0, 1):
        for right in (0, 1):
            column, row = corner[..., 0] + right, corner[..., 1] + down
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = _share(share[..., 0], right) * _share(share[..., 1], down) * inside.to(share.dtype)
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            read = rows[(index.long() + base).flatten()].view(*positions.shape[:3], channels)
            term = read * weight.unsqueeze(-1).to(x.dtype)
            result = term if result is None else result + term
    assert result is not None
    return result.permute(0, 3, 1, 2)


def pixel_grid(flow: Tensor) -> Tensor:
    """Return the pixel positions of a flow's plane, (1, height, width, 2): x, then y."""
    height, width = flow.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=torch.float32).view(height, 1).expand(height, width)
    columns = torch.arange(width, device=flow.device, dtype=torch.float32).view(1, width).expand(height, width)
    return torch.stack((columns, rows), dim=-1).unsqueeze(0)


def _share(fraction: Tensor, upper: int) -> Tensor:
    return fraction if upper else 1 - fraction
