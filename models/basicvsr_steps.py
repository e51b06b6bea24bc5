"""BasicVSR split into engines, so that a clip of any length runs in bounded memory.

The host stores the features and warps them between the engines with the warp kernel: `backward` runs backwards through
the clip (its features are kept, on disk if necessary), `forward` and `reconstruction` forwards. At the ends of a clip
features are zero, as in the whole network; `flow` runs on adjacent frames.
"""

import torch
from torch import Tensor, nn

from models.basicvsr import BasicVsr, ResidualBlocks, upscale
from models.realbasicvsr import RealBasicVsr, UnetCleaning
from models.spynet import SpyNet


class FlowStep(nn.Module):
    """Flow from a frame to another: (1, 3, height, width) twice to (1, 2, height, width)."""

    def __init__(self, network: SpyNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, reference: Tensor, other: Tensor) -> Tensor:
        """Estimate where each pixel of `reference` is in `other`."""
        flow: Tensor = self.network(reference, other)
        return flow


class BranchStep(nn.Module):
    """One frame of a branch: maps the frame and its neighbour's warped features to its own features."""

    def __init__(self, branch: ResidualBlocks) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, frame: Tensor, warped: Tensor) -> Tensor:
        """Map (1, 3, height, width) and (1, channels, height, width) to the latter's shape."""
        features: Tensor = self.branch(torch.cat((frame, warped), dim=1))
        return features


class ReconstructionStep(nn.Module):
    """Maps both branches' features and the frame to the result."""

    def __init__(self, network: BasicVsr, *, same_size: bool) -> None:
        super().__init__()
        self.reconstruction = network.reconstruction
        self.same_size = same_size

    def forward(self, backward: Tensor, forward: Tensor, frame: Tensor) -> Tensor:
        """Return (1, 3, 4 height, 4 width).

        Detail is added to `frame`: upscaled by four, or, with the U-Net cleaning, the frame of that size.
        """
        base = frame if self.same_size else upscale(frame)
        return base + self.reconstruction(backward, forward)


class CleanStep(nn.Module):
    """One frame through the U-Net: (1, 3, height, width) to a quarter of the sides."""

    def __init__(self, cleaning: UnetCleaning) -> None:
        super().__init__()
        self.cleaning = cleaning

    def forward(self, frame: Tensor) -> Tensor:
        """Clean one frame."""
        cleaned: Tensor = self.cleaning(frame)
        return cleaned


def vsr_of(network: BasicVsr | RealBasicVsr) -> BasicVsr:
    """Return the BasicVSR part of a network."""
    return network if isinstance(network, BasicVsr) else network.vsr
