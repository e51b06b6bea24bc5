from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.errors import UnsupportedMediaError
from runtime.media.pixel_formats import YuvFrame
from runtime.media.probe import VideoStream, probe
from runtime.media.sampling import find_siting, look_ahead
from runtime.media.video_reader import VideoReader


def read(path: Path, **options: Fraction) -> tuple[VideoReader, list[YuvFrame]]:
    stream = video_of(path)
    with VideoReader(path, stream, **options) as reader:
        return reader, list(reader)


def video_of(path: Path) -> VideoStream:
    stream = probe(path).video
    assert stream is not None
    return stream


def decode_with_one_thread(path: Path) -> list[int]:
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for packet in container.demux(stream):
            with suppress(av.FFmpegError):
                found += [frame.pts for frame in packet.decode() if frame.pts is not None]
    return found


def test_pts_of_a_variable_rate_clip_are_exact(clip: Callable[..., Path]) -> None:
    pts = [540, 1700, 9000, 9003, 20_000, 20_100, 41_111, 50_000]
    path = clip("a.mp4", pts=pts, time_base=Fraction(1, 90_000), container_options={"movie_timescale": "90000"})

    _, frames = read(path)

    assert [frame.pts for frame in frames] == pts


def test_planes_equal_what_was_encoded_without_loss(clip: Callable[..., Path]) -> None:
    path = clip("a.mkv", codec="ffv1", options={}, pixel_format="yuv420p", width=33, height=31)

    reader, frames = read(path)

    assert (reader.width, reader.height, reader.chroma, reader.bit_depth) == (33, 31, "420", 8)
    assert [plane.shape for plane in frames[0].planes] == [(31, 33), (16, 17), (16, 17)]
    assert all(plane.flags.c_contiguous for plane in frames[0].planes)
    assert not np.array_equal(frames[0].planes[0], frames[1].planes[0])


@pytest.mark.parametrize(("start", "end"), [(None, 40), (13, None), (13, 40), (49, None)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_cut_holds_exactly_the_frames_between(
    clip: Callable[..., Path], name: str, start: int | None, end: int | None
) -> None:
    step, time_base = {"a.ts": (3600, Fraction(1, 90_000)), "a.avi": (1, Fraction(1, 25))}.get(
        name, (512, Fraction(1, 12_800))
    )
    pts = [step * n for n in range(50)]
    path = clip(name, pts=pts, time_base=time_base, options={"preset": "veryfast", "g": "12"})
    reader, whole = read(path)
    tick = reader.stream.time_base
    assert len(whole) == 50
    cuts = {"start": start, "end": end}
    times = {key: whole[n].pts * tick for key, n in cuts.items() if n is not None}

    _, frames = read(path, **times)

    expected = whole[start or 0 : end]
    zero = whole[start].pts if start is not None else 0
    assert [p.pts for p in frames] == [p.pts - zero for p in expected]
    for frame, other in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.planes[0], other.planes[0])


def test_a_damaged_file_is_read_to_its_end_and_reported(clip: Callable[..., Path]) -> None:
    path = clip("a.ts", time_base=Fraction(1, 90_000), pts=[3600 * n for n in range(50)], width=160, height=128)
    packets = path.read_bytes()
    lost = len(packets) // 188 // 2 * 188
    path.write_bytes(packets[:lost] + packets[lost + 5 * 188 :])

    reader, frames = read(path)

    assert len(reader.holes) > 0
    assert any("damaged" in warning for warning in reader.warnings)
    assert frames[-1].pts > frames[0].pts + 3600 * 30


def test_frames_of_an_avi_with_b_frames_take_its_slots_in_order(clip: Callable[..., Path]) -> None:
    path = clip("a.avi", pts=list(range(50)), time_base=Fraction(1, 25))

    reader, frames = read(path)

    steps = {b.pts - a.pts for a, b in pairwise(frames)}
    assert (len(frames), steps) == (50, {1})
    assert not any("no usable time" in warning for warning in reader.warnings)


def test_missing_times_come_from_the_rate(clip: Callable[..., Path]) -> None:
    stream_only = clip("a.h264")

    reader, frames = read(stream_only)

    steps = {b.pts - a.pts for a, b in pairwise(frames)}
    assert len(frames) == 25
    assert len(steps) == 1
    assert steps.pop() * reader.stream.time_base == 1 / (reader.stream.average_rate or 0)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mov", "qtrle"), ("a.mov", "png"), ("a.mkv", "ffv1"), ("a.avi", "utvideo")]
)
def test_opaque_alpha_is_left_out_and_the_first_frame_that_is_not_opaque_is_named(
    tmp_path: Path, name: str, codec: str
) -> None:
    for transparent in (None, 5):
        path = write_alpha(tmp_path / name, codec, transparent)
        if transparent is None:
            assert len(read(path)[1]) == 8
            continue
        with pytest.raises(UnsupportedMediaError, match=r"frame at 0\.200 s is not opaque"):
            read(path)
        with pytest.raises(UnsupportedMediaError, match="frames that are not opaque"):
            look_ahead(probe(path), video_of(path))


def write_alpha(path: Path, codec: str, transparent: int | None) -> Path:
    form = {"qtrle": "argb", "png": "rgba", "ffv1": "yuva420p", "utvideo": "gbrap"}[codec]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        stream.gop_size = 1
        for number in range(8):
            pixels = np.full((48, 64, 4), 20 * number, np.uint8)
            pixels[..., 3] = 255
            if transparent is not None and number >= transparent:
                pixels[20, 30, 3] = 100
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=form)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_a_stray_time_in_a_damaged_place_moves_nothing_after_it(clip: Callable[..., Path]) -> None:
    path = clip("a.mkv", pts=[512 * n for n in range(200)], container_options={"cluster_time_limit": "400"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 1000] = bytes(1000)
    path.write_bytes(data)

    _, frames = read(path)

    assert 100 < len(frames) < 200
    assert frames[-1].pts == 199 * 40
    assert all(a.pts < b.pts for a, b in pairwise(frames))


def test_a_file_cut_in_the_middle_gives_the_frames_that_are_there(clip: Callable[..., Path]) -> None:
    pts = [512 * n for n in range(120)]
    path = clip("a.mp4", pts=pts, width=160, height=128, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    reader, frames = read(path)

    assert 20 < len(frames) < 110
    assert [frame.pts for frame in frames] == decode_with_one_thread(path)
    assert any("it may be truncated or damaged" in warning for warning in reader.warnings)


def write_sizes(path: Path, codec: str, sizes: list[tuple[int, int]]) -> Path:
    """Write frames whose size changes, ten of each size."""
    with av.open(str(path), "w") as output:
        target = None
        for part, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base = encoder.framerate = Fraction(1, 25)
            encoder.framerate = Fraction(25)
            frames = []
            for number in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = 10 * part + number, Fraction(1, 25)
                frames.append(frame)
            packets = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
            if target is None:
                target = output.add_stream(codec, rate=25)
                target.width, target.height, target.pix_fmt = width, height, "yuv420p"
                target.time_base = Fraction(1, 25)
            for packet in packets:
                packet.stream, packet.time_base = target, Fraction(1, 25)
                output.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "sizes", "largest"),
    [
        ("a.webm", "libvpx", [(64, 48), (160, 120)], (160, 120)),
        ("a.webm", "libvpx-vp9", [(64, 48), (160, 120), (96, 72)], (160, 120)),
        ("a.mkv", "libvpx", [(160, 120), (64, 48)], (160, 120)),
        ("a.ts", "mpeg2video", [(64, 96), (128, 96)], (128, 96)),
    ],
)
def test_the_largest_size_of_frames_is_that_of_all(
    tmp_path: Path, name: str, codec: str, sizes: list[tuple[int, int]], largest: tuple[int, int]
) -> None:
    path = write_sizes(tmp_path / name, codec, sizes)

    stream = look_ahead(probe(path), video_of(path))

    assert (stream.width, stream.height) == largest
    with VideoReader(path, stream) as reader:
        frames = list(reader)
    assert {(frame.width, frame.height) for frame in frames} == {largest}
    assert len(frames) == 10 * len(sizes)
    # Same shape, or only the columns changed: no bars.
    assert all((frame.planes[0] > 150).all() for frame in frames)


@pytest.mark.parametrize(
    ("name", "fields", "siting"),
    [
        ("a.mp4", {}, (0.5, 0.0)),
        ("a.mp4", {"options": {"x264-params": "chromaloc=1"}}, (0.5, 0.5)),
        ("a.mkv", {"codec": "libx265", "options": {"x265-params": "log-level=none:chromaloc=2"}}, (0.0, 0.0)),
        ("a.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {}}, (0.5, 0.5)),
        ("a.mkv", {"codec": "ffv1", "pixel_format": "yuv444p", "options": {}}, (0.5, 0.0)),
    ],
)
def test_chroma_siting_is_that_of_the_frames(
    clip: Callable[..., Path], name: str, fields: dict[str, Any], siting: tuple[float, float]
) -> None:
    times = {"pts": list(range(5)), "time_base": Fraction(1, 25)} if name == "a.avi" else {"pts": [0, 512, 1024]}
    path = clip(name, **times, **fields)

    assert find_siting(path, video_of(path)) == siting
