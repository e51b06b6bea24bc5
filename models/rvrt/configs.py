"""Sizes of every RVRT: those of the six published checkpoints, and small ones of our own."""

from dataclasses import dataclass, field, replace
from typing import Literal

from models.spynet import SpynetConfig


@dataclass(frozen=True, slots=True)
class RvrtConfig:
    """The configuration of a network.

    `scale`: 4, or 1 for restoration, which works at a quarter of the frame's sides. `blocks` and `depths`: transformer
    groups, and layers in each, of feature extraction, of one propagation branch and of reconstruction.
    `branches`: how many of backward_1, forward_1, backward_2, forward_2 are used. `groups`: of the first convolution of
    extraction, the four branches and reconstruction. `noise_level`: a fourth input channel, sigma / 255.
    `refinement`: the residual block; None is the published network.
    """

    scale: Literal[1, 4] = 4
    embed: int = 144
    window: int = 8
    blocks: tuple[int, int, int] = (1, 2, 1)
    depths: tuple[int, int, int] = (2, 2, 2)
    heads: int = 6
    mlp_ratio: int = 2
    deformable_groups: int = 12
    deformable_heads: int = 12
    deformable_window: int = 3
    offset_width: int = 64
    max_residue: float = 10.0
    groups: tuple[int, ...] = (1, 1, 1, 1, 1, 1)
    branches: int = 4
    up_width: int = 64
    noise_level: bool = False
    refinement: bool = False
    sampling: Literal["grid_sample", "gather"] = "grid_sample"
    flow: SpynetConfig = field(default_factory=SpynetConfig)

    def __post_init__(self) -> None:
        """Refuse sizes that do not divide evenly."""
        for name, parts in (("heads", self.heads), ("deformable_heads", self.deformable_heads)):
            if self.embed % parts:
                raise ValueError(f"got embed {self.embed} and {name} {parts}; one must divide the other")
        if self.deformable_groups % 2 or 4 * self.embed % self.deformable_groups:
            raise ValueError(f"got {self.deformable_groups} deformable groups; expected an even divisor of 4 embed")

    @property
    def input_channels(self) -> int:
        """Channels of an input frame."""
        return 4 if self.noise_level else 3

    @property
    def side_multiple(self) -> int:
        """Sides of a frame are multiples of this; attention pads the rest itself."""
        return 1 if self.scale == 4 else 4

    @property
    def branch_names(self) -> tuple[str, ...]:
        """The propagation branches in order."""
        return ("backward_1", "forward_1", "backward_2", "forward_2")[: self.branches]


SUPER_RESOLUTION = RvrtConfig()
DEBLURRING = RvrtConfig(scale=1, embed=192, groups=(1, 3, 3, 3, 3, 3))
DENOISING = replace(DEBLURRING, groups=(1, 3, 4, 6, 8, 4), noise_level=True)

_HALF_FLOW = SpynetConfig(levels=5, widths=(16, 32, 16, 8), shrink=2)
"""Half-width five-level flow at half resolution: full flow takes 74 GFLOP per 320x180 frame, more than all the rest."""

# Thousands of parameters:  flow  extraction  alignment  propagation  reconstruction  residual block  upsampler  all
#                    small   318          21        230          224              67              21         21  902
#                    tiny    318          13         67           58              28              21         21  526
# The original design had 620 and 340 thousand, with flow convolutions of 5x5 (162) and 16 channels in the offset
# convolutions. Here 7x7 is SPyNet's own kernel, so that its levels can be compared, and offsets as wide as the features
# take 7 of small's 71 GFLOP per 320x180 frame.
SMALL = RvrtConfig(
    embed=32,
    blocks=(1, 1, 1),
    heads=4,
    deformable_groups=4,
    deformable_heads=4,
    offset_width=32,
    up_width=16,
    refinement=True,
    flow=_HALF_FLOW,
)
TINY = replace(SMALL, embed=24, offset_width=24, branches=2)

RVRT_CONFIGS: dict[str, RvrtConfig] = {
    "001_RVRT_videosr_bi_REDS_30frames": SUPER_RESOLUTION,
    "002_RVRT_videosr_bi_Vimeo_14frames": SUPER_RESOLUTION,
    "003_RVRT_videosr_bd_Vimeo_14frames": SUPER_RESOLUTION,
    "004_RVRT_videodeblurring_DVD_16frames": DEBLURRING,
    "005_RVRT_videodeblurring_GoPro_16frames": DEBLURRING,
    "006_RVRT_videodenoising_DAVIS_16frames": DENOISING,
    "small": SMALL,
    "tiny": TINY,
}
