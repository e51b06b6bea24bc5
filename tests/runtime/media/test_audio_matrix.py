"""Every audio format into every container: none is refused, and every sample is there, in its channel."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.media.audio_codecs import choose_audio, is_lossless
from runtime.media.audio_encoder import AudioEncoder, AudioSettings
from runtime.media.audio_reader import AudioReader
from runtime.media.audio_samples import AudioBlock
from runtime.media.media_info import AudioStream
from runtime.media.muxer import FORMATS, Muxer
from runtime.media.probe import probe

SOURCES = {
    "pcm_s16le": "s16", "pcm_s24le": "s32", "pcm_f32le": "flt", "flac": "s16", "alac": "s32p", "aac": "fltp",
    "mp3": "fltp", "opus": "fltp", "vorbis": "fltp", "ac3": "fltp", "eac3": "fltp", "mp2": "s16p",
}  # fmt: skip
LAYOUTS = (
    "mono", "stereo", "2.1", "3.0", "4.0", "quad", "5.0", "5.0(side)", "5.1", "5.1(side)", "6.0", "6.1", "7.0", "7.1",
    "7.1(wide)", "5.1.2", "hexadecagonal", "3 channels", "6 channels", "12 channels", "16 channels",
)  # fmt: skip
RATES = (8000, 11_025, 16_000, 22_050, 22_254, 32_000, 37_800, 44_056, 44_100, 48_000, 88_200, 96_000, 192_000)
MOST = {".mp3": 2, ".flac": 8}
"""How many channels a container holds at most; others hold any number."""
LOSSY = (".webm", ".opus", ".mp3")
WITHOUT_LOSSLESS = [(".ogg", layout, True) for layout in ("hexadecagonal", "12 channels", "16 channels")]


def make_stream(codec: str, layout: str, rate: int) -> AudioStream:
    return AudioStream(
        index=0,
        codec=codec,
        sample_rate=rate,
        channels=av.AudioLayout(layout).nb_channels,
        layout=layout,
        sample_format=SOURCES[codec],
        time_base=Fraction(1, rate),
        start_pts=0,
        duration_pts=None,
        bit_rate=None,
        disposition=0,
        tags={},
        origin=Fraction(0),
    )


def write(path: Path, settings: AudioSettings, audio: np.ndarray) -> AudioEncoder:
    def packets() -> Iterator[Any]:
        for at in range(0, audio.shape[1], 1111):
            yield from encoder.encode(AudioBlock(audio[:, at : at + 1111], at))
        yield from encoder.flush()

    with Muxer(path, overwrite=True) as muxer:
        encoder = muxer.add_audio(settings)
        muxer.run([packets()])
        muxer.publish()
    return encoder


def check(folder: Path, stream: AudioStream, suffix: str, samples: int = 30_011) -> str:
    """Encode audio that passes through all channels and read it back; return the problems found."""
    settings = choose_audio(stream, suffix)
    length = -(-samples // stream.channels)
    tone = 0.5 * np.sin(2 * np.pi * np.arange(length) / (length // 8))
    audio = np.zeros((stream.channels, samples), np.float32)
    for channel in range(stream.channels):
        part = slice(channel * length, min(samples, (channel + 1) * length))
        audio[channel, part] = tone[: part.stop - part.start]
    ratio = Fraction(settings.sample_rate, stream.sample_rate)
    encoder = write(folder / f"a{suffix}", settings, audio)
    found = probe(folder / f"a{suffix}").audios[0]
    with AudioReader(folder / f"a{suffix}", found) as reader:
        heard = np.concatenate([block.samples for block in reader], axis=1)
    problems = list(reader.warnings)
    if not heard.shape[1] == encoder.written == round(samples * ratio):
        problems.append(f"{heard.shape[1]} samples, encoded {encoder.written}, expected {round(samples * ratio)}")
    if found.sample_rate != settings.sample_rate or reader.first_sample:
        problems.append(f"{found.sample_rate} Hz from {reader.first_sample}, expected {settings.sample_rate} from 0")
    most = MOST.get(suffix, stream.channels)
    # Channels without names are mixed to stereo, which cannot hold them all.
    if len(heard) < (
        2 if most < stream.channels and stream.layout.endswith("channels") else min(stream.channels, most)
    ):
        problems.append(f"{len(heard)} channels")
    if len(heard) == stream.channels:
        energies = heard.astype(np.float64) ** 2
        centres = energies @ np.arange(heard.shape[1]) / np.maximum(energies.sum(axis=1), 1e-9)
        places = (np.arange(stream.channels) + 0.5) * length * float(ratio)
        if np.abs(centres - places).max() > length / 4 * ratio + 300:
            problems.append(f"channels in another order: {centres.round()}")
        if settings.is_lossless and np.abs(heard - audio).max() > 2.0 ** (-23 if _is_deep(settings) else -15):
            problems.append(f"off by {np.abs(heard - audio).max()}")
    if is_lossless(stream.codec) and suffix not in LOSSY and not settings.is_lossless:
        problems.append(f"lossless sound became {settings.codec}")
    return f"{settings}: {'; '.join(problems)}" if problems else ""


def _is_deep(settings: AudioSettings) -> bool:
    return "24" in settings.codec or "f32" in settings.codec or "s32" in (settings.sample_format or "")


def test_a_lossless_source_stays_lossless_where_the_container_can(tmp_path: Path) -> None:
    cases = [
        ("pcm_s24le", layout, 48_000, suffix)
        for layout in ("2.1", "quad", "5.0(side)", "5.1(side)", "6.1", "7.1", "16 channels")
        for suffix in (".mp4", ".m4a", ".mkv")
    ]
    cases += [("pcm_s16le", "stereo", rate, ".m4a") for rate in (8000, 22_254, 44_056, 192_000)]

    found = [check(tmp_path, make_stream(*case), suffix) for *case, suffix in cases]

    assert [problem for problem in found if problem] == []


def test_lossy_audio_that_an_encoder_refuses_goes_another_way(tmp_path: Path) -> None:
    cases = [
        ("eac3", "7.1", 48_000, ".mkv"),
        ("ac3", "6.1", 48_000, ".mp4"),
        ("opus", "2.1", 48_000, ".webm"),
        ("vorbis", "4.0", 48_000, ".ogg"),
        ("ac3", "5.1(side)", 48_000, ".webm"),
        ("vorbis", "6.0", 44_100, ".opus"),
        ("aac", "3 channels", 22_254, ".m4a"),
        ("aac", "16 channels", 44_056, ".mp4"),
        ("aac", "5.1", 48_000, ".mp3"),
    ]

    found = [check(tmp_path, make_stream(*case), suffix) for *case, suffix in cases]

    assert [problem for problem in found if problem] == []


@pytest.mark.slow
def test_every_audio_format_goes_into_every_container(tmp_path: Path) -> None:
    kinds = [(layout, 48_000) for layout in LAYOUTS] + [("stereo", rate) for rate in RATES]
    found, seen = [], set()
    # MP4 and MOV stand for everything else that FFmpeg's muxer writes, and MKV for MKA.
    suffixes = [suffix for suffix in FORMATS if suffix not in (".m4v", ".m4a", ".m4b", ".mka")]
    for codec, (layout, rate), suffix in product(SOURCES, kinds, suffixes):
        stream = make_stream(codec, layout, rate)
        settings = choose_audio(stream, suffix)
        unlike = (suffix, settings, is_lossless(codec))
        # FLAC in Ogg ends at 8 channels.
        if unlike not in seen and (suffix, layout, is_lossless(codec)) not in WITHOUT_LOSSLESS:
            seen.add(unlike)
            found.append(check(tmp_path, stream, suffix))

    assert [problem for problem in found if problem] == []
