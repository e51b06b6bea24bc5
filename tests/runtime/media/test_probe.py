import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media import probe as probing
from runtime.media.colour import read_side_data
from runtime.media.probe import probe
from runtime.media.video_reader import VideoReader
from runtime.options import EnhanceOptions
from runtime.plan import plan_job


def test_streams_are_reported_as_they_are(clip: Callable[..., Path]) -> None:
    path = clip(
        "a.mp4",
        pixel_format="yuv422p10le",
        audio="aac",
        rotation=90,
        context={"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
    )

    info = probe(path)

    video, audio = info.video, info.audios[0]
    assert video is not None
    assert (video.codec, video.width, video.height) == ("h264", 64, 48)
    assert (video.pixel_format, video.bit_depth, video.chroma) == ("yuv422p10le", 10, "422")
    assert (video.rotation, video.frames, video.average_rate) == (90, 25, 25)
    assert (video.colour.matrix, video.colour.is_hdr, video.colour.guessed) == ("bt2020", True, "")
    assert (audio.codec, audio.sample_rate, audio.layout) == ("aac", 48_000, "stereo")
    assert info.origin == 0


def test_a_transport_stream_starts_where_its_first_stream_starts(clip: Callable[..., Path]) -> None:
    path = clip("a.ts", time_base=Fraction(1, 90_000), pts=[3600 * n for n in range(25)])

    info = probe(path)

    assert info.video is not None
    assert info.video.start_pts is not None
    assert info.origin == info.video.start_pts * info.video.time_base > 0


def test_alpha_of_webm_is_seen_in_its_tag(clip: Callable[..., Path]) -> None:
    path = clip("a.mkv", tags={"alpha_mode": "1"})

    video = probe(path).video

    assert video is not None
    assert video.has_alpha


def test_a_stream_without_frames_is_refused(clip: Callable[..., Path]) -> None:
    path = clip("a.mp4")
    data = bytearray(path.read_bytes())
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    video = probe(path).video
    assert video is not None

    with pytest.raises(DecodeError, match="no frame of it can be decoded"):
        VideoReader(path, video)


def write_wave(path: Path, *, channels: int, rate: int) -> Path:
    data = bytes(2 * channels * 1000)
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * channels * 2) & 0xFFFFFFFF, (channels * 2) & 0xFFFF, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


@pytest.mark.parametrize(
    ("channels", "rate"), [(1, 1), (2, 999), (255, 48_000), (65, 48_000), (1, 768_001), (1, 4_000_000)]
)
def test_audio_that_no_recorder_makes_is_refused(tmp_path: Path, channels: int, rate: int) -> None:
    path = write_wave(tmp_path / "a.wav", channels=channels, rate=rate)

    with pytest.raises(UnsupportedMediaError, match=f"audio of {rate} Hz and {channels} channels in stream 0"):
        probe(path)


@pytest.mark.parametrize(("channels", "rate"), [(1, 1000), (64, 48_000), (1, 768_000)])
def test_audio_at_the_bounds_is_read(tmp_path: Path, channels: int, rate: int) -> None:
    (audio,) = probe(write_wave(tmp_path / "a.wav", channels=channels, rate=rate)).audios

    assert (audio.channels, audio.sample_rate) == (channels, rate)


def test_the_rate_of_raw_dv_is_not_its_clock(clip: Callable[..., Path], job: Callable[..., Any]) -> None:
    path = clip(
        "a.dv", codec="dvvideo", options={}, width=720, height=576, pts=list(range(4)), time_base=Fraction(1, 25)
    )

    job(path, "b.mp4")

    for one in (path, path.with_name("b.mp4")):
        video = probe(one).video
        assert video is not None
        assert video.average_rate == 25


@pytest.mark.parametrize(("name", "codec"), [("a.h264", "libx264"), ("a.m2v", "mpeg2video")])
def test_the_rate_of_frames_without_a_container_is_that_of_their_headers(
    clip: Callable[..., Path], name: str, codec: str
) -> None:
    rate = Fraction(30_000, 1001)
    path = clip(
        name, codec=codec, options={}, pts=list(range(30)), time_base=1 / rate, context={"framerate": rate}
    )  # fmt: skip

    video = probe(path).video
    assert video is not None
    with VideoReader(path, video) as reader:
        times = [frame.pts * video.time_base for frame in reader]

    assert video.average_rate == rate
    assert times[-1] - times[0] == 29 / rate


def write_jpegs_with_exif(path: Path, count: int = 5) -> Path:
    """Write a time lapse of photographs: each has Exif data, a side data type that PyAV has no name for."""
    content = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x010F, 2, 6, 26, 0) + b"Canon\0"
    exif = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 9 * number, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in encoder.encode(frame):
                data = bytes(packet)
                again = av.Packet(data[:2] + exif + data[2:])
                again.stream, again.pts, again.dts, again.time_base = stream, number, number, Fraction(1, 25)
                again.is_keyframe = True
                output.mux(again)
    return path


@pytest.mark.parametrize("name", ["a.avi", "a.mov", "a.mkv"])
def test_side_data_that_has_no_name_is_skipped(tmp_path: Path, name: str) -> None:
    path = write_jpegs_with_exif(tmp_path / name)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert [kind.value for kind in read_side_data(frame)] == [31]

    video = probe(path).videos[0]

    assert (video.width, video.rotation, video.hdr) == (64, 0, None)
    with VideoReader(path, video) as reader:
        assert len(list(reader)) == 5


def write_giant(path: Path, side: int) -> Path:
    """Write an image that declares a size for which it has too few bytes."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            data = bytearray(bytes(packet))
            struct.pack_into(">II", data, 16, side, side)
            struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
            giant = av.Packet(bytes(data))
            giant.stream, giant.time_base, giant.pts, giant.dts = stream, packet.time_base, packet.pts, packet.dts
            giant.is_keyframe = True
            output.mux(giant)
    return path


@pytest.mark.parametrize("name", ["a.mov", "a.avi", "a.nut"])
def test_giant_frames_are_refused_before_memory_is_allocated(tmp_path: Path, name: str) -> None:
    path = write_giant(tmp_path / name, 16_000)

    with pytest.raises(UnsupportedMediaError, match="of more than 8192x8192 pixels"):
        plan_job(path, None, EnhanceOptions(preset="restore"))


def test_the_first_frames_of_all_streams_are_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("ffv1", rate=25) for _ in range(6)]
        for number, stream in enumerate(streams):
            stream.width, stream.height = 64 + 2 * number, 48
            stream.pix_fmt = "yuv420p" if number % 2 else "yuv422p10le"
        for number, stream in enumerate(streams):
            frame = av.VideoFrame(64 + 2 * number, 48, stream.pix_fmt)
            frame.pts = 0
            output.mux([*stream.encode(frame), *stream.encode(None)])
    opened = []
    original = probing.open_source
    monkeypatch.setattr(probing, "open_source", lambda *words, **more: opened.append(1) or original(*words, **more))

    videos = probe(path).videos

    assert [(video.width, video.bit_depth) for video in videos] == [(64 + 2 * n, 8 if n % 2 else 10) for n in range(6)]
    assert len(opened) == 1
