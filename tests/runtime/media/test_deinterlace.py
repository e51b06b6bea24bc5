from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from runtime.media.decode import VideoReader
from runtime.media.deinterlace import find_interlacing
from runtime.media.probe import VideoStream, probe

HEIGHT, WIDTH = 576, 96


def write_fields(path: Path, *, interlaced: bool, flagged: bool, codec: str = "ffv1") -> Path:
    """Write a bar that moves fast; interlaced, the lower field shows it half a frame later."""
    with av.open(str(path), "w") as output:
        options = {"flags": "+ildct+ilme"} if flagged else {}
        video = output.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        if flagged:
            video.codec_context.field_order = 2
        for number in range(30):
            frame = VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for index, plane in enumerate(frame.planes):
                samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
                samples[:] = 128 if index else 40
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(HEIGHT, -1)
            for parity in (0, 1):
                step = 2 * number + (parity if interlaced else 0)
                left = step * 7 % (WIDTH - 24)
                luma[parity::2, left : left + 24] = 200
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
def test_fields_are_seen_where_no_flag_tells_of_them(tmp_path: Path, interlaced: bool) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=interlaced, flagged=False)

    found = find_interlacing(path, video_of(path))

    assert found.interlaced is interlaced
    assert ("idet saw" in found.reason) is interlaced


def test_a_stream_that_is_only_flagged_interlaced_is_left_alone(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mpg", interlaced=False, flagged=True, codec="mpeg2video")

    found = find_interlacing(path, video_of(path))

    assert not found.interlaced
    assert "flagged interlaced, but idet saw" in found.reason


def test_deinterlacing_keeps_every_picture_and_its_time(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=True, flagged=False)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))

    with VideoReader(path, video_of(path)) as reader:
        pictures = list(reader)

    assert reader.interlacing.interlaced
    assert [picture.pts for picture in pictures] == [frame.pts for frame in frames]
    before = np.frombuffer(frames[10].planes[0], np.uint8).reshape(HEIGHT, -1)[:, :WIDTH]
    assert combing(pictures[10].planes) < combing((before,)) / 4


def test_one_interlaced_picture_comes_out_as_one(tmp_path: Path) -> None:
    path = write_fields(tmp_path / "a.mkv", interlaced=True, flagged=False)
    stream = video_of(path)

    with VideoReader(path, stream, end=Fraction(1, 25)) as reader:
        pictures = list(reader)

    assert len(pictures) == 1
