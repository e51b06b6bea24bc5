"""Copied frames keep their times and are only those of the span."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.media.audio_reader import AudioReader
from runtime.media.probe import probe
from runtime.report import Action

FRAMES: dict[str, Any] = {"pts": [512 * n for n in range(100)], "last": 512}
ONE_GROUP = {"options": {"preset": "veryfast", "g": "500", "bf": "2"}}
GROUPS = {"options": {"preset": "veryfast", "g": "12", "keyint_min": "12", "bf": "2", "sc_threshold": "0"}}
SLOTS: dict[str, Any] = {"pts": list(range(50)), "time_base": Fraction(1, 25)}


def show(path: Path) -> list[tuple[float, bytes]]:
    """Decode a file's frames in the order of their times, without Relume's code."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(frame.pts * stream.time_base), frame) for frame in container.decode(stream)]
        return [(time, frame.to_ndarray().tobytes()) for time, frame in sorted(frames, key=lambda pair: pair[0])]


def check_span(found: list[tuple[float, bytes]], whole: list[tuple[float, bytes]], first: int, last: int) -> None:
    """Compare what a copy shows with the frames from `first` to before `last`; a few more may follow."""
    assert len(found) - (last - first) in range(4)
    assert [time for time, _ in found[: last - first]] == pytest.approx(np.arange(last - first) / 25, abs=0.0011)
    assert [data for _, data in found[: last - first]] == [data for _, data in whole[first:last]]


@pytest.mark.parametrize(("start", "end"), [(26, 74), (1, None), (None, 38), (99, None)])
@pytest.mark.parametrize("groups", [ONE_GROUP, GROUPS], ids=["one group", "groups of 12"])
def test_an_mp4_hides_what_is_decoded_before_the_cut(
    clip: Callable[..., Path], job: Callable[..., Any], groups: dict[str, Any], start: int | None, end: int | None
) -> None:
    source = clip("a.mp4", **FRAMES, **groups, audio="aac", audio_samples=4 * 48_000)
    cut = {key: Fraction(n, 25) for key, n in (("start", start), ("end", end)) if n is not None}

    done = job(source, "b.mp4", copy_video=True, **cut)

    result = source.with_name("b.mp4")
    first, last = start or 0, end or 100
    assert done.plans[0].action is Action.COPIED
    check_span(show(result), show(source), first, last)
    with AudioReader(result, probe(result).audios[0]) as reader:
        assert sum(block.samples.shape[1] for block in reader) == (last - first) * 1920


@pytest.mark.parametrize("name", ["b.mkv"])
def test_a_container_that_hides_nothing_is_encoded_again_from_between_key_frames(
    clip: Callable[..., Path], job: Callable[..., Any], name: str
) -> None:
    source = clip("a.mp4", **FRAMES, **ONE_GROUP)

    done = job(source, name, copy_video=True, start=Fraction(26, 25), end=Fraction(74, 25))

    found = show(source.with_name(name))
    assert (done.plans[0].action, done.plans[0].out_codec) == (Action.TRANSCODED, "h264")
    assert "the cut does not start at a key frame" in done.plans[0].reason
    assert [time for time, _ in found] == pytest.approx(np.arange(48) / 25, abs=0.0011)


def test_a_cut_at_a_key_frame_is_copied_into_any_container(clip: Callable[..., Path], job: Callable[..., Any]) -> None:
    source = clip("a.mkv", **FRAMES, **GROUPS)

    done = job(source, "b.mkv", copy_video=True, start=Fraction(24, 25))

    assert done.plans[0].action is Action.COPIED
    check_span(show(source.with_name("b.mkv")), show(source), 24, 100)


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "b.mov"])
@pytest.mark.parametrize(
    "codec", [{"codec": "libx264"}, {"codec": "mpeg2video", "options": {"bf": "2"}}], ids=["h264", "mpeg2"]
)
def test_reordered_frames_of_an_avi_are_copied_in_their_order(
    clip: Callable[..., Path], job: Callable[..., Any], name: str, codec: dict[str, Any]
) -> None:
    source = clip("a.avi", **SLOTS, **codec)
    with av.open(str(source)) as container:
        expected = [frame.to_ndarray().tobytes() for frame in container.decode(video=0)]

    done = job(source, name, copy_video=True)

    found = show(source.with_name(name))
    assert done.plans[0].action is Action.COPIED
    assert [data for _, data in found] == expected
    assert np.diff([time for time, _ in found]) == pytest.approx(np.full(49, 0.04), abs=0.0011)
    assert done.warnings == []


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4"])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv"])
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_copied_frames_are_at_the_times_of_the_source(
    clip: Callable[..., Path], job: Callable[..., Any], suffix: str, name: str, uneven: bool
) -> None:
    pts = [40 * n + (900 * (n // 4) if uneven else 0) for n in range(40)]
    source = clip(f"a{suffix}", pts=pts, time_base=Fraction(1, 1000), options={"preset": "medium", "bf": "3"}, last=40)
    origin = float(probe(source).origin)

    done = job(source, name, copy_video=True)

    whole, found = show(source), show(source.with_name(name))
    assert [time for time, _ in found] == pytest.approx([time - origin for time, _ in whole], abs=0.0011)
    assert [data for _, data in found] == [data for _, data in whole]
    assert not any("out of order" in warning for warning in done.warnings)


def test_a_copy_ends_where_the_source_does(clip: Callable[..., Path], job: Callable[..., Any]) -> None:
    pts = [0, 200, 400, 600, 800, 9000]
    options = {"preset": "veryfast", "bf": "0"}
    source = clip("a.mkv", pts=pts, time_base=Fraction(1, 1000), last=40, rate=Fraction(25, 29), options=options)
    head, found, tail = source.read_bytes().rpartition(b"\x9b\x81\x28")  # the last BlockDuration becomes void
    assert found
    source.write_bytes(head + b"\xec\x81\x28" + tail)

    job(source, "b.mp4", copy_video=True)

    with av.open(str(source.with_name("b.mp4"))) as container:
        assert abs(container.duration / av.time_base - 9.04) < 0.002


def test_mpeg4_of_an_avi_with_reordered_frames_is_encoded_again(
    clip: Callable[..., Path], job: Callable[..., Any]
) -> None:
    source = clip("a.avi", **SLOTS, codec="mpeg4", options={"bf": "2"})

    done = job(source, "b.mp4", copy_video=True)

    assert done.plans[0].action is Action.TRANSCODED
    assert [time for time, _ in show(source.with_name("b.mp4"))] == pytest.approx(np.arange(50) / 25)


def write_edits(path: Path, *edits: tuple[int, int]) -> None:
    """Replace the edit list of an MP4 of one stream, whose index lies at the end, by (begin, length) in frames."""
    data = bytearray(path.read_bytes())
    at = {name: data.rindex(name) - 4 for name in (b"moov", b"trak", b"edts", b"elst", b"mvhd", b"tkhd")}
    (length, offset) = (
        struct.unpack_from(">I", data, at[b"elst"])[0],
        struct.unpack_from(">i", data, at[b"elst"] + 20)[0],
    )
    rows = b"".join(struct.pack(">IiI", 512 * count, offset + 512 * begin, 65536) for begin, count in edits)
    data[at[b"elst"] : at[b"elst"] + length] = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    for name in (b"moov", b"trak", b"edts"):
        struct.pack_into(">I", data, at[name], struct.unpack_from(">I", data, at[name])[0] + 16 + len(rows) - length)
    total = 512 * sum(count for _, count in edits)
    struct.pack_into(">I", data, at[b"mvhd"] + 24, total)
    struct.pack_into(">I", data, at[b"tkhd"] + 28, total)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "edits", "action"),
    [
        ("b.mp4", [(0, 25), (50, 25)], Action.TRANSCODED),
        ("b.mkv", [(0, 25), (50, 25)], Action.TRANSCODED),
        ("b.mp4", [(20, 50)], Action.COPIED),
        ("b.mkv", [(20, 50)], Action.TRANSCODED),
        ("b.mkv", [(0, 50)], Action.COPIED),
    ],
)
def test_what_an_edit_list_hides_stays_hidden(
    clip: Callable[..., Path], job: Callable[..., Any], name: str, edits: list[tuple[int, int]], action: Action
) -> None:
    source = clip("a.mp4", **FRAMES, **GROUPS, container_options={"movie_timescale": "12800"})
    whole = show(source)
    write_edits(source, *edits)
    shown = [whole[begin + n] for begin, count in edits for n in range(count)]
    times = [time for time, _ in show(source)]
    assert [data for _, data in show(source)] == [data for _, data in shown]

    done = job(source, name, copy_video=True)

    found = show(source.with_name(name))
    assert done.plans[0].action is action
    assert np.array([time for time, _ in found[:50]]) == pytest.approx(times, abs=0.0011)
    assert len(found) in range(50, 54 if action is Action.COPIED else 51)
    if action is Action.COPIED:
        assert [data for _, data in found[:50]] == [data for _, data in shown]


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_a_span_without_a_frame_has_no_video_track(
    clip: Callable[..., Path], job: Callable[..., Any], name: str
) -> None:
    source = clip("a.mp4", **FRAMES, **ONE_GROUP, audio="aac", audio_samples=6 * 48_000)

    done = job(source, name, copy_video=True, start=Fraction(9, 2), end=Fraction(11, 2))

    result = probe(source.with_name(name))
    assert done.plans[0].action is Action.NOT_CARRIED
    assert done.plans[0].reason == "no frame of it starts in the selected part"
    assert (len(result.videos), len(result.audios)) == (0, 1)
