"""The loss of the speech networks: L1 and SNR of the waveform, and two losses on its spectrogram.

The multi-resolution STFT loss is that of arXiv 2006.12847, section 3.2 (from Parallel WaveGAN, arXiv 1910.11480).
Deviation: the logarithm's floor is 60 dB under unit level, so that a recording's own faint background is ignored. The
compressed complex loss is that of Braun and Tashev (arXiv 2009.12286), which found it closest to PESQ.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Resolution:
    """One STFT: sizes in samples."""

    fft: int
    hop: int
    window: int


RESOLUTIONS = (Resolution(1024, 120, 600), Resolution(2048, 240, 1200), Resolution(512, 50, 240))
COMPRESSED_RESOLUTIONS = (Resolution(512, 128, 512), Resolution(1024, 256, 1024))
COMPRESSION = 0.3
COMPLEX_SHARE = 0.3


def speech_loss(
    output: Tensor,
    target: Tensor,
    mixture: Tensor,
    *,
    snr_weight: float,
    stft_weight: float,
    compressed_weight: float,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of (batch, 1, samples) waveforms at unit level, and its parts for the log."""
    output, target, mixture = (x.float().flatten(1) for x in (output, target, mixture))
    waveform = functional.l1_loss(output, target)
    loss, parts = waveform, {"l1": waveform}
    if snr_weight:
        parts["snr"] = _snr_loss(output, target, mixture)
        loss = loss + snr_weight * parts["snr"]
    if stft_weight:
        pairs = [_stft_loss(output, target, resolution) for resolution in RESOLUTIONS]
        parts["convergence"] = torch.stack([pair[0] for pair in pairs]).mean()
        parts["magnitude"] = torch.stack([pair[1] for pair in pairs]).mean()
        loss = loss + stft_weight * (parts["convergence"] + parts["magnitude"])
    if compressed_weight:
        losses = [_compressed_loss(output, target, one) for one in COMPRESSED_RESOLUTIONS]
        parts["compressed"] = torch.stack(losses).mean()
        loss = loss + compressed_weight * parts["compressed"]
    return loss, {name: float(value.detach()) for name, value in parts.items()}


def _snr_loss(output: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Return the error's energy over the mixture's, in bels, no lower than -3: every example counts equally.

    With L1 alone the loudest noises dominate, and the network then harms speech that is nearly clean.
    """
    error = (output - target).square().sum(dim=1)
    return torch.log10(error / mixture.square().sum(dim=1).clamp_min(1e-3) + 1e-3).mean()


def _stft_loss(output: Tensor, target: Tensor, resolution: Resolution) -> tuple[Tensor, Tensor]:
    window = torch.hann_window(resolution.window)
    floor = FLOOR**2 * float(window.square().sum())
    x, y = (_magnitude(signal, resolution, window, floor) for signal in (output, target))
    convergence = torch.linalg.vector_norm(y - x) / torch.linalg.vector_norm(y)
    return convergence, functional.l1_loss(x.log(), y.log())


def _compressed_loss(output: Tensor, target: Tensor, resolution: Resolution) -> Tensor:
    """Return the squared error of magnitudes to the power 0.3, blended with that of the complex values."""
    window = torch.hann_window(resolution.window)
    floor = FLOOR**2 * float(window.square().sum())
    spectra = [_spectrum(signal, resolution, window) for signal in (output, target)]
    powers = [_power(spectrum) + floor for spectrum in spectra]
    magnitudes = [power ** (COMPRESSION / 2) for power in powers]
    scales = [power ** ((COMPRESSION - 1) / 2) for power in powers]
    magnitude = functional.mse_loss(*magnitudes)
    complexes = [
        torch.view_as_real(spectrum) * scale[..., None] for spectrum, scale in zip(spectra, scales, strict=True)
    ]
    # A complex value has two parts, so its error is twice the mean over both.
    vector = 2 * functional.mse_loss(*complexes)
    return (1 - COMPLEX_SHARE) * magnitude + COMPLEX_SHARE * vector


def _magnitude(signal: Tensor, resolution: Resolution, window: Tensor, floor: float) -> Tensor:
    return _power(_spectrum(signal, resolution, window)).clamp_min(floor).sqrt()


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _spectrum(signal: Tensor, resolution: Resolution, window: Tensor) -> Tensor:
    return torch.stft(
        signal,
        resolution.fft,
        resolution.hop,
        resolution.window,
        window,
        return_complex=True,
    )
