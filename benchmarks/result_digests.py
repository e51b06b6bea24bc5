"""Digest the results of every preset on sixteen generated sources, to show that a change keeps them byte for byte.

`python -m benchmarks.result_digests OUT.json` writes `{"source/preset": "sha256 name"}`, or the error where a job is
refused; `--compare OLD.json` prints the differences and exits with 1 if a result differs. The sources are generated
with PyAV and NumPy from fixed seeds, so nothing but this file is needed; it also runs from an older checkout:
`PYTHONPATH=CHECKOUT python benchmarks/result_digests.py OUT.json`. Digests hold for one machine and one set of
libraries only: encoders and matrix products differ between processors.
"""

import argparse
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from runtime.enhance import enhance
from runtime.errors import RelumeError
from runtime.options import EnhanceOptions
from runtime.presets import PRESETS

WITH_WORKSPACE: Final = "restore"
"""The preset that also runs with a workspace, as jobs of the queue do."""


@dataclass(frozen=True)
class Audio:
    """An audio track; the signal resembles speech in noise."""

    codec: str
    rate: int = 48_000
    layout: str = "stereo"
    seconds: Fraction = Fraction(1)


@dataclass(frozen=True)
class Clip:
    """A video stream, and the other contents of its container. `pts` counts in `time_base`."""

    codec: str
    pixel_format: str = "yuv420p"
    width: int = 160
    height: int = 96
    frames: int = 20
    time_base: Fraction = Fraction(1, 25)
    pts: Callable[[int], int] = lambda number: number
    options: Mapping[str, str] = field(default_factory=dict)
    aspect: Fraction | None = None
    rotation: int = 0
    interlaced: bool = False
    audio: Audio | None = None
    text: bool = False


_X264: Final = {"preset": "veryfast", "threads": "1"}
_AAC: Final = Audio("aac", seconds=Fraction(4, 5))

SOURCES: Final[Mapping[str, Clip | Audio]] = {
    "h264_aac.mp4": Clip("libx264", options=_X264, audio=_AAC),
    "hevc_10bit.mkv": Clip(
        "libx265", "yuv420p10le", options={"preset": "ultrafast", "x265-params": "log-level=none:pools=none"}
    ),
    "mpeg2_pal_interlaced.ts": Clip(
        "mpeg2video",
        width=96,
        height=576,
        frames=30,
        options={"flags": "+ildct+ilme", "b": "2000000", "threads": "1"},
        interlaced=True,
        audio=Audio("mp2"),
    ),
    "vp9_opus.webm": Clip(
        "libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "threads": "1"}, audio=Audio("libopus")
    ),
    "variable_rate.mkv": Clip(
        "libx264", time_base=Fraction(1, 1000), pts=lambda n: 40 * n + 13 * (n % 3) + 120 * (n // 8), options=_X264
    ),
    "rotated.mov": Clip("libx264", options=_X264, rotation=90, audio=_AAC),
    "anamorphic.mp4": Clip("libx264", width=144, height=112, options=_X264, aspect=Fraction(16, 11)),
    "prores_pcm.mov": Clip(
        "prores_ks", "yuv422p10le", options={"profile": "2", "threads": "1"}, audio=Audio("pcm_s16le")
    ),
    "mjpeg.avi": Clip("mjpeg", "yuvj420p", options={"threads": "1"}, audio=Audio("pcm_s16le", 44_100, "mono")),
    "chapters_subtitles.mkv": Clip("libx264", frames=25, options=_X264, audio=_AAC, text=True),
    "open_gop.mkv": Clip(
        "libx264", frames=30, options={**_X264, "x264-params": "open-gop=1:bframes=3:keyint=10:min-keyint=10"}
    ),
    "odd_size_444.mkv": Clip("libx264", "yuv444p", width=161, height=97, options=_X264),
    "speech_mono.wav": Audio("pcm_s16le", layout="mono", seconds=Fraction(2)),
    "stereo_44100.flac": Audio("flac", 44_100, seconds=Fraction(2)),
    "stereo.mp3": Audio("libmp3lame", 44_100, seconds=Fraction(2)),
    "surround.opus": Audio("libopus", layout="5.1", seconds=Fraction(2)),
}


def write_source(path: Path, source: Clip | Audio) -> None:
    """Write one of the sources; the same bytes every time."""
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        clip = source if isinstance(source, Clip) else None
        track = source if isinstance(source, Audio) else source.audio
        video = _add_video(container, clip) if clip is not None else None
        audio = _add_audio(container, track) if track is not None else None
        text = None
        if clip is not None and clip.text:
            text = container.add_stream("subrip")
            text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n"
            text.metadata["language"] = "eng"
            container.metadata["title"] = "Two chapters"
            container.set_chapters([_chapter(0), _chapter(1)])
        container.start_encoding()
        if clip is not None and video is not None:
            for number in range(clip.frames):
                frame = _draw(number, clip)
                frame.pts, frame.time_base = clip.pts(number), clip.time_base
                container.mux(video.encode(frame))
                if text is not None and number in (2, 15):
                    container.mux(_line(number, text))
            container.mux(video.encode(None))
        if track is not None and audio is not None:
            _write_audio(container, audio, track)


def _add_video(container: Any, clip: Clip) -> Any:
    stream = container.add_stream(clip.codec, rate=25, options=dict(clip.options))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = clip.width, clip.height, clip.pixel_format
    context.time_base = stream.time_base = clip.time_base
    if clip.aspect is not None:
        context.sample_aspect_ratio = clip.aspect
    if clip.interlaced:
        context.field_order = 2
    if clip.rotation:
        stream.set_display_rotation(clip.rotation)
    return stream


def _add_audio(container: Any, audio: Audio) -> Any:
    stream = container.add_stream(audio.codec, rate=audio.rate)
    stream.codec_context.layout = audio.layout
    stream.codec_context.time_base = stream.time_base = Fraction(1, audio.rate)
    return stream


def _chapter(number: int) -> Any:
    names = {"title": f"part {number}"}
    return {
        "id": number,
        "start": 500 * number,
        "end": 500 * number + 500,
        "time_base": Fraction(1, 1000),
        "metadata": names,
    }


def _line(number: int, stream: Any) -> av.Packet:
    packet = av.Packet(f"line {number}".encode())
    packet.pts = packet.dts = number * 40
    packet.duration, packet.time_base, packet.stream = 400, Fraction(1, 1000), stream
    return packet


def _draw(number: int, clip: Clip) -> av.VideoFrame:
    """Draw a textured frame that pans, with sensor noise; interlaced: the second field is half a frame later."""
    rgb = _render(2 * number, clip)
    if clip.interlaced:
        rgb[1::2] = _render(2 * number + 1, clip)[1::2]
    noise = np.random.default_rng(number).integers(-8, 9, rgb.shape)
    noisy = (rgb + noise).clip(0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(noisy, format="rgb24").reformat(format=clip.pixel_format)


def _render(position: int, clip: Clip) -> NDArray[np.int64]:
    y, x = np.mgrid[: clip.height, : clip.width]
    x = x + 2 * position
    blocks = np.random.default_rng(1).integers(30, 226, (256, 256, 3))
    rgb = blocks[(y // 8) % 256, (x // 8) % 256]
    stripes = ((x + y) // 3 % 2 * 40)[..., None]
    return rgb // 2 + stripes + (y * 60 // clip.height)[..., None]


def _write_audio(container: Any, stream: Any, audio: Audio) -> None:
    samples = _speak(audio, stream.codec_context.layout.nb_channels)
    for start in range(0, samples.shape[1], 960):
        block = np.ascontiguousarray(samples[:, start : start + 960])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=audio.layout)
        frame.sample_rate, frame.pts, frame.time_base = audio.rate, start, Fraction(1, audio.rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _speak(audio: Audio, channels: int) -> NDArray[np.float32]:
    """Return (channels, samples) float32: a voiced tone with harmonics in syllables of a quarter second, in noise."""
    time = np.arange(int(audio.seconds * audio.rate)) / audio.rate
    pitch = 2 * np.pi * (120 * time + 3 * np.sin(2 * np.pi * 2 * time))
    voice = sum(np.sin(harmonic * pitch) / harmonic for harmonic in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 2 * time), 0, None)
    noise = np.random.default_rng(3).standard_normal((channels, time.size))
    level = 1 / (1 + np.arange(channels)[:, None] / 8)
    return (0.15 * level * voice * syllables + 0.02 * noise).astype(np.float32)


def digest_results(
    folder: Path, sources: Iterable[str], presets: Iterable[str], *, threads: int = 1, workspace: bool = False
) -> dict[str, str]:
    """Enhance every source with every preset on the CPU.

    Args:
        folder: For sources and results.
        sources: Names of `SOURCES`.
        presets: Names of presets.
        threads: CPU threads per job.
        workspace: Run every job with a workspace, as the queue does.

    Returns:
        For each "source" and "source/preset": SHA-256 and name of the file, without the identifiers that Ogg and
        Matroska muxers draw at random, or the error's class and text.
    """
    digests: dict[str, str] = {}
    presets = tuple(presets)
    for name in sources:
        write_source(folder / name, SOURCES[name])
        digests[name] = _digest(folder / name)
        for preset in presets:
            digests[f"{name}/{preset}"] = _run(folder / name, preset, threads=threads, keep=workspace)
            if preset == WITH_WORKSPACE:
                digests[f"{name}/{preset}/workspace"] = _run(folder / name, preset, threads=threads, keep=True)
            print(f"{name}/{preset}: {digests[f'{name}/{preset}']}", file=sys.stderr, flush=True)
    return digests


def _run(source: Path, preset: str, *, threads: int, keep: bool = False) -> str:
    place = source.parent / "job"
    place.mkdir()
    copy = place / source.name
    shutil.copyfile(source, copy)
    options = EnhanceOptions(preset=preset, backend="cpu", precision="fp32", threads=threads)
    try:
        enhance(copy, None, options, workspace=source.parent / "workspace" if keep else None)
        (result,) = (path for path in place.iterdir() if path != copy and path.suffix != ".json")
        return _digest(result)
    except RelumeError as error:
        return f"{type(error).__name__}: {str(error).replace(str(place), '')}"
    finally:
        shutil.rmtree(place)
        shutil.rmtree(source.parent / "workspace", ignore_errors=True)


def _digest(path: Path) -> str:
    content = bytearray(path.read_bytes())
    if content.startswith(b"OggS"):
        _mask_ogg(content)
    elif content.startswith(b"\x1a\x45\xdf\xa3"):
        _mask_matroska(content, 0, len(content))
    return f"{hashlib.sha256(content).hexdigest()} {path.name}"


def _mask_ogg(content: bytearray) -> None:
    """Clear the random serial number and the checksum of every Ogg page (RFC 3533, section 6)."""
    start = 0
    while start < len(content):
        content[start + 14 : start + 18] = content[start + 22 : start + 26] = bytes(4)
        segments = content[start + 26]
        start += 27 + segments + sum(content[start + 27 : start + 27 + segments])


_MASTERS: Final = {
    0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0x1254C367, 0x7373, 0x63C0, 0x1043A770, 0x45B9, 0xB6,
    0x1941A469, 0x61A7,
}  # fmt: skip
"""EBML header, Segment, Info, Tracks, Tags, Chapters, Attachments and the elements in them that hold identifiers."""

_RANDOM: Final = {0xBF, 0x73A4, 0x73C5, 0x63C5, 0x63C9, 0x63C4, 0x63C6, 0x45BC, 0x73C4, 0x46AE}
"""The identifiers of segment, tracks, editions, chapters and attachments, and the checksums over them."""


def _mask_matroska(content: bytearray, start: int, end: int) -> None:
    """Clear the identifiers that the Matroska muxer draws at random (RFC 8794, RFC 9559)."""
    while start < end:
        length = 9 - content[start].bit_length()
        element = int.from_bytes(content[start : start + length], "big")
        start += length
        length = 9 - content[start].bit_length()
        size = int.from_bytes(content[start : start + length], "big") & ((1 << 7 * length) - 1)
        start += length
        if element in _MASTERS:
            _mask_matroska(content, start, start + size)
        elif element in _RANDOM:
            content[start : start + size] = bytes(size)
        start += size


def list_differences(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the results that differ or are missing, and the errors of which only the wording changed."""
    changed, reworded = [], []
    for key in sorted({*old, *new}):
        before, after = old.get(key, "missing"), new.get(key, "missing")
        if before == after:
            continue
        both_errors = ": " in before and ": " in after
        (reworded if both_errors else changed).append(f"{key}\n  old  {before}\n  new  {after}")
    return changed, reworded


def main() -> None:
    """Write the digests, and compare them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.result_digests", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="where to write the digests as JSON")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="digests of an earlier run")
    parser.add_argument("--sources", nargs="*", choices=SOURCES, default=list(SOURCES), metavar="NAME")
    parser.add_argument("--presets", nargs="*", choices=PRESETS, default=list(PRESETS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workspace", action="store_true", help="run every job with a workspace, as the queue does")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        new = digest_results(
            Path(folder),
            arguments.sources,
            arguments.presets,
            threads=arguments.threads,
            workspace=arguments.workspace,
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if arguments.compare is None:
        return
    every = len(arguments.sources) == len(SOURCES) and len(arguments.presets) == len(PRESETS)
    old = json.loads(arguments.compare.read_text(encoding="utf-8"))
    changed, reworded = list_differences(old if every else {key: old[key] for key in new if key in old}, new)
    for entry in reworded:
        print(f"error reworded: {entry}")
    for entry in changed:
        print(f"DIFFERENT: {entry}")
    print(f"{len(new) - len(changed)} of {len(new)} digests are equal")
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
