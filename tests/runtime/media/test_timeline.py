from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.media.audio_encoder import AudioEncoder, AudioSettings
from runtime.media.audio_reader import AudioReader
from runtime.media.audio_samples import AudioBlock
from runtime.media.demux import open_source
from runtime.media.muxer import open_scratch
from runtime.media.probe import probe
from runtime.media.timeline import can_seek
from runtime.media.video_reader import VideoReader

TS: dict[str, Any] = {"audio": "mp2", "time_base": Fraction(1, 90_000), "pts": [3600 * n for n in range(25)]}
MILLISECONDS: dict[str, Any] = {"time_base": Fraction(1, 1000), "pts": [40 * n for n in range(25)], "last": 40}
KINDS: dict[str, dict[str, Any]] = {
    "a.ts": TS,
    "a.mpg": {"codec": "mpeg2video", "options": {}, "audio": "mp2", "time_base": Fraction(1, 25), "pts": [*range(25)]},
    "a.flv": MILLISECONDS | {"codec": "flv", "options": {}, "audio": "libmp3lame", "audio_layout": "mono"},
    "a.mp4": MILLISECONDS
    | {"audio": "aac", "container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}},
    "a.webm": MILLISECONDS | {"codec": "libvpx", "options": {"deadline": "realtime"}, "audio": "libopus"},
}
FLV_HEAD = 13


def join(clip: Callable[..., Path], name: str, offset: int) -> Path:
    """Write two recordings one after the other; the clock of the second begins at an offset in seconds."""
    options = {"container_options": KINDS[name].get("container_options", {}) | {"output_ts_offset": str(offset)}}
    parts = [clip(f"0{name}", **KINDS[name]), clip(f"1{name}", **KINDS[name] | options)]
    path = parts[0].with_name(name)
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[FLV_HEAD if name == "a.flv" else 0 :])
    return path


def read_frames(path: Path, **cut: Fraction) -> tuple[VideoReader, list[tuple[Fraction, np.ndarray]]]:
    stream = probe(path).video
    assert stream is not None
    with VideoReader(path, stream, **cut) as reader:
        return reader, [(frame.pts * stream.time_base, frame.planes[0].copy()) for frame in reader]


def read_audio(path: Path, **cut: Fraction) -> tuple[AudioReader, np.ndarray]:
    with AudioReader(path, probe(path).audios[0], **cut) as reader:
        return reader, np.concatenate([block.samples for block in reader], axis=1)


@pytest.mark.parametrize("offset", [0, 5000])
@pytest.mark.parametrize("name", KINDS)
def test_recordings_that_were_joined_follow_each_other_in_all_streams(
    clip: Callable[..., Path], name: str, offset: int
) -> None:
    path = join(clip, name, offset)
    first = path.with_name(f"0{name}")
    samples = read_audio(first)[1].shape[1]

    reader, frames = read_frames(path)
    audio, joined = read_audio(path)

    assert len(frames) == 50
    # The second recording begins where the longer stream of the first one ends.
    steps = [float(b - a) for (a, _), (b, _) in pairwise(frames)]
    assert steps == pytest.approx([0.04] * 24 + [steps[24]] + [0.04] * 24, abs=0.009)
    assert 0.039 < steps[24] < 0.13
    assert 0 <= joined.shape[1] - 2 * samples <= audio.sample_rate // 10
    assert audio.overlap_dropped == 0
    for one in (reader, audio):
        assert any("the timestamps jump once, first after 1." in warning for warning in one.warnings)
        assert not any("left out" in warning for warning in one.warnings)


@pytest.mark.parametrize("offset", [0, 5000])
@pytest.mark.parametrize("name", ["a.ts", "a.flv", "a.webm"])
def test_a_cut_behind_a_joint_holds_what_the_whole_file_holds_there(
    clip: Callable[..., Path], name: str, offset: int
) -> None:
    path = join(clip, name, offset)
    frames, audio = read_frames(path)[1], read_audio(path)[1]
    begin = probe(path).origin
    start, rate = frames[40][0], probe(path).audios[0].sample_rate

    later = read_frames(path, start=start)[1]
    heard = read_audio(path, start=start)[1]

    assert begin < 5
    assert [time for time, _ in later] == [time - start for time, _ in frames[40:]]
    for (_, frame), (_, other) in zip(later, frames[40:], strict=True):
        np.testing.assert_array_equal(frame, other)
    if name != "a.webm":  # its times are rounded to milliseconds, and samples are not moved for less
        np.testing.assert_allclose(heard[:, 3000:], audio[:, round(start * rate) :][:, 3000:], atol=1e-3)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.flv"])
def test_copied_audio_follows_the_joint_as_the_frames_do(
    clip: Callable[..., Path], job: Callable[..., Any], name: str
) -> None:
    path = join(clip, name, 0)
    whole = read_audio(path)[1]

    done = job(path, "result.mkv", process_audio=False)

    copied = read_audio(path.with_name("result.mkv"))[1]
    assert abs(copied.shape[1] - whole.shape[1]) <= 48
    assert not any("out of order" in warning for warning in done.warnings)


def test_a_single_stray_time_is_no_jump(clip: Callable[..., Path]) -> None:
    path = clip("a.flv", **KINDS["a.flv"])
    data = bytearray(path.read_bytes())
    at, count = FLV_HEAD, 0
    while at < len(data):
        if data[at] == 8 and (count := count + 1) == 12:
            data[at + 4 : at + 8] = (9000).to_bytes(3, "big") + b"\1"
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    expected = read_audio(path)[1].shape
    path.write_bytes(data)

    audio, samples = read_audio(path)

    assert samples.shape == expected
    assert (audio.silence_inserted, audio.overlap_dropped) == (0, 0)
    assert not any("jumps" in warning for warning in audio.warnings)


def test_a_pause_of_one_stream_is_no_jump(clip: Callable[..., Path]) -> None:
    pts = [3600 * n for n in range(25)] + [3600 * 25 * 60 + 3600 * n for n in range(3)]
    path = clip("a.ts", **(TS | {"pts": pts, "audio_rate": 16_000, "audio_samples": 16_000 * 61}))

    reader, frames = read_frames(path)

    assert frames[25][0] - frames[24][0] == 60 - Fraction(24, 25)
    assert not any("jumps" in warning for warning in reader.warnings)


@pytest.mark.parametrize(("name", "offset"), [("a.mkv", 7000), ("a.flv", 7000), ("a.nut", 7000), ("a.mkv", 50)])
def test_a_clock_that_begins_late_begins_at_zero(clip: Callable[..., Path], name: str, offset: int) -> None:
    kind = KINDS.get(name, MILLISECONDS | {"audio": "aac"})
    expected = [time for time, _ in read_frames(clip(f"0{name}", **kind))[1]]
    path = clip(name, **kind, container_options={"output_ts_offset": str(offset)})

    info = probe(path)
    reader, frames = read_frames(path)
    audio, samples = read_audio(path)

    assert abs(info.origin - offset) < Fraction(1, 10)
    assert info.duration is None or info.duration < 2
    assert min(frames[0][0], Fraction(audio.first_sample, 48_000)) == 0
    assert [time - frames[0][0] for time, _ in frames] == [time - expected[0] for time in expected]
    assert samples.shape[1] < 60_000
    assert not reader.ended_early


def test_some_seconds_at_the_begin_of_a_clock_with_a_zero_are_kept(clip: Callable[..., Path]) -> None:
    path = clip("a.mkv", **MILLISECONDS, container_options={"output_ts_offset": "3"})

    assert probe(path).origin == 0
    assert read_frames(path)[1][0][0] == 3


def test_silence_before_audio_is_generated_on_demand() -> None:
    container = open_scratch(".m4a")
    settings = AudioSettings("aac", 48_000, "mono", 64_000, None, source_rate=48_000, source_layout="mono")
    encoder = AudioEncoder(container, settings, from_zero=True)

    packets = encoder.encode(AudioBlock(np.zeros((1, 1024), np.float32), 10**15))

    assert next(packets).pts is not None
    container.close()


@pytest.mark.parametrize(
    ("frames", "samples"), [(100, 16_000), (25, 16_000 * 6)], ids=["sound ends early", "sound goes on"]
)
@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_a_track_that_is_longer_than_another_is_not_damage(
    clip: Callable[..., Path], name: str, frames: int, samples: int
) -> None:
    kind = KINDS.get(name, MILLISECONDS | {"audio": "aac"}) | {"pts": [40 * n for n in range(frames)]}
    path = clip(name, **kind, audio_samples=samples * 3)

    reader, images = read_frames(path)

    assert (len(images), reader.ended_early) == (frames, False)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_last_frame_that_is_shown_for_long_is_not_damage(clip: Callable[..., Path], name: str) -> None:
    path = clip(name, **MILLISECONDS | {"pts": [0, 40, 80], "last": 9000}, audio="aac", audio_samples=48_000 * 9)

    reader, frames = read_frames(path)

    assert (len(frames), reader.ended_early) == (3, False)


@pytest.mark.parametrize("name", ["a.mkv", "a.flv"])
def test_a_file_none_of_whose_streams_reaches_its_end_is_truncated(clip: Callable[..., Path], name: str) -> None:
    kind = KINDS.get(name, MILLISECONDS | {"audio": "aac"}) | {"pts": [40 * n for n in range(200)]}
    path = clip(name, **kind, audio_samples=48_000 * 8)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    reader, _ = read_frames(path)

    assert reader.ended_early


@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_a_seek_is_trusted_where_the_clock_continues_and_nowhere_else(clip: Callable[..., Path], name: str) -> None:
    step = 3600 if name == "a.ts" else 1
    kind = KINDS[name] | {"pts": [step * n for n in range(400)], "audio_samples": 48_000 * 16}
    parts = [clip(f"{number}{name}", **kind) for number in (0, 1)]
    path = parts[0].with_name(name)
    path.write_bytes(parts[0].read_bytes() + parts[1].read_bytes())
    origin = probe(path).origin

    with open_source(path) as joined, open_source(parts[0]) as whole:
        assert can_seek(whole, parts[0], origin + 6)
        assert not can_seek(joined, path, origin + 60)
    frames = read_frames(path)[1]
    later = read_frames(path, start=frames[700][0])[1]

    assert len(frames) == 800
    assert [time for time, _ in later] == [time - frames[700][0] for time, _ in frames[700:]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["ahead", "back"])
@pytest.mark.parametrize("name", ["a.ts", "a.mpg"])
def test_a_duration_leaves_jumps_of_the_clock_out(clip: Callable[..., Path], name: str, order: tuple[int, int]) -> None:
    step = 3600 if name == "a.ts" else 1
    kind = KINDS[name] | {"pts": [step * n for n in range(250)], "audio_samples": 48_000 * 10}
    options = {"container_options": {"output_ts_offset": "5000"}}
    parts = [clip(f"0{name}", **kind), clip(f"1{name}", **kind, **options)]
    path = parts[0].with_name(name)
    path.write_bytes(b"".join(parts[number].read_bytes() for number in order))

    whole, joined = probe(parts[0]).duration, probe(path).duration

    assert whole is not None
    assert joined is not None
    assert abs(whole - 10) < Fraction(1, 2)
    assert abs(joined - 20) < 1


@pytest.mark.parametrize("process_audio", [True, False], ids=["encoded", "copied"])
def test_a_stream_with_a_clock_of_its_own_begins_with_the_others(
    clip: Callable[..., Path], job: Callable[..., Any], process_audio: bool
) -> None:
    path = clip("a.mkv", **MILLISECONDS, audio="aac", audio_start=48_000 * 100_000)

    done = job(path, "b.mkv", process_audio=process_audio)

    audio, samples = read_audio(path.with_name("b.mkv"))
    assert audio.first_sample < 4800
    assert samples.shape[1] < 60_000
    assert done.warnings.count("stream 1 counts 100000 s later than the others, on its own clock; "
                               "it was aligned with them") == 1  # fmt: skip
