"""Hybrid Demucs: a U-Net over the waveform and one over its spectrum that share their innermost level.

"Hybrid Spectrogram and Waveform Source Separation", Defossez (arXiv 2111.03600), written from the paper; complex values
are stored as channels. Not causal: for files, in overlapping segments. The transforms are outside of `core`, the part
that becomes an engine. Deviations: the LSTMs run over the whole segment, not over overlapping chunks of 200 frames; a
channel's gain starts at 1e-3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.hybrid_demucs_layers import DecoderLevel, EncoderLevel

EMBEDDING_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class HybridDemucsConfig:
    """Sizes of one network.

    Five levels of stride 4 take both domains to one frame every `hop` samples, where they meet: `bands` (half the
    transform's length) is then one band. One shared level of stride 2 lies below.
    """

    audio_channels: int = 1
    sources: int = 1
    channels: int = 48
    bands: int = 2048
    hop: int = 1024
    strided_levels: int = 5
    norm_from: int = 4
    deep_from: int = 4

    def __post_init__(self) -> None:
        """Refuse sizes for which the two domains do not align."""
        if self.bands != 2 * 4**self.strided_levels or self.hop != 4**self.strided_levels:
            raise ValueError(
                f"got {self.bands} bands and hop {self.hop}; {self.strided_levels} levels need "
                f"{2 * 4**self.strided_levels} and {4**self.strided_levels}"
            )

    def width(self, level: int) -> int:
        """Return the number of channels after a level."""
        return self.channels * 2**level


class HybridDemucs(nn.Module):
    """Separate whole segments."""

    def __init__(self, config: HybridDemucsConfig) -> None:
        super().__init__()
        self.config = config
        inner = config.strided_levels - 1
        self.frequency_encoder, self.time_encoder = nn.ModuleList(), nn.ModuleList()
        self.frequency_decoder, self.time_decoder = nn.ModuleList(), nn.ModuleList()
        audio, sources = config.audio_channels, config.sources
        for level in range(config.strided_levels):
            width, meets = config.width(level), level == inner
            norm, deep = level >= config.norm_from, level >= config.deep_from
            before = config.width(level - 1)
            spectral_in, time_in = (2 * audio, audio) if level == 0 else (before, before)
            spectral_out, time_out = (2 * audio * sources, audio * sources) if level == 0 else (before, before)
            edge = 0 if meets else 2
            self.frequency_encoder.append(
                EncoderLevel(
                    spectral_in, width, kernel=8, stride=4, padding=edge, over="frequency", norm=norm, deep=deep
                )
            )
            self.time_encoder.append(
                EncoderLevel(
                    time_in, width, kernel=8, stride=4, padding=2, over="time", norm=norm, deep=deep, bare=meets
                )
            )
            self.frequency_decoder.insert(
                0,
                DecoderLevel(
                    width,
                    spectral_out,
                    kernel=8,
                    stride=4,
                    padding=edge,
                    over="frequency",
                    norm=norm,
                    last=level == 0,
                ),
            )
            self.time_decoder.insert(
                0,
                DecoderLevel(
                    width,
                    time_out,
                    kernel=8,
                    stride=4,
                    padding=2,
                    over="time",
                    norm=norm,
                    last=level == 0,
                    bare=meets,
                ),
            )
        outer, deepest = config.width(inner), config.width(inner + 1)
        self.shared_encoder = EncoderLevel(
            outer, deepest, kernel=4, stride=2, padding=1, over="time", norm=True, deep=True
        )
        self.shared_decoder = DecoderLevel(
            deepest, outer, kernel=4, stride=2, padding=1, over="time", norm=True, last=False
        )
        self.band_embedding = nn.Parameter(torch.randn(config.bands // 4, config.channels).cumsum(0) * 0.02)
        self.register_buffer("window", torch.hann_window(2 * config.bands), persistent=False)

    @property
    def segment_multiple(self) -> int:
        """The length of a segment is a multiple of this."""
        return 2 * self.config.hop

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate (batch, audio_channels, samples) into (batch, sources * audio_channels, samples)."""
        length = mixture.shape[-1]
        padded = nn.functional.pad(mixture, (0, -length % self.segment_multiple))
        spectrum, wave = self.core(self.spectrum(padded), padded)
        return (self.inverse(spectrum, padded.shape[-1]) + wave)[..., :length]

    def core(self, spectrum: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network between the transforms.

        Args:
            spectrum: (batch, 2 audio_channels, bands, samples / hop), real and imaginary parts as channels.
            mixture: (batch, audio_channels, samples), a multiple of `segment_multiple`.

        Returns:
            Both domains' shares of the sources, shaped like the inputs.
        """
        spectral_mean = spectrum.mean(dim=(1, 2, 3), keepdim=True)
        spectral_level = _deviation(spectrum, spectral_mean)
        x = (spectrum - spectral_mean) / (1e-5 + spectral_level)
        mean = mixture.mean(dim=(1, 2), keepdim=True)
        level = _deviation(mixture, mean)
        t = (mixture - mean) / (1e-5 + level)
        skips, time_skips = [], []
        for index, (encode, encode_time) in enumerate(zip(self.frequency_encoder, self.time_encoder, strict=True)):
            t = encode_time(t)
            meets = index == self.config.strided_levels - 1
            x = encode(x, t if meets else None)
            if index == 0:
                x = x + EMBEDDING_SHARE * self.band_embedding.t().view(1, -1, x.shape[2], 1)
            skips.append(x)
            if not meets:
                time_skips.append(t)
        shared = self.shared_encoder(x.squeeze(2))
        x, _ = self.shared_decoder(torch.zeros_like(shared), shared)
        x = x.unsqueeze(2)
        for index, (decode, decode_time) in enumerate(zip(self.frequency_decoder, self.time_decoder, strict=True)):
            x, gated = decode(x, skips.pop())
            t, _ = decode_time(gated.squeeze(2), None) if index == 0 else decode_time(t, time_skips.pop())
        return x * spectral_level + spectral_mean, t * level + mean

    def spectrum(self, wave: Tensor) -> Tensor:
        """Transform (batch, channels, samples) to (batch, 2 channels, bands, samples / hop)."""
        batch, channels, length = wave.shape
        config = self.config
        # A frame is centred at half a hop, so that frames and the waveform's innermost features cover the same samples.
        edge = config.bands - config.hop // 2
        padded = nn.functional.pad(wave, (edge, edge), mode="reflect" if length > edge else "constant")
        found = torch.stft(
            padded.flatten(0, 1),
            2 * config.bands,
            config.hop,
            window=self.window,
            center=False,
            normalized=True,
            return_complex=True,
        )
        parts = torch.view_as_real(found[:, :-1]).permute(0, 3, 1, 2)
        return parts.reshape(batch, channels * 2, config.bands, length // config.hop)

    def inverse(self, spectrum: Tensor, length: int) -> Tensor:
        """Transform back; the highest band, which `spectrum` drops, is silent, and a segment fades at its ends."""
        config = self.config
        batch, channels = spectrum.shape[0], spectrum.shape[1] // 2
        parts = spectrum.reshape(batch * channels, 2, config.bands, -1).permute(0, 2, 3, 1).contiguous()
        bands = nn.functional.pad(torch.view_as_complex(parts), (2, 2, 0, 1))
        size = 2 * config.bands
        wave = torch.istft(
            bands, size, config.hop, window=self.window, center=True, normalized=True, length=length + 4 * config.hop
        )
        start = 2 * config.hop - config.hop // 2
        return wave[:, start : start + length].view(batch, channels, length)


def _deviation(x: Tensor, mean: Tensor) -> Tensor:
    dimensions = tuple(range(1, x.ndim))
    return ((x - mean) ** 2).mean(dim=dimensions, keepdim=True).sqrt()
