"""Segments from separate encoders become one stream with correct times."""

from array import array
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from runtime.enhance import enhance
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.resume.writer import SegmentRule, count_reorder

RULE = SegmentRule(5, 10)
UNEVEN = [0, 40, 73, 140, 141, 300, 333, 360, 400, 444, 480, 1000, 1001, 1002, 1040, 1080, 1100, 1200, 1240, 1300]


def shape(path: Path) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        return [(p.pts, p.dts, p.is_keyframe) for p in container.demux(video=0) if p.size]


def pictures(path: Path) -> list[tuple[Fraction, Any]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.pts * stream.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        (Codec.H264, ".mp4"), (Codec.H264, ".mkv"), (Codec.HEVC, ".mp4"), (Codec.HEVC, ".mov"), (Codec.AV1, ".mp4"),
        (Codec.AV1, ".webm"), (Codec.PRORES, ".mov"), (Codec.FFV1, ".mkv"),
    ],
)  # fmt: skip
def test_every_frame_is_there_at_its_time_in_every_codec(
    clip: Callable[..., Path], tmp_path: Path, codec: Codec, suffix: str
) -> None:
    source = clip(scenes=(8, 12), times=UNEVEN, audio=False)
    target = tmp_path / f"out{suffix}"
    options = EnhanceOptions(preset="restore", codec=codec, threads=2, audio=AudioMode.OFF)

    report = enhance(source, target, options, workspace=tmp_path / "work", rule=RULE)

    packets = shape(target)
    decoding = [dts for _, dts, _ in packets if dts is not None]
    assert all(earlier < later for earlier, later in pairwise(decoding))
    assert all(dts is None or dts <= pts for pts, dts, _ in packets)
    assert packets[0][2]
    tick = Fraction(1, 1000) if suffix in (".mkv", ".webm") else Fraction(0)
    expected, found = pictures(source), pictures(target)
    assert len(found) == len(expected) == len(UNEVEN)
    assert all(abs(one - other) <= tick for (one, _), (other, _) in zip(expected, found, strict=True))
    errors = [abs(one.astype(int) - other).mean() for (_, one), (_, other) in zip(expected, found, strict=True)]
    assert max(errors) < 12, "no picture is broken or another one"
    assert report.picture is not None
    assert report.picture.pts_equal
    assert report.picture.scene_cuts == (8,)
    assert report.warnings == ()


def test_the_joined_stream_is_as_long_as_a_streamed_one(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip(scenes=(8, 12), times=UNEVEN)
    options = EnhanceOptions(preset="restore", threads=2)

    durable = enhance(source, tmp_path / "durable.mp4", options, workspace=tmp_path / "work", rule=RULE)
    streamed = enhance(source, tmp_path / "streamed.mp4", options)

    assert durable.picture == streamed.picture
    assert durable.sound == streamed.sound
    assert durable.av_offsets == streamed.av_offsets
    assert durable.result.duration_s == streamed.result.duration_s
    assert durable.streams == streamed.streams
    assert durable.warnings == streamed.warnings
    with av.open(str(tmp_path / "durable.mp4")) as one, av.open(str(tmp_path / "streamed.mp4")) as other:
        assert [stream.duration for stream in one.streams] == [stream.duration for stream in other.streams]
        audios = [[bytes(p) for p in container.demux(audio=0)] for container in (one, other)]
        assert audios[0] == audios[1]


def test_the_reorder_is_how_far_a_packet_comes_before_its_turn() -> None:
    assert count_reorder(array("q", [0, 1, 2, 3])) == 0
    assert count_reorder(array("q", [0, 20, 10, 30])) == 1
    assert count_reorder(array("q", [0, 40, 20, 10, 30])) == 2
    assert count_reorder(array("q")) == 0
