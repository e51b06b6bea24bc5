"""BasicVSR cut into engines, so that a clip of any length runs in bounded memory.

The host holds the features and warps them between the engines by our flow-warp kernel: backwards through the clip
`backward` (its features are kept, on disk if need be), forwards `forward` and `reconstruction`. Where a clip begins and
ends features are zeros, as in the whole network; `flow` is run on pairs of neighbours.
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
        """Find where each pixel of `reference` lies in `other`."""
        flow: Tensor = self.network(reference, other)
        return flow


class BranchStep(nn.Module):
    """One frame of a branch: the frame and the features of its neighbour, warped to it, to its own features."""

    def __init__(self, branch: ResidualBlocks) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, frame: Tensor, warped: Tensor) -> Tensor:
        """Map (1, 3, height, width) and (1, channels, height, width) to the latter's shape."""
        features: Tensor = self.branch(torch.cat((frame, warped), dim=1))
        return features


class ReconstructionStep(nn.Module):
    """Both branches' features and the frame to the result."""

    def __init__(self, network: BasicVsr, *, same_size: bool) -> None:
        super().__init__()
        self.reconstruction = network.reconstruction
        self.same_size = same_size

    def forward(self, backward: Tensor, forward: Tensor, frame: Tensor) -> Tensor:
        """Return (1, 3, 4 height, 4 width).

        `frame` is what detail is added to: enlarged by four, or, with the U-Net cleaning, the frame of that size.
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
    """Return the BasicVSR in a network."""
    return network if isinstance(network, BasicVsr) else network.vsr
