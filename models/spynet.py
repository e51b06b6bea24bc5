"""SPyNet: optical flow by a spatial pyramid of small networks (Ranjan and Black, arXiv 1611.00850).

In the form that BasicVSR and RVRT use: six levels of five 7x7 convolutions, each adding to the doubled flow of the
level above, on images normalised by ImageNet's mean and standard deviation. No deviation from the paper; `SpynetConfig`
also allows fewer, narrower levels on a smaller image.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.flow_warp import flow_warp

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class SpynetConfig:
    """Sizes of one flow network.

    `widths`: channels of the four inner convolutions of a level. `shrink`: the flow is estimated on the image divided
    by this. `upsampling`: how a level's flow is doubled for the next; published networks use bilinear with aligned
    corners, the small residual RVRTs nearest.
    """

    levels: int = 6
    widths: tuple[int, int, int, int] = (32, 64, 32, 16)
    shrink: int = 1
    upsampling: Literal["bilinear", "nearest"] = "bilinear"

    @property
    def multiple(self) -> int:
        """Sides of the input images are multiples of this."""
        return int(2 ** (self.levels - 1))


class SpyNet(nn.Module):
    """Flow between images."""

    def __init__(self, config: SpynetConfig | None = None) -> None:
        super().__init__()
        self.config = config or SpynetConfig()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1))
        self.levels = nn.ModuleList(_level(self.config.widths) for _ in range(self.config.levels))

    def forward(self, reference: Tensor, other: Tensor) -> Tensor:
        """Estimate where each pixel of `reference` is in `other`.

        Args:
            reference: (batch, 3, height, width), RGB in [0, 1].
            other: The same shape.

        Returns:
            (batch, 2, height, width): x and y in pixels, so that `flow_warp(other, flow)` resembles `reference`.
        """
        height, width = reference.shape[-2:]
        inside_height, inside_width = self._inside(height), self._inside(width)
        pair = [(frame - self.mean) / self.deviation for frame in (reference, other)]
        if (inside_height, inside_width) != (height, width):
            pair = [_resize(self._fit(frame), (inside_height, inside_width)) for frame in pair]
        flow = self._pyramid(pair[0], pair[1])
        if (inside_height, inside_width) == (height, width):
            return flow
        return _resize(flow, (height, width)) * _pair(flow, width / inside_width, height / inside_height)

    def _fit(self, frame: Tensor) -> Tensor:
        shrink = self.config.shrink
        if shrink > 1 and not frame.shape[-1] % shrink and not frame.shape[-2] % shrink:
            return functional.avg_pool2d(frame, shrink)
        return frame

    def _inside(self, side: int) -> int:
        multiple = self.config.multiple
        return max(-(-side // (multiple * self.config.shrink)), 1) * multiple

    def _pyramid(self, reference: Tensor, other: Tensor) -> Tensor:
        pyramid = [(reference, other)]
        for _ in range(self.config.levels - 1):
            reference, other = functional.avg_pool2d(reference, 2), functional.avg_pool2d(other, 2)
            pyramid.insert(0, (reference, other))
        flow = torch.zeros_like(pyramid[0][0][:, :2])
        for level, (here, there) in zip(self.levels, pyramid, strict=True):
            if here.shape[-1] != flow.shape[-1]:
                flow = self._double(flow)
            seen = torch.cat((here, flow_warp(there, flow, padding="border"), flow), dim=1)
            flow = flow + level(seen)
        return flow

    def _double(self, flow: Tensor) -> Tensor:
        if self.config.upsampling == "nearest":
            return functional.interpolate(flow, scale_factor=2, mode="nearest") * 2.0
        return functional.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True) * 2.0


def neighbour_flows(network: SpyNet, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the flows of every pair of adjacent frames of (batch, frames, 3, height, width).

    Returns:
        Forward (batch, frames - 1, 2, height, width): from frame i + 1 to frame i; backward: from i to i + 1.
    """
    batch, count = frames.shape[:2]
    earlier, later = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    forward, backward = network(later, earlier), network(earlier, later)
    return forward.unflatten(0, (batch, count - 1)), backward.unflatten(0, (batch, count - 1))


def _level(widths: tuple[int, int, int, int]) -> nn.Sequential:
    sizes = (8, *widths, 2)
    level = nn.Sequential()
    for index, (channels_in, channels_out) in enumerate(itertools.pairwise(sizes)):
        level.append(nn.Conv2d(channels_in, channels_out, 7, padding=3))
        if index < len(sizes) - 2:
            level.append(nn.ReLU())
    return level


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _pair(like: Tensor, x: float, y: float) -> Tensor:
    return like.new_tensor([x, y]).view(1, 2, 1, 1)
