import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.errors import EncodeError
from runtime.media.colour import Colour, HdrMetadata
from runtime.media.muxer import Muxer
from runtime.media.pixel_formats import YuvFrame
from runtime.media.probe import VideoStream, probe
from runtime.media.sampling import declared_siting
from runtime.media.video_encoder import EncodeSettings
from runtime.media.video_reader import VideoReader

HDR = HdrMetadata(
    red=(Fraction(34_000, 50_000), Fraction(16_000, 50_000)),
    green=(Fraction(13_250, 50_000), Fraction(34_500, 50_000)),
    blue=(Fraction(7_500, 50_000), Fraction(3_000, 50_000)),
    white=(Fraction(15_635, 50_000), Fraction(16_450, 50_000)),
    min_luminance=Fraction(50, 10_000),
    max_luminance=Fraction(1000),
    max_content_light=1000,
    max_frame_average_light=400,
)
LAST_DURATION = 77  # as in the clips of these tests
PQ = Colour("bt2020", False, 9, 9, 16)


def encode(path: Path, **fields: Any) -> tuple[VideoStream, list[str]]:
    """Encode five frames and read the stream back."""
    given = {"codec": "h264", "width": 64, "height": 48, "time_base": Fraction(1, 25), "average_rate": Fraction(25)}
    settings = EncodeSettings(**{**given, **fields})
    depth = np.uint8 if settings.bit_depth == 8 else np.uint16
    rows, columns = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}[settings.chroma]
    small = (-(-settings.height // rows), -(-settings.width // columns))
    with Muxer(path) as muxer:
        encoder = muxer.add_video(settings)

        def packets() -> Any:
            for number in range(5):
                planes = (
                    np.full((settings.height, settings.width), 60 + number, depth),
                    np.full(small, 128, depth),
                    np.full(small, 128, depth),
                )
                yield from encoder.encode(YuvFrame(planes, settings.bit_depth, settings.chroma, number, 1))
            yield from encoder.flush()

        muxer.run([packets()])
        muxer.publish()
    stream = probe(path).video
    assert stream is not None
    return stream, encoder.warnings


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", ".mp4"), ("hevc", ".mp4"), ("av1", ".mp4"), ("prores", ".mov"), ("ffv1", ".mkv"), ("hevc", ".mkv")],
)
def test_every_codec_keeps_colour_rotation_and_ten_bits(tmp_path: Path, codec: str, suffix: str) -> None:
    chroma = "422" if codec == "prores" else "420"

    stream, _ = encode(
        tmp_path / f"a{suffix}", codec=codec, bit_depth=10, chroma=chroma, colour=PQ, rotation=90, speed="fast"
    )

    assert (stream.codec, stream.bit_depth, stream.chroma) == (codec, 10, chroma)
    colour = stream.colour
    assert (colour.matrix_code, colour.primaries_code, colour.transfer_code) == (9, 9, 16)
    assert not colour.full_range
    assert stream.rotation == 90


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", ".mp4"), ("h264", ".mkv"), ("hevc", ".mov"), ("av1", ".webm"), ("ffv1", ".mkv")],
)
def test_the_siting_of_chroma_is_written(tmp_path: Path, codec: str, suffix: str) -> None:
    stream, _ = encode(tmp_path / f"a{suffix}", codec=codec)

    assert declared_siting(tmp_path / f"a{suffix}", stream) == "left"


@pytest.mark.parametrize("codec", ["h264", "hevc", "ffv1"])
def test_full_range_stays_full_range(tmp_path: Path, codec: str) -> None:
    stream, _ = encode(tmp_path / "a.mkv", codec=codec, colour=Colour("bt601", True, 6, 6, 6))

    assert stream.colour.full_range
    assert stream.colour.matrix_code == 6


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_hdr10_values_come_back_as_they_went_in(tmp_path: Path, codec: str) -> None:
    stream, warnings = encode(tmp_path / "a.mp4", codec=codec, bit_depth=10, colour=PQ, hdr=HDR)

    found = stream.hdr
    assert found is not None
    assert warnings == []
    assert (found.max_content_light, found.max_frame_average_light) == (1000, 400)
    for name in ("red", "green", "blue", "white"):
        point, wanted = getattr(found, name), getattr(HDR, name)
        assert all(abs(a - b) < Fraction(1, 30_000) for a, b in zip(point, wanted, strict=True))
    assert found.max_luminance == 1000
    assert found.min_luminance is not None
    assert abs(found.min_luminance - Fraction(50, 10_000)) < Fraction(1, 5000)


def test_a_codec_without_a_place_for_hdr10_is_reported(tmp_path: Path) -> None:
    _, warnings = encode(tmp_path / "a.mkv", codec="ffv1", bit_depth=10, colour=PQ, hdr=HDR)

    assert warnings == ["HDR10 metadata not kept: ffv1 cannot store it"]


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    stream, _ = encode(tmp_path / "a.mp4", sample_aspect=Fraction(16, 11))

    assert stream.sample_aspect == Fraction(16, 11)


def test_chroma_that_the_codec_cannot_hold_is_reduced_with_a_note(tmp_path: Path) -> None:
    planes = tuple(np.full((48, 64), value, np.uint8) for value in (60, 90, 170))
    settings = EncodeSettings("av1", 64, 48, Fraction(1, 25), Fraction(25))
    with Muxer(tmp_path / "a.mp4") as muxer:
        encoder = muxer.add_video(settings)
        frames = [YuvFrame(planes, 8, "444", number, 1) for number in range(3)]  # type: ignore[arg-type]
        muxer.run([iter([p for one in frames for p in encoder.encode(one)] + encoder.flush())])
        muxer.publish()
    stream = probe(tmp_path / "a.mp4").video
    assert stream is not None

    with VideoReader(tmp_path / "a.mp4", stream) as reader:
        found = list(reader)[1]

    assert encoder.warnings == ["av1 cannot store 8 bits in 4:4:4; converted to 8 bits in 4:2:0"]
    assert [abs(int(plane.mean()) - value) <= 2 for plane, value in zip(found.planes, (60, 90, 170), strict=True)]


def test_odd_sizes_are_rounded_up_with_a_note_where_the_codec_has_none(tmp_path: Path) -> None:
    stream, warnings = encode(tmp_path / "a.mp4", width=63, height=47)

    assert (stream.width, stream.height) == (64, 48)
    assert "63x47 was extended to 64x48 by repeating the last row or column" in warnings[0]


@pytest.mark.parametrize(("codec", "suffix"), [("av1", ".mp4"), ("ffv1", ".mkv")])
def test_odd_sizes_stay_odd_where_the_codec_has_them(tmp_path: Path, codec: str, suffix: str) -> None:
    stream, warnings = encode(tmp_path / f"a{suffix}", codec=codec, width=63, height=47)

    assert (stream.width, stream.height) == (63, 47)
    assert warnings == []


def test_a_frame_too_small_for_the_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="8x8, expected at least 16"):
        encode(tmp_path / "a.mp4", codec="hevc", width=8, height=8)

    assert list(tmp_path.iterdir()) == []


def test_a_codec_that_the_container_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="prores cannot be written"):
        encode(tmp_path / "a.mp4", codec="prores", bit_depth=10, chroma="422")


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_variable_times_and_the_last_duration_survive_reordering(
    clip: Callable[..., Path], job: Callable[..., Any], times: Callable[[Path], list[Fraction]], codec: str
) -> None:
    rng = np.random.default_rng(1)
    pts = [540, *(540 + np.cumsum(rng.integers(1000, 9000, 60))).tolist()]
    source = clip("a.mp4", pts=pts, time_base=Fraction(1, 90_000), container_options={"movie_timescale": "90000"})

    result = job(source, "b.mp4", codec=codec)

    assert times(source) == times(source.with_name("b.mp4")) == [Fraction(n, 90_000) for n in pts]
    assert result.verification.passed
    assert result.verification.video.rounded_to is None
    written = probe(source.with_name("b.mp4")).video
    assert written is not None
    assert written.duration_pts == pts[-1] - pts[0] + LAST_DURATION


STEADY = [40 * n for n in range(20)]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("pts", "last"),
    [
        (STEADY, 40),
        (STEADY, 9000),
        ([*STEADY, 5000], 60),
        ([*STEADY, 5000, 5040], 60),
        ([0, *(5000 + time for time in STEADY)], 40),
        ([0, 7000], 40),
    ],
    ids=["steady", "last long", "gap before the last", "gap before two", "gap behind the first", "two"],
)
def test_track_and_file_end_where_the_last_frame_does(
    clip: Callable[..., Path], job: Callable[..., Any], codec: str, suffix: str, pts: list[int], last: int
) -> None:
    source = clip("a.mkv", codec="ffv1", options={}, pts=pts, last=last, time_base=Fraction(1, 1000))

    result = job(source, f"b{suffix}", codec=codec)

    end = Fraction(pts[-1] + last, 1000)
    with av.open(str(source.with_name(f"b{suffix}"))) as container:
        stream = container.streams.video[0]
        track = container.duration / av.time_base if suffix == ".mkv" else stream.duration * stream.time_base
        assert abs(track - end) <= 0.001
        assert abs(container.duration / av.time_base - end) <= 0.001
    assert result.verification.passed


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", ".mp4"), ("h264", ".mov"), ("h264", ".mkv"), ("hevc", ".mp4"), ("hevc", ".mkv"), ("av1", ".webm")],
)
@pytest.mark.parametrize("gaps", [(2000, 5000, 5040), (5000, 5040, 5080), (2000, 2040, 5000, 5040)])
def test_a_track_whose_b_frames_come_after_gaps_ends_with_its_last_frame(
    tmp_path: Path, codec: str, suffix: str, gaps: tuple[int, ...]
) -> None:
    pts, last, target = [*STEADY, *gaps], 60, tmp_path / f"a{suffix}"
    still = tuple(np.full(shape, 90, np.uint8) for shape in ((48, 64), (24, 32), (24, 32)))
    durations = [*(later - earlier for earlier, later in pairwise(pts)), last]
    frames = [YuvFrame(still, 8, "420", *times) for times in zip(pts, durations, strict=True)]  # type: ignore[arg-type]
    settings = EncodeSettings(codec, 64, 48, Fraction(1, 1000), Fraction(25))  # type: ignore[arg-type]

    with Muxer(target) as muxer:
        encoder = muxer.add_video(settings)
        packets = [packet for frame in frames for packet in encoder.encode(frame)] + encoder.flush()
        latest = max((packet.pts or 0) + (packet.duration or 0) for packet in packets)
        muxer.run([iter(packets)])
        muxer.publish()

    end = pts[-1] + last
    assert latest == end
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert sorted(packet.pts * stream.time_base * 1000 for packet in container.demux(stream) if packet.size) == pts
        assert container.duration == end * 1000
        if suffix in (".mp4", ".mov"):
            assert stream.duration * stream.time_base * 1000 == end
            content = target.read_bytes()
            scale, length = struct.unpack_from(">II", content, content.index(b"mvhd") + 16)
            assert Fraction(length, scale) * 1000 == end
        else:
            assert stream.metadata["DURATION"] == f"00:00:05.{end - 5000:03}000000"
