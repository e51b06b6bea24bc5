"""BasicVSR: bidirectional recurrent video super-resolution (Chan et al., arXiv 2012.02181).

Features, not frames, are propagated backwards and then forwards through the clip, warped by SPyNet's flow and refined
by residual blocks; two sub-pixel stages upscale by four. Engines for bounded memory: `models.basicvsr_steps`.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.flow_warp import graph_warp
from models.spynet import SpyNet, SpynetConfig, neighbour_flows

SLOPE = 0.1


@dataclass(frozen=True, slots=True)
class BasicVsrConfig:
    """Sizes of one network; the published one has 64 channels and 30 blocks per branch."""

    channels: int = 64
    blocks: int = 30
    flow: SpynetConfig = field(default_factory=SpynetConfig)


class BasicVsr(nn.Module):
    """Upscale a whole clip by four."""

    def __init__(self, config: BasicVsrConfig) -> None:
        super().__init__()
        self.config = config
        self.flow = SpyNet(config.flow)
        self.backward_branch = ResidualBlocks(3 + config.channels, config.channels, config.blocks)
        self.forward_branch = ResidualBlocks(3 + config.channels, config.channels, config.blocks)
        self.reconstruction = Reconstruction(config.channels)

    def forward(self, frames: Tensor, skip: Tensor | None = None) -> Tensor:
        """Upscale a clip.

        Args:
            frames: (batch, frames, 3, height, width), RGB in [0, 1].
            skip: (batch, frames, 3, 4 height, 4 width), to which the network's detail is added; by default the
            bilinearly upscaled frames.

        Returns:
            (batch, frames, 3, 4 height, 4 width), not clamped.
        """
        count = frames.shape[1]
        if count > 1:
            forward_flows, backward_flows = neighbour_flows(self.flow, frames)
        backward: list[Tensor] = []
        features = self.zero_features(frames[:, 0])
        for index in reversed(range(count)):
            if index < count - 1:
                features = graph_warp(features, backward_flows[:, index])
            features = self.backward_branch(torch.cat((frames[:, index], features), dim=1))
            backward.insert(0, features)
        features = self.zero_features(frames[:, 0])
        results = []
        for index in range(count):
            if index > 0:
                features = graph_warp(features, forward_flows[:, index - 1])
            features = self.forward_branch(torch.cat((frames[:, index], features), dim=1))
            base = upscale(frames[:, index]) if skip is None else skip[:, index]
            results.append(base + self.reconstruction(backward[index], features))
        return torch.stack(results, dim=1)

    def zero_features(self, frame: Tensor) -> Tensor:
        """Return the initial features of a branch."""
        return frame.new_zeros(frame.shape[0], self.config.channels, *frame.shape[-2:])


class ResidualBlocks(nn.Module):
    """A convolution to `channels`, and residual blocks."""

    def __init__(self, channels_in: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels_in, height, width) to (batch, channels, height, width)."""
        refined: Tensor = self.body(functional.leaky_relu(self.first(x), SLOPE))
        return refined


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, and the input added; no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return x + self.conv2(torch.relu(self.conv1(x)))


class Reconstruction(nn.Module):
    """Merge both branches' features, upscale by two twice, and map them to a frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion = nn.Conv2d(2 * channels, channels, 1)
        self.upsample1 = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.upsample2 = nn.Conv2d(channels, 4 * 64, 3, padding=1)
        self.conv_hr = nn.Conv2d(64, 64, 3, padding=1)
        self.conv_last = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, backward: Tensor, forward: Tensor) -> Tensor:
        """Map two (batch, channels, height, width) to the detail (batch, 3, 4 height, 4 width)."""
        x = functional.leaky_relu(self.fusion(torch.cat((backward, forward), dim=1)), SLOPE)
        x = functional.leaky_relu(functional.pixel_shuffle(self.upsample1(x), 2), SLOPE)
        x = functional.leaky_relu(functional.pixel_shuffle(self.upsample2(x), 2), SLOPE)
        detail: Tensor = self.conv_last(functional.leaky_relu(self.conv_hr(x), SLOPE))
        return detail


def upscale(frame: Tensor) -> Tensor:
    """Upscale (batch, channels, height, width) by four, bilinearly."""
    return functional.interpolate(frame, scale_factor=4, mode="bilinear", align_corners=False)


def count_parameters(network: nn.Module, *, without: nn.Module | None = None) -> int:
    """Count a network's parameters without those of one of its parts."""
    apart = {id(parameter) for parameter in without.parameters()} if without else set()
    return sum(parameter.numel() for parameter in network.parameters() if id(parameter) not in apart)
