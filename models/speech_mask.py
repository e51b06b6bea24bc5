"""A recurrent spectral mask: removes noise from speech by a gain for each bin of a short-time spectrum.

The plain causal form of spectral masking (Wang and Chen, arXiv 1708.07524, section III): log spectrum, two GRUs, a gain
between 0 and 1 for each of 257 bins, the noisy phase. It learns in minutes what takes a waveform network hours, since
the analysis is fixed. Whole files and streams use the same code.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class SpeechMaskConfig:
    """The configuration of a network: windows of two hops."""

    hidden: int = 256
    layers: int = 2
    hop: int = 256
    sample_rate: int = 16_000

    @property
    def bins(self) -> int:
        """Bins of the spectrum."""
        return self.hop + 1


class SpeechMask(nn.Module):
    """A causal mask over waveforms; the caller normalises the level.

    Args:
        config: The network's sizes.
        gain_exponent: Power to which gains are raised; below 1 the reduction is weaker. Trained at 1.
    """

    def __init__(self, config: SpeechMaskConfig, *, gain_exponent: float = 1.0) -> None:
        super().__init__()
        self.config = config
        self.gain_exponent = gain_exponent
        self.inward = nn.Linear(config.bins, config.hidden)
        self.gru = nn.GRU(config.hidden, config.hidden, num_layers=config.layers)
        self.outward = nn.Linear(config.hidden, config.bins)
        # Gains start near 1: noise is reduced only as the network learns.
        nn.init.constant_(self.outward.bias, 1.0)
        analysis, synthesis = transforms(config.hop)
        self.register_buffer("analysis", analysis, persistent=False)
        self.register_buffer("synthesis", synthesis, persistent=False)

    def valid_length(self, length: int) -> int:
        """Return the smallest length from `length` up that is a whole number of hops."""
        return math.ceil(length / self.config.hop) * self.config.hop

    def forward(self, mixture: Tensor) -> Tensor:
        """Denoise whole waveforms: (batch, 1, samples) to the same shape."""
        batch, _, length = mixture.shape
        hop = self.config.hop
        x = functional.pad(mixture, (0, self.valid_length(length) + hop - length))
        zeros = [mixture.new_zeros(shape) for shape in self.state_shapes(batch=batch).values()]
        return self.step(x, *zeros)[0][..., hop : hop + length]

    def state_shapes(self, *, batch: int = 1) -> dict[str, tuple[int, ...]]:
        """Return the shape of every state of a stream."""
        config = self.config
        return {
            "past": (batch, 1, config.hop),
            "h": (config.layers, batch, config.hidden),
            "tail": (batch, 1, config.hop),
        }

    def step(self, x: Tensor, past: Tensor, h: Tensor, tail: Tensor) -> tuple[Tensor, ...]:
        """Denoise a block of whole hops, (batch, 1, samples): the output, delayed by one hop, and the next states."""
        hop = self.config.hop
        hops = torch.cat([past, x], dim=-1).reshape(x.shape[0], -1, hop)
        spectrum = torch.cat([hops[:, :-1], hops[:, 1:]], dim=-1) @ self.analysis
        gain, h = self._gains(spectrum, h)
        frames = (spectrum * torch.cat([gain, gain], dim=-1)) @ self.synthesis
        late = torch.cat([tail, frames[:, :-1, hop:]], dim=1)
        y = (frames[..., :hop] + late).reshape(x.shape[0], 1, -1)
        return y, x[..., -hop:], h, frames[:, -1:, hop:]

    def _gains(self, spectrum: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        bins = self.config.bins
        power = spectrum[..., :bins].square() + spectrum[..., bins:].square()
        features = 0.5 * torch.log10(power + 1e-4)
        hidden = torch.relu(self.inward(features)).transpose(0, 1)
        recurrent, h = self.gru(hidden, h)
        gain = torch.sigmoid(self.outward(recurrent + hidden)).transpose(0, 1)
        return (gain if self.gain_exponent == 1 else gain**self.gain_exponent), h


def transforms(hop: int) -> tuple[Tensor, Tensor]:
    """Return the windowed Fourier transform of two hops as matrices: (2 hop, 2 bins) and back.

    The window is the root of a Hann window on both sides, whose squares overlap to 1.
    """
    size = 2 * hop
    window = torch.hann_window(size, dtype=torch.float64).sqrt()
    spectrum = torch.fft.rfft(torch.diag(window), dim=1)
    basis = torch.eye(hop + 1, dtype=torch.complex128)
    back = [torch.fft.irfft(part * basis, n=size, dim=1) * window for part in (1, 1j)]
    analysis = torch.cat([spectrum.real, spectrum.imag], dim=1)
    return analysis.float(), torch.cat(back).float()
