from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from runtime.media.deinterlace import find_interlacing
from runtime.media.probe import VideoStream, probe
from runtime.media.video_reader import VideoReader

HEIGHT, WIDTH = 576, 96


def write_fields(
    path: Path,
    *,
    interlaced: bool | Collection[int],
    flagged: bool,
    codec: str = "ffv1",
    count: int = 30,
    parity: int = 0,
) -> Path:
    """Write a bar that moves fast; in the interlaced frames one field, not `parity`, shows it half a frame later."""
    late = range(count) if interlaced is True else interlaced or ()
    with av.open(str(path), "w") as output:
        options = {"flags": "+ildct+ilme"} if flagged else {}
        video = output.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        if flagged:
            video.codec_context.field_order = 2
        for number in range(count):
            frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for index, plane in enumerate(frame.planes):
                samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
                samples[:] = 128 if index else 40
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(HEIGHT, -1)
            for field in (0, 1):
                step = 2 * number + (number in late and field != parity)
                left = step * 7 % (WIDTH - 24)
                luma[field::2, left : left + 24] = 200
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


def video_of(path: Path) -> VideoStream:
    stream = probe(path).video
    assert stream is not None
    return stream


def combing(planes: object) -> float:
    luma = planes[0].astype(float)  # type: ignore[index]
    return float(np.abs(luma[1:-1] * 2 - luma[:-2] - luma[2:]).mean())


@pytest.mark.parametrize("interlaced", [True, False])
def test_fields_are_detected_without_flags(tmp_path: Path, interlaced: bool) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=interlaced, flagged=False)

    found = find_interlacing(path, video_of(path))

    assert found.interlaced is interlaced
    assert ("idet found" in found.reason) is interlaced


def test_a_stream_that_is_only_flagged_interlaced_is_left_unchanged(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mpg", interlaced=False, flagged=True, codec="mpeg2video")

    found = find_interlacing(path, video_of(path))

    assert not found.interlaced
    assert "flagged interlaced, but idet found" in found.reason


def test_deinterlacing_keeps_every_frame_and_its_time(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=True, flagged=False)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))

    with VideoReader(path, video_of(path)) as reader:
        images = list(reader)

    assert reader.interlacing.interlaced
    assert [image.pts for image in images] == [frame.pts for frame in frames]
    before = np.frombuffer(frames[10].planes[0], np.uint8).reshape(HEIGHT, -1)[:, :WIDTH]
    assert combing(images[10].planes) < combing((before,)) / 4


def decode(path: Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray()[:HEIGHT] for frame in container.decode(video=0)]


def read(path: Path, **options: Any) -> list[np.ndarray[Any, Any]]:
    with VideoReader(path, video_of(path), **options) as reader:
        return [frame.planes[0] for frame in reader]


CODECS = [("a.mkv", "ffv1", False), ("a.mpg", "mpeg2video", True), ("a.ts", "mpeg2video", True)]


@pytest.mark.parametrize(("name", "codec", "flagged"), CODECS)
def test_only_the_interlaced_part_of_a_video_is_deinterlaced(
    tmp_path: Path, name: str, codec: str, flagged: bool
) -> None:
    path = write_fields(tmp_path / name, interlaced=range(70, 120), flagged=flagged, codec=codec, count=120)
    before = decode(path)

    after = read(path)

    assert len(after) == len(before) == 120
    # At a cut, a frame or two may be attributed to what follows.
    for number in range(67):
        np.testing.assert_array_equal(after[number], before[number])
    for number in range(72, 119):
        assert combing((after[number],)) < combing((before[number],)) / 3


def test_interlaced_frames_in_the_middle_of_an_unflagged_video_are_found(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=range(170, 270), flagged=False, count=400)

    found = find_interlacing(path, video_of(path))

    assert (found.interlaced, found.watched, found.parity) == (True, True, "tff")


def test_a_broadcast_that_is_flagged_interlaced_only_later_is_found(tmp_path: Path) -> None:
    parts = [
        write_fields(tmp_path / "1.ts", interlaced=False, flagged=False, codec="mpeg2video", count=60),
        write_fields(tmp_path / "2.ts", interlaced=True, flagged=True, codec="mpeg2video", count=60),
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    before = decode(path)

    found = find_interlacing(path, video_of(path))
    after = read(path)

    assert (found.interlaced, found.watched) == (True, True)
    assert all(np.array_equal(after[number], before[number]) for number in range(57))
    assert combing((after[90],)) < combing((before[90],)) / 3


@pytest.mark.parametrize("parity", [0, 1])
def test_the_field_that_comes_first_stays(tmp_path: Path, parity: int) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=True, flagged=False, parity=parity)
    before = decode(path)

    after = read(path)

    np.testing.assert_array_equal(after[10][parity::2], before[10][parity::2])


def test_frames_are_the_same_from_wherever_reading_begins(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=range(75, 200), flagged=False, count=200)
    whole = read(path)

    for number in (70, 76, 150):
        part = read(path, start=Fraction(number, 25))

        assert len(part) == 200 - number
        for one, other in zip(part, whole[number:], strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_interlaced_frame_comes_out_as_one(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=True, flagged=False)
    stream = video_of(path)

    with VideoReader(path, stream, end=Fraction(1, 25)) as reader:
        frames = list(reader)

    assert len(frames) == 1
