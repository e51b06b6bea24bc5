"""Chooses how an audio track is encoded, by trial with the encoders and containers themselves."""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from runtime.errors import EncodeError
from runtime.media.audio_encoder import ENCODERS, LOSSLESS, AudioEncoder, AudioSettings
from runtime.media.audio_samples import AudioBlock, read_samples
from runtime.media.demux import count_unusual_channels
from runtime.media.media_info import AudioStream
from runtime.media.muxer import FORMATS

_PCM: Final = ("pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_f64le")
_WAVE: Final = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le")
# The codecs of each container: those that are kept, then those for lossy and for lossless sources, the preferred one
# first; `pcm` is PCM as deep as the source. An MP4 does not store where MP3 ends.
_CONTAINERS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]] = {
    ".mp4": (("aac", "opus", "flac", "alac", "ac3", "eac3"), ("aac", "opus", "ac3"), ("alac", "flac", "pcm")),
    ".m4v": (("aac", "alac", "ac3", "eac3"), ("aac", "ac3"), ("alac", "flac", "pcm")),
    ".m4a": (("aac", "alac"), ("aac", "ac3"), ("alac", "flac", "pcm")),
    ".m4b": (("aac", "alac"), ("aac", "ac3"), ("alac", "flac", "pcm")),
    ".mov": (("aac", "alac", "ac3", *_PCM), ("aac", "ac3"), ("pcm", "alac")),
    ".mkv": (("aac", "opus", "flac", "alac", "mp3", "ac3", "eac3", *_PCM), ("aac", "opus", "ac3"), ("flac", "pcm")),
    ".mka": (("aac", "opus", "flac", "alac", "mp3", "ac3", "eac3", *_PCM), ("aac", "opus", "ac3"), ("flac", "pcm")),
    ".webm": (("opus",), ("opus",), ()),
    ".wav": (_WAVE, ("pcm_s16le",), ("pcm",)),
    ".flac": (("flac",), ("flac",), ("flac",)),
    ".mp3": (("mp3",), ("mp3",), ()),
    ".ogg": (("opus", "flac"), ("opus",), ("flac",)),
    ".opus": (("opus",), ("opus",), ()),
}
# Opus of a lower rate comes back at 48 kHz.
_OPUS_RATES: Final = (48_000,)
_KBITS_A_CHANNEL: Final = {"aac": 96, "opus": 64, "mp3": 96, "ac3": 112, "eac3": 96}
_MOST_KBITS_A_CHANNEL: Final = {"aac": 192, "opus": 160, "mp3": 160, "ac3": 160, "eac3": 160}
# The same channels, labelled as beside or behind the listener.
_TWINS: Final = {
    "quad": "quad(side)", "quad(side)": "quad", "5.0": "5.0(side)", "5.0(side)": "5.0",
    "5.1": "5.1(side)", "5.1(side)": "5.1", "mono": "1 channels", "1 channels": "mono",
}  # fmt: skip
# For channels that the source only counts. Those with an LFE, of which lossy codecs keep the lowest tones alone, come
# last.
_NAMES: Final = (
    "mono", "stereo", "3.0", "quad", "5.0", "hexagonal", "7.0", "octagonal", "hexadecagonal",
    "2.1", "3.1", "4.1", "5.1", "6.1", "7.1", "5.1.2", "5.1.4", "7.1.4", "9.1.4", "9.1.6", "22.2",
)  # fmt: skip
# Layouts to mix down to where a container holds fewer channels; unnamed channels only to the last two.
_MIXES: Final = ("7.1", "5.1", "stereo", "mono")
_SLOTS: Final = (1024, 4096)
_TRIAL_SAMPLES: Final = (16_384, 65_536)


def choose_audio(stream: AudioStream, suffix: str) -> AudioSettings:
    """Choose how a processed track is encoded: in the source's own codec where the container takes it.

    If a codec cannot hold the track's rate or channels, the next codec is tried, then resampling, then a mix of fewer
    channels. Lossless audio stays lossless where the container supports that, and channels keep their names.

    Raises:
        EncodeError: The container supports no audio that can be encoded.
    """
    if suffix not in _CONTAINERS:
        raise EncodeError(f"container {suffix} is not supported for results, expected {', '.join(_CONTAINERS)}")
    kept, lossy, lossless = _CONTAINERS[suffix]
    pcm = _pcm(stream)
    lossless = tuple(pcm if codec == "pcm" else codec for codec in lossless)
    own = (stream.codec,) if stream.codec in kept else ()
    classes = (lossless, lossy) if is_lossless(stream.codec) else (lossy, lossless)
    for codecs in (dict.fromkeys((*own, *classes[0])), dict.fromkeys(classes[1])):
        best = _best(stream, suffix, tuple(codecs))
        if best is not None:
            return best
    unnamed = stream.layout.endswith("channels")
    for layout in _MIXES[2:] if unnamed else _MIXES:
        if av.AudioLayout(layout).nb_channels < stream.channels:
            for codec in dict.fromkeys((*own, *classes[0], *classes[1])):
                settings = _settings(stream, codec, layout)
                if _heard(suffix, settings) is not None:
                    return settings
    raise EncodeError(f"{suffix} cannot hold audio of {stream.sample_rate} Hz in {stream.layout}; use .mkv or .mov")


def is_lossless(codec: str) -> bool:
    """Return whether a codec keeps every bit."""
    return codec.startswith("pcm_") or codec in LOSSLESS


def describe_change(stream: AudioStream, settings: AudioSettings) -> str:
    """Describe what changes because the container or codec cannot hold it; "" if nothing does."""
    changes = []
    if settings.sample_rate != settings.source_rate:
        changes.append(f"resampled from {settings.source_rate} to {settings.sample_rate} Hz")
    channels = av.AudioLayout(settings.layout).nb_channels
    if channels < stream.channels:
        changes.append(f"mixed from {stream.layout} to {settings.layout}")
    if is_lossless(stream.codec) and not settings.is_lossless:
        changes.append("no longer lossless")
    return f"{', '.join(changes)}, because the container needs {settings.codec}" if changes else ""


def _best(stream: AudioStream, suffix: str, codecs: tuple[str, ...]) -> AudioSettings | None:
    """Return the first codec that keeps the channels' names, else one that keeps their number, else any other.

    The source's own codec is kept even if it keeps only their number.
    """
    found: dict[int, AudioSettings] = {}
    for settings in _candidates(stream, codecs):
        heard = _heard(suffix, settings)
        if heard is None:
            continue
        rank = _rank(stream.layout, heard)
        if rank == 0 or (rank == 1 and settings.codec == stream.codec):
            return settings
        found.setdefault(rank, settings)
    return found[min(found)] if found else None


def _rank(wanted: str, heard: str) -> int:
    if heard in (wanted, _TWINS.get(wanted)) or wanted.endswith("channels"):
        return 0
    return 1 if heard.endswith("channels") else 2


def _candidates(stream: AudioStream, codecs: tuple[str, ...]) -> Iterator[AudioSettings]:
    layouts = [stream.layout]
    if stream.layout in _TWINS:
        layouts.append(_TWINS[stream.layout])
    if stream.layout.endswith("channels"):
        layouts += [name for name in _NAMES if av.AudioLayout(name).nb_channels == stream.channels]
    for codec in codecs:
        for layout in dict.fromkeys(layouts):
            yield _settings(stream, codec, layout)
        if codec == "opus":
            # Channels without names, each coded by itself.
            yield replace(_settings(stream, codec, stream.layout), options=(("mapping_family", "255"),))


def _settings(stream: AudioStream, codec: str, layout: str) -> AudioSettings:
    rate = _rate(codec, stream.sample_rate)
    channels = av.AudioLayout(layout).nb_channels
    return AudioSettings(
        codec,
        rate,
        layout,
        _bit_rate(codec, stream, channels),
        _format(codec, stream),
        source_rate=stream.sample_rate,
        source_layout=stream.layout,
        renames=channels == stream.channels and stream.layout.endswith("channels"),
    )


@lru_cache(1024)
def _heard(suffix: str, settings: AudioSettings) -> str | None:
    """Write a tone that cycles through the channels, and return the layout that is read back.

    None if the encoder or container refuses, or returns other channels, another order or another rate: no table is as
    reliable as the encoder itself.
    """
    # Whatever the source, the encoder is tried at its own rate and layout.
    asked = replace(settings, source_rate=settings.sample_rate, source_layout=settings.layout, renames=False)
    audio = _round(av.AudioLayout(settings.layout).nb_channels)
    file = io.BytesIO()
    try:
        output = av.open(file, "w", format=FORMATS[suffix])
        try:
            encoder = AudioEncoder(output, asked)
            for packet in [*encoder.encode(AudioBlock(audio, 0)), *encoder.flush()]:
                output.mux_one(packet)
        finally:
            with suppress(av.FFmpegError):
                output.close()
        file.seek(0)
        with av.open(file, "r") as container:
            count_unusual_channels(container)
            frames = list(container.decode(audio=0))
    except (EncodeError, av.FFmpegError, ValueError, IndexError):
        return None
    if not frames or frames[0].sample_rate != settings.sample_rate or frames[0].layout.nb_channels != len(audio):
        return None
    heard = np.concatenate([read_samples(frame) for frame in frames], axis=1)
    return frames[0].layout.name if _in_order(heard) else None


def _round(channels: int) -> NDArray[np.float32]:
    """Return a tone low enough for an LFE, in one channel after the other."""
    slot = max(_SLOTS[0], min(_SLOTS[1], _TRIAL_SAMPLES[1] // channels))
    tone = 0.5 * np.sin(2 * np.pi * np.arange(slot) / 800)
    audio = np.zeros((channels, max(_TRIAL_SAMPLES[0], channels * slot)), np.float32)
    for channel in range(channels):
        audio[channel, channel * slot : (channel + 1) * slot] = tone
    return audio


def _in_order(heard: NDArray[np.float32]) -> bool:
    power = heard.astype(np.float64) ** 2
    # Sums, not a product of matrices: BLAS threads that wait for each other spin for minutes on a busy machine.
    centres = (power * np.arange(heard.shape[1])).sum(axis=1) / np.maximum(power.sum(axis=1), 1e-9)
    return bool(np.all(np.diff(centres) > 0) and power.sum(axis=1).min() > 1)


def _rate(codec: str, wanted: int) -> int:
    """Return the rate that an encoder takes: the nearest one from the wanted one upwards, else the highest."""
    rates = _OPUS_RATES if codec == "opus" else av.Codec(ENCODERS.get(codec, codec), "w").audio_rates
    if not rates or wanted in rates:
        return wanted
    return min((rate for rate in rates if rate > wanted), default=max(rates))


def _bit_rate(codec: str, stream: AudioStream, channels: int) -> int | None:
    if codec not in _KBITS_A_CHANNEL:
        return None
    least = _KBITS_A_CHANNEL[codec] * channels * 1000
    most = _MOST_KBITS_A_CHANNEL[codec] * channels * 1000
    return min(most, max(least, stream.bit_rate or 0))


def _format(codec: str, stream: AudioStream) -> str | None:
    """Return the bit depth for lossless codecs: 16 bits stay 16, everything deeper becomes 24."""
    if codec == "flac":
        return "s32" if _is_deep(stream) else "s16"
    if codec == "alac":
        return "s32p" if _is_deep(stream) else "s16p"
    return None


def _is_deep(stream: AudioStream) -> bool:
    return stream.sample_format not in ("s16", "s16p", "u8", "u8p")


def _pcm(stream: AudioStream) -> str:
    """Return the PCM that keeps every bit of a lossless source."""
    if stream.sample_format.startswith(("flt", "dbl")) and is_lossless(stream.codec):
        return "pcm_f32le"
    return "pcm_s24le" if _is_deep(stream) else "pcm_s16le"
