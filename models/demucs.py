"""Causal Demucs: a waveform U-Net with an LSTM that removes noise from speech.

"Real Time Speech Enhancement in the Waveform Domain", Defossez, Synnaeve and Adi (arXiv 2006.12847). Parameter
names are those of the published checkpoints, so that a user's own copy loads with `strict=True`. The same
weights run block by block in `models.demucs_step`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

SINC_ZEROS = 56
"""Zero crossings on each side of the resampling filter, as published."""


@dataclass(frozen=True, slots=True)
class DemucsConfig:
    """The configuration of a network: channels double at each level, from `hidden` at the outermost.

    `predicts`: the output of the layers. The published networks predict speech. One that predicts noise, which is then
    subtracted from the mixture, starts as the identity and so needs far less training until it does no harm.
    """

    hidden: int = 48
    depth: int = 5
    kernel_size: int = 8
    stride: int = 4
    resample: int = 4
    growth: int = 2
    lstm_layers: int = 2
    floor: float = 1e-3
    rescale: float = 0.1
    sample_rate: int = 16_000
    predicts: Literal["speech", "noise"] = "speech"

    def channels(self, level: int) -> int:
        """Return the length of the features after `level` encoders."""
        return self.hidden * self.growth ** (level - 1)


class Demucs(nn.Module):
    """Causal Demucs over whole waveforms.

    Args:
        config: The network's sizes.
        normalize: Divide the input by its standard deviation and multiply the output by it, as published. The pipeline
        tracks the level itself and disables it.
    """

    def __init__(self, config: DemucsConfig, *, normalize: bool = True) -> None:
        super().__init__()
        self.config = config
        self.normalize = normalize
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels_in = 1
        for level in range(1, config.depth + 1):
            width = config.channels(level)
            self.encoder.append(_encoder_level(channels_in, width, config))
            self.decoder.insert(0, _decoder_level(width, channels_in, config, last=level == 1))
            channels_in = width
        self.lstm = Recurrence(channels_in, config.lstm_layers)
        self.register_buffer("sinc", sinc_filter(), persistent=False)
        if config.rescale:
            _rescale(self, config.rescale)
        if config.predicts == "noise":
            nn.init.zeros_(self.decoder[-1][2].weight)
            nn.init.zeros_(self.decoder[-1][2].bias)

    def valid_length(self, length: int) -> int:
        """Return the smallest length from `length` up that every level divides evenly."""
        config = self.config
        size = length * config.resample
        for _ in range(config.depth):
            size = max(math.ceil((size - config.kernel_size) / config.stride) + 1, 1)
        for _ in range(config.depth):
            size = (size - 1) * config.stride + config.kernel_size
        return math.ceil(size / config.resample)

    def forward(self, mixture: Tensor) -> Tensor:
        """Denoise whole waveforms: (batch, 1, samples) to the same shape."""
        estimate = self.estimate(mixture)
        return estimate if self.config.predicts == "speech" else mixture - estimate

    def estimate(self, mixture: Tensor) -> Tensor:
        """Return the output of the layers: speech or noise, depending on `config.predicts`."""
        length = mixture.shape[-1]
        level: Tensor | float = 1.0
        if self.normalize:
            level = mixture.std(dim=-1, keepdim=True) + self.config.floor
        x = functional.pad(mixture / level, (0, self.valid_length(length) - length))
        for _ in range(_halvings(self.config.resample)):
            x = upsample2(x, self.sinc)
        skips = []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x = self.lstm(x)
        for decode in self.decoder:
            skip = skips.pop()
            x = decode(x + skip[..., : x.shape[-1]])
        for _ in range(_halvings(self.config.resample)):
            x = downsample2(x, self.sinc)
        # The published code multiplies by the standard deviation without the floor.
        gain = mixture.std(dim=-1, keepdim=True) if self.normalize else 1.0
        return x[..., :length] * gain


class Recurrence(nn.Module):
    """The unidirectional LSTM between encoder and decoder, over (batch, channels, frames)."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run the sequence from zero state."""
        return self.lstm(x.permute(2, 0, 1))[0].permute(1, 2, 0)


def sinc_filter(zeros: int = SINC_ZEROS) -> Tensor:
    """Return the half-sample interpolation filter, (1, 1, 2 * zeros): a sinc under a Hann window (section 2.1)."""
    window = torch.hann_window(4 * zeros + 1, periodic=False)[1::2]
    time = torch.linspace(-zeros + 0.5, zeros - 0.5, 2 * zeros) * math.pi
    return (torch.sin(time) / time * window).view(1, 1, -1)


def upsample2(x: Tensor, sinc: Tensor) -> Tensor:
    """Double the rate of (batch, 1, samples): even samples are the input, odd ones interpolated."""
    between = functional.conv1d(x, sinc, padding=sinc.shape[-1] // 2)[..., 1:]
    return torch.stack([x, between], dim=-1).flatten(-2)


def downsample2(x: Tensor, sinc: Tensor) -> Tensor:
    """Halve the rate of (batch, 1, samples); an odd length is padded by one zero."""
    if x.shape[-1] % 2:
        x = functional.pad(x, (0, 1))
    between = functional.conv1d(x[..., 1::2], sinc, padding=sinc.shape[-1] // 2)[..., :-1]
    return 0.5 * (x[..., ::2] + between)


def _encoder_level(channels_in: int, width: int, config: DemucsConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels_in, width, config.kernel_size, config.stride),
        nn.ReLU(),
        nn.Conv1d(width, 2 * width, 1),
        nn.GLU(dim=1),
    )


def _decoder_level(width: int, channels_out: int, config: DemucsConfig, *, last: bool) -> nn.Sequential:
    level = nn.Sequential(
        nn.Conv1d(width, 2 * width, 1),
        nn.GLU(dim=1),
        nn.ConvTranspose1d(width, channels_out, config.kernel_size, config.stride),
    )
    if not last:
        level.append(nn.ReLU())
    return level


def _rescale(network: nn.Module, reference: float) -> None:
    """Rescale the initial weights of every convolution towards a common scale, as published."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            scale = (module.weight.std().detach() / reference) ** 0.5
            module.weight.data /= scale
            if module.bias is not None:
                module.bias.data /= scale


def _halvings(resample: int) -> int:
    return resample.bit_length() - 1
