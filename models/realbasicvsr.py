"""RealBasicVSR: frames are cleaned before BasicVSR propagates them (Chan et al., arXiv 2111.12704).

Two cleaning modules: the paper's residual one, repeated until its correction is small (section 3.3), and a U-Net that
reduces the full-size frame to a quarter, so that BasicVSR restores the same size ("Improvement of the quality of real
video footage", chapter 5; `2lev_1res_wS` is two levels, one block, with skip). Deviation: the figure with the widths is
not legible. Ours are 12, 24, 48, ... (doubled at each halving, as in its section 5.2.2): 3,491,878 trainable
parameters for the 2-level variant against its 3,502,462 (0.3 % fewer).
"""

import itertools
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.basicvsr import BasicVsr, BasicVsrConfig, ResidualBlock, ResidualBlocks

FIRST_WIDTH = 12


@dataclass(frozen=True, slots=True)
class CleaningConfig:
    """Sizes of a cleaning module.

    `threshold`: mean absolute change of one pass, in 255ths, below which no further pass is made; the paper uses 1.5, 5
    and 255. `levels` and `skip` are for the U-Net only, `passes` and `threshold` for the residual one.
    """

    kind: Literal["residual", "unet"] = "residual"
    blocks: int = 20
    channels: int = 64
    passes: int = 3
    threshold: float = 5.0
    levels: int = 2
    skip: bool = True


@dataclass(frozen=True, slots=True)
class RealBasicVsrConfig:
    """A cleaning module followed by a BasicVSR with 20 blocks per branch, as published."""

    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    vsr: BasicVsrConfig = field(default_factory=lambda: BasicVsrConfig(blocks=20))


class RealBasicVsr(nn.Module):
    """Clean a clip, then upscale it by four; with the U-Net, restore it at its own size."""

    def __init__(self, config: RealBasicVsrConfig) -> None:
        super().__init__()
        self.config = config
        kind = ResidualCleaning if config.cleaning.kind == "residual" else UnetCleaning
        self.cleaning = kind(config.cleaning)
        self.vsr = BasicVsr(config.vsr)

    def forward(self, frames: Tensor) -> Tensor:
        """Restore a clip.

        Args:
            frames: (batch, frames, 3, height, width), RGB in [0, 1]; with the U-Net, sides are multiples of
            `side_multiple`.

        Returns:
            (batch, frames, 3, 4 height, 4 width), with the U-Net (batch, frames, 3, height, width); not clamped.
        """
        cleaned = self.clean(frames)
        skip = frames if self.config.cleaning.kind == "unet" else None
        restored: Tensor = self.vsr(cleaned, skip)
        return restored

    def clean(self, frames: Tensor) -> Tensor:
        """Clean a clip; return the input frames of BasicVSR."""
        cleaned: Tensor = self.cleaning(frames.flatten(0, 1))
        return cleaned.unflatten(0, frames.shape[:2])


class ResidualCleaning(nn.Module):
    """The paper's cleaning: residual blocks compute a correction, at most `passes` times."""

    def __init__(self, config: CleaningConfig) -> None:
        super().__init__()
        self.config = config
        self.features = ResidualBlocks(3, config.channels, config.blocks)
        self.last = nn.Conv2d(config.channels, 3, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Clean (frames, 3, height, width), all with the same number of passes, by the mean over the whole clip.

        The number of passes depends on the data. In a graph, which has no branches, an unneeded pass is multiplied by
        zero; where that is too slow, `CleaningPass` is an engine of one pass, which its caller repeats.
        """
        threshold = self.config.threshold / 255
        if torch.compiler.is_exporting():
            wanted = frames.new_ones(1)
            for _ in range(self.config.passes):
                correction = self.correction(frames)
                frames = frames + wanted * correction
                wanted = wanted * (correction.abs().mean().view(1) >= threshold).to(frames.dtype)
            return frames
        for _ in range(self.config.passes):
            correction = self.correction(frames)
            frames = frames + correction
            if float(correction.abs().mean()) < threshold:
                break
        return frames

    def correction(self, frames: Tensor) -> Tensor:
        """Return the correction of one pass."""
        added: Tensor = self.last(self.features(frames))
        return added


class CleaningPass(nn.Module):
    """One pass of the residual cleaning as an engine: cleaned frames, and the mean change in 255ths."""

    def __init__(self, cleaning: ResidualCleaning) -> None:
        super().__init__()
        self.cleaning = cleaning

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map (frames, 3, height, width) to the same shape and (1,)."""
        correction = self.cleaning.correction(frames)
        return frames + correction, (correction.abs().mean() * 255).view(1)


class UnetCleaning(nn.Module):
    """A U-Net from the frame at full size to a clean one of a quarter of its sides."""

    def __init__(self, config: CleaningConfig) -> None:
        super().__init__()
        self.config = config
        widths = level_widths(config.levels)
        self.shrink = nn.Sequential(
            nn.Conv2d(3, FIRST_WIDTH, 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(FIRST_WIDTH, widths[0], 3, stride=2, padding=1),
            nn.LeakyReLU(0.1),
        )
        self.before = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.after = nn.ModuleList(_blocks(width, config.blocks) for width in widths[:-1])
        self.down = nn.ModuleList(
            nn.Conv2d(upper, lower, 3, stride=2, padding=1) for upper, lower in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(lower, 4 * upper, 3, padding=1) for upper, lower in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (frames, 3, height, width) to (frames, 3, height / 4, width / 4).

        Raises:
            ValueError: A side is not a multiple that the levels need.
        """
        multiple = side_multiple(self.config)
        if frames.shape[-1] % multiple or frames.shape[-2] % multiple:
            raise ValueError(
                f"got frames of {frames.shape[-1]}x{frames.shape[-2]}; {self.config.levels} levels need sides that "
                f"are multiples of {multiple}: pad the frames"
            )
        x = self.shrink(frames)
        held = []
        for level, before in enumerate(self.before):
            x = before(x)
            if level < len(self.down):
                held.append(x)
                x = functional.leaky_relu(self.down[level](x), 0.1)
        for level in reversed(range(len(self.up))):
            x = self.after[level](held[level] + functional.pixel_shuffle(self.up[level](x), 2))
        cleaned = self.last(x)
        if self.config.skip:
            cleaned = cleaned + functional.interpolate(frames, scale_factor=0.25, mode="bilinear", align_corners=False)
        return cleaned


def level_widths(levels: int) -> tuple[int, ...]:
    """Return the channels of each level of the U-Net."""
    return tuple(2 * FIRST_WIDTH * 2**level for level in range(levels))


def side_multiple(config: CleaningConfig) -> int:
    """Return the required multiple of a frame's sides."""
    return int(4 * 2 ** (config.levels - 1)) if config.kind == "unet" else 1


def unet_config(levels: int, blocks: int, *, skip: bool, vsr: BasicVsrConfig | None = None) -> RealBasicVsrConfig:
    """Return one of the U-Net variants, named `2lev_1res_wS` and so on in their publication."""
    cleaning = CleaningConfig(kind="unet", blocks=blocks, levels=levels, skip=skip)
    return RealBasicVsrConfig(cleaning, vsr or BasicVsrConfig(blocks=20))


def _blocks(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
