"""LightVsr: a light recurrent network for x4, x2 and same-size restoration of video on a CPU.

Flow-guided propagation as in BasicVSR (Chan et al., arXiv 2012.02181), forward only: the hidden features of the
previous frame are warped to the frame (outside the network, by `kernels.warp`), concatenated with it and refined by
residual blocks. Deviations from the paper: one direction; a small trunk; a single sub-pixel convolution (ESPCN, arXiv
1609.05158); the previous frame is part of the state, so that the network sees where the alignment fails; a
bicubic skip.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN_REACH = 2
HIGH_PASS_GAIN = 8.0
CONDITION_CHANNELS = 32


@dataclass(frozen=True, slots=True)
class LightVsrConfig:
    """Sizes of one network.

    `grid`: the network computes on the source divided by this (pixel unshuffle), which makes restoration at the
    source's own size affordable.
    `high_pass`: the local mean is subtracted from the input frame, and the rest multiplied by eight. Noise and fine
    detail are a few hundredths next to a mean of a half, and a network that must first learn to subtract that mean
    trains slowly: on noise of sigma 10 it gained 0.8 dB after 120 iterations, and 2.0 dB with this.
    `descriptors`: length of the vector that describes the degradation of the clip
    (`runtime.video.degradation`); 0 for a blind network.
    """

    scale: int
    grid: int = 1
    channels: int = 32
    blocks: int = 4
    high_pass: bool = False
    descriptors: int = 0

    @property
    def state_channels(self) -> int:
        """Hidden features and the three channels of the previous frame."""
        return self.channels + 3

    @property
    def halo(self) -> int:
        """Receptive field of one step around a pixel of the grid: all 3x3 convolutions, and the local mean's 5x5."""
        return 2 * self.blocks + 2 + (MEAN_REACH if self.high_pass else 0)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        return x + self.conv2(torch.relu(self.conv1(x)))


class BicubicSkip(nn.Module):
    """Bicubic upscaling (a = -0.5, edges repeated) as one grouped convolution and a pixel shuffle."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("weight", bicubic_phases(scale).repeat(3, 1, 1, 1), persistent=False)

    def phases(self, x: Tensor) -> Tensor:
        """Map (batch, 3, height, width) to (batch, 3 scale^2, height, width): the upscaling before its shuffle."""
        if self.scale == 1:
            return x
        padded = functional.pad(x, (2, 2, 2, 2), mode="replicate")
        if torch.is_autocast_enabled("cpu"):
            # In bfloat16 the kernels do not sum to one, so the network would learn to compensate for a false
            # brightness.
            with torch.autocast("cpu", enabled=False):
                return functional.conv2d(padded.float(), self.weight, groups=3)
        return functional.conv2d(padded, self.weight.to(x.dtype), groups=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 3, height, width) to (batch, 3, scale height, scale width)."""
        return functional.pixel_shuffle(self.phases(x), self.scale)


class LightVsr(nn.Module):
    """One step of the recurrent network."""

    def __init__(self, config: LightVsrConfig) -> None:
        super().__init__()
        self.config = config
        frame_channels = 3 * config.grid**2
        self.first = nn.Conv2d(frame_channels + config.state_channels, config.channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(config.channels) for _ in range(config.blocks)))
        self.last = nn.Conv2d(config.channels, 3 * (config.scale * config.grid) ** 2, 3, padding=1)
        self.skip = BicubicSkip(config.scale)
        self.register_buffer("unshuffle", unshuffle_kernel(config.grid), persistent=False)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        for block in self.body:
            with torch.no_grad():
                block.conv2.weight.mul_(0.2)
        if config.descriptors:
            outward = nn.Linear(CONDITION_CHANNELS, 2 * config.channels)
            nn.init.zeros_(outward.weight)
            nn.init.zeros_(outward.bias)
            self.condition = nn.Sequential(nn.Linear(config.descriptors, CONDITION_CHANNELS), nn.ReLU(), outward)

    def forward(
        self, frame: Tensor, state: Tensor, strength: Tensor | None = None, degradation: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Enhance one frame.

        Args:
            frame: (batch, 3, height, width), RGB in [0, 1]; height and width multiples of the grid.
            state: (batch, channels + 3, height / grid, width / grid), warped to this frame; zeros at the start.
            strength: (1,) share of the restored detail that is added to the bicubic upscaling; all of it if None.
            degradation: (batch, descriptors) for a network that uses them.

        Returns:
            The enhanced frame (batch, 3, scale height, scale width), not clamped, and the next state (not warped).
        """
        planes, carried = self.look(frame)
        bias, gain = self.modulation(degradation)
        first = self.first(torch.cat((planes, state), dim=1))
        features = self.refine(first if bias is None else first + bias)
        output = self.show(frame, features if gain is None else features * gain, strength)
        return output, torch.cat((features, carried.to(features.dtype)), dim=1)

    def modulation(self, degradation: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Return the bias of the first features and the factor of the last ones, (batch, channels, 1, 1)."""
        if not self.config.descriptors:
            return None, None
        assert degradation is not None
        bias, gain = self.condition(degradation)[:, :, None, None].chunk(2, dim=1)
        return bias, 1 + gain

    def look(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frame as planes on the grid, and as the three planes for the next frame's state."""
        grid = self.config.grid
        planes, carried = frame, frame
        if grid > 1:
            planes = functional.conv2d(frame, self.unshuffle.to(frame.dtype), stride=grid)
            carried = functional.avg_pool2d(frame, grid)
        if self.config.high_pass:
            padded = functional.pad(carried, (MEAN_REACH,) * 4, mode="replicate")
            mean = functional.avg_pool2d(padded, 2 * MEAN_REACH + 1, stride=1)
            planes = (
                planes - torch.cat([mean[:, c : c + 1] for c in range(3) for _ in range(grid**2)], 1)
            ) * HIGH_PASS_GAIN
        return planes, carried

    def refine(self, first: Tensor) -> Tensor:
        """Return the hidden features from the first convolution's output."""
        features: Tensor = self.body(torch.relu(first))
        return features

    def show(self, frame: Tensor, features: Tensor, strength: Tensor | None) -> Tensor:
        """Add the features' detail to the bicubic upscaling of the frame."""
        detail = self.last(features)
        if strength is not None:
            detail = detail * strength
        if self.config.grid > 1:
            detail = functional.pixel_shuffle(detail, self.config.grid)
        return functional.pixel_shuffle(self.skip.phases(frame) + detail, self.config.scale)


def unshuffle_kernel(grid: int) -> Tensor:
    """Return pixel unshuffle as a convolution of stride `grid`: (3 grid^2, 3, grid, grid), a one in each kernel.

    With dynamic sizes the exporter writes `pixel_unshuffle` as shape arithmetic, which not every engine supports.
    """
    kernel = torch.zeros(3 * grid**2, 3, grid, grid)
    for channel in range(3):
        for row in range(grid):
            for column in range(grid):
                kernel[channel * grid**2 + row * grid + column, channel, row, column] = 1
    return kernel


def bicubic_phases(scale: int) -> Tensor:
    """Return the (scale^2, 1, 5, 5) kernels of bicubic upscaling, one for each sub-pixel in raster order."""
    taps = torch.zeros(scale, 5)
    for phase in range(scale):
        position = (phase + 0.5) / scale - 0.5
        for tap in range(5):
            taps[phase, tap] = _keys(abs(tap - 2 - position))
    taps = taps / taps.sum(dim=1, keepdim=True)
    return torch.einsum("ai,bj->abij", taps, taps).reshape(scale * scale, 1, 5, 5)


def _keys(distance: float) -> float:
    """Keys' cubic with a = -0.5."""
    if distance < 1:
        return 1.5 * distance**3 - 2.5 * distance**2 + 1
    if distance < 2:
        return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return 0.0
