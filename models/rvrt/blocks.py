"""The layers before and after propagation: feature extraction, the residual block, the upsampler."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.rvrt.attention import TransformerGroup
from models.rvrt.configs import RvrtConfig

QUARTER_TAPS = (-0.09375, 0.59375, 0.59375, -0.09375)
"""Cubic interpolation (a = -0.75) half-way between two samples, as in downscaling by four."""


class FeatureExtraction(nn.Module):
    """Frames to features; for restoration preceded by two strided convolutions, since the network runs at a quarter."""

    def __init__(self, config: RvrtConfig) -> None:
        super().__init__()
        self.shrink: nn.Sequential | None = None
        channels_in = config.input_channels
        if config.scale == 1:
            self.shrink = nn.Sequential(
                nn.Conv2d(channels_in, config.embed, 3, stride=2, padding=1),
                nn.LeakyReLU(0.1),
                nn.Conv2d(config.embed, config.embed, 3, stride=2, padding=1),
                nn.LeakyReLU(0.1),
            )
            channels_in = config.embed
        self.group = transformer_group(config, channels_in, stage=0, frames=1, groups=config.groups[0])

    def forward(self, frames: Tensor) -> Tensor:
        """Map (frames, channels, height, width) to (frames, embed, height, width), or a quarter of the sides."""
        if self.shrink is not None:
            frames = self.shrink(frames)
        features: Tensor = self.group(frames)
        return features


class ResidualRefinement(nn.Module):
    """The residual block: y = x + (3x3x3 convolution, LeakyReLU) three times, over all frames.

    With the last convolution zero it is the identity, so that a published checkpoint without the block gives the same
    result. A 3x3x3 convolution is run as a 3x3 one over three stacked frames, for which engines have fast kernels.
    """

    def __init__(self, width: int, layers: int = 3) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1) for _ in range(layers))
        self.reset_to_identity()

    def reset_to_identity(self) -> None:
        """Zero the last convolution."""
        last = self.convolutions[-1]
        assert isinstance(last, nn.Conv3d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, frames, channels, height, width) to the same shape."""
        y = x
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv3d)
            nothing = torch.zeros_like(y[:, :1])
            before, after = torch.cat((nothing, y[:, :-1]), dim=1), torch.cat((y[:, 1:], nothing), dim=1)
            stacked = torch.cat((before, y, after), dim=2).flatten(0, 1)
            kernel = convolution.weight.transpose(1, 2).flatten(1, 2)
            z = functional.conv2d(stacked, kernel, convolution.bias, padding=1)
            y = functional.leaky_relu(z, 0.1).view(x.shape)
        return x + y


class Upsampler(nn.Module):
    """Two sub-pixel stages and a convolution: four times the sides."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stage1 = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.stage2 = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (frames, channels, height, width) to (frames, channels, 4 height, 4 width)."""
        for stage in (self.stage1, self.stage2):
            x = functional.leaky_relu(functional.pixel_shuffle(stage(x), 2), 0.1)
        smoothed: Tensor = self.smooth(x)
        return smoothed


def transformer_group(
    config: RvrtConfig, channels_in: int, *, stage: int, frames: int, groups: int
) -> TransformerGroup:
    """Build the group of a stage: 0 extraction, 1 propagation, 2 reconstruction."""
    return TransformerGroup(
        channels_in,
        config.embed,
        frames=frames,
        window=config.window,
        heads=config.heads,
        blocks=config.blocks[stage],
        depth=config.depths[stage],
        mlp_ratio=config.mlp_ratio,
        groups=groups,
    )


def quarter(frames: Tensor) -> Tensor:
    """Reduce (frames, channels, height, width) to a quarter of its sides, bicubic without smoothing, as published.

    Half-way between samples the kernel is the same everywhere and reaches no border, so it is one convolution of stride
    4; not every engine has a cubic resize.
    """
    taps = frames.new_tensor(QUARTER_TAPS)
    kernel = torch.outer(taps, taps).view(1, 1, 4, 4).repeat(frames.shape[1], 1, 1, 1)
    return functional.conv2d(frames, kernel, stride=4, groups=frames.shape[1])
