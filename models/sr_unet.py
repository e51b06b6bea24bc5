"""SR-U-Net: a single image upscaled by two with a U-Net (Ronneberger et al., arXiv 1505.04597).

As in "Video Super Resolution Using Neural Networks" (Chodounsky, 2021): convolutions and max-pooling down, transposed
convolutions and concatenation up, and one more upscaling on top: 64x64 in, 128x128 out. That report states neither
widths nor depth; ours are the U-Net's four levels at half its widths. Deviation: the upscaled frame is added at the
end, so that the network learns only detail.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class SrUnetConfig:
    """Channels of each level, from the full size down."""

    widths: tuple[int, ...] = (32, 64, 128, 256, 512)

    @property
    def side_multiple(self) -> int:
        """Sides of a frame are multiples of this."""
        return int(2 ** (len(self.widths) - 1))


class SrUnet(nn.Module):
    """Upscale a frame by two."""

    def __init__(self, config: SrUnetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.down = nn.ModuleList(
            _pair(channels_in, width) for channels_in, width in zip((3, *widths[:-1]), widths, strict=True)
        )
        steps = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(lower, upper, 2, stride=2) for upper, lower in steps)
        self.join = nn.ModuleList(_pair(2 * upper, upper) for upper, _ in steps)
        self.top = nn.ConvTranspose2d(widths[0], widths[0], 2, stride=2)
        self.last = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, frame: Tensor) -> Tensor:
        """Map (batch, 3, height, width), RGB in [0, 1], to (batch, 3, 2 height, 2 width), not clamped.

        Raises:
            ValueError: A side is not a multiple of `config.side_multiple`.
        """
        multiple = self.config.side_multiple
        if frame.shape[-1] % multiple or frame.shape[-2] % multiple:
            raise ValueError(
                f"got a frame of {frame.shape[-1]}x{frame.shape[-2]}; sides must be multiples of {multiple}: pad it"
            )
        x, held = frame, []
        for level, convolve in enumerate(self.down):
            x = convolve(x if level == 0 else functional.max_pool2d(x, 2))
            held.append(x)
        for level in reversed(range(len(self.up))):
            x = self.join[level](torch.cat((held[level], self.up[level](x)), dim=1))
        detail: Tensor = self.last(torch.relu(self.top(x)))
        return functional.interpolate(frame, scale_factor=2, mode="bilinear", align_corners=False) + detail


def _pair(channels_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
    )
