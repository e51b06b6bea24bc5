"""A job that was stopped resumes where it was, and its result does not show it."""

import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.enhance import enhance
from runtime.errors import CancelledError
from runtime.media.video_reader import VideoReader
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.report import Report
from runtime.resume.writer import SegmentRule
from runtime.video.recurrent import RecurrentRunner
from runtime.video.static_tiles import StaticRule

RULE = SegmentRule(5, 10)
OPTIONS = EnhanceOptions(preset="restore", threads=2, audio=AudioMode.OFF)


def run(
    source: Path, target: Path, options: EnhanceOptions, work: Path, *, stop_at: int | None = None
) -> Report | None:
    """Run an attempt; with `stop_at` it is cancelled after so many frames and returns None."""
    cancel = threading.Event()
    done: list[int] = []

    def watch(progress: Any) -> None:
        done.append(progress.frames_done)
        if stop_at is not None and progress.frames_done >= stop_at:
            cancel.set()

    try:
        return enhance(source, target, options, workspace=work, rule=RULE, cancel=cancel, on_progress=watch)
    except CancelledError:
        assert stop_at is not None
        return None


@pytest.fixture
def compare(
    tmp_path: Path, keep_digests: list[dict[str, str]], packets: Callable[[Path], Any]
) -> Callable[..., tuple[Report, Report]]:
    """Run a job uninterrupted, and again with stops; check that segments and packets are equal; return both reports."""

    def check(source: Path, options: EnhanceOptions, *stops: int, suffix: str = ".mp4") -> tuple[Report, Report]:
        alone = run(source, tmp_path / f"alone{suffix}", options, tmp_path / "alone")
        for stop in stops:
            assert run(source, tmp_path / f"stopped{suffix}", options, tmp_path / "stopped", stop_at=stop) is None
            assert not (tmp_path / f"stopped{suffix}").exists()
        stopped = run(source, tmp_path / f"stopped{suffix}", options, tmp_path / "stopped")
        assert alone is not None
        assert stopped is not None
        assert keep_digests[0] == keep_digests[1]
        assert len(keep_digests[0]) > 1
        assert packets(tmp_path / f"alone{suffix}") == packets(tmp_path / f"stopped{suffix}")
        if suffix != ".mkv":  # its muxer generates random IDs for the file and its tracks
            assert (tmp_path / f"alone{suffix}").read_bytes() == (tmp_path / f"stopped{suffix}").read_bytes()
        assert stopped.resumes == len(stops)
        assert stopped.picture == alone.picture
        assert stopped.warnings == alone.warnings
        left = [path.name for path in (tmp_path / "stopped").rglob("*") if path.is_file()]
        assert left == ["manifest.json"]
        return alone, stopped

    return check


@pytest.mark.parametrize("stop", [2, 12, 18, 20, 30])
def test_a_job_that_was_cancelled_continues_with_the_same_bits(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]], stop: int
) -> None:
    alone, _ = compare(clip(), OPTIONS, stop)

    assert alone.picture is not None
    assert alone.picture.scene_cuts == (8, 23)


@pytest.mark.parametrize(
    ("scale", "size", "codec", "suffix"),
    [
        (2, (72, 56), Codec.HEVC, ".mkv"), (4, (64, 48), Codec.AV1, ".mp4"), (1, (50, 37), Codec.FFV1, ".mkv"),
        (1, (104, 72), Codec.H264, ".mov"),
    ],
)  # fmt: skip
def test_the_recurrent_state_continues_at_every_size_and_scale(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]], scale: Any, size: Any, codec: Codec,
    suffix: str,
) -> None:  # fmt: skip
    source = clip(scenes=(26,), size=size, audio=False, codec="ffv1", name="in.mkv", options={})
    preset = "restore" if scale == 1 else "upscale"
    options = EnhanceOptions(preset=preset, scale=scale, codec=codec, threads=2, audio=AudioMode.OFF)

    _, stopped = compare(source, options, 13, 22, suffix=suffix)

    assert stopped.picture is not None
    assert 10 not in stopped.picture.scene_cuts, "the second segment needs the state of the first"


def test_times_that_are_uneven_and_a_part_of_the_source_resume_too(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]]
) -> None:
    steps = np.random.default_rng(1).integers(5, 90, 60)
    source = clip(scenes=(20, 40), times=[int(time) for time in steps.cumsum()], audio=False)
    options = EnhanceOptions(preset="restore", threads=2, audio=AudioMode.OFF, start=Fraction(1, 2), end=Fraction(9, 4))

    alone, _ = compare(source, options, 11, 21)

    assert alone.picture is not None
    assert 30 < alone.picture.frames_in < 55


def write_fields(path: Path, *, begin: int = 0) -> Path:
    """Write frames of a moving bar, interlaced from `begin` on."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=25, options={"flags": "+ildct+ilme"})
        video.width, video.height, video.pix_fmt = 64, 96, "yuv420p"
        video.codec_context.field_order = 2
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((96, 64, 3), 60, np.uint8), format="rgb24").reformat(
                format="yuv420p"
            )
            luma = np.frombuffer(frame.planes[0], np.uint8).reshape(96, -1)
            for parity in (0, 1):
                left = (2 * number + (parity if number >= begin else 0)) * 3 % 40
                luma[parity::2, left : left + 16] = 200
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    return path


def test_interlaced_frames_resume_too(tmp_path: Path, compare: Callable[..., tuple[Report, Report]]) -> None:
    alone, _ = compare(write_fields(tmp_path / "in.mkv"), OPTIONS, 13)

    assert alone.picture is not None
    assert alone.picture.deinterlaced


@pytest.mark.parametrize("stop", [13, 22])
def test_a_video_that_is_interlaced_in_parts_resumes_too(
    tmp_path: Path, compare: Callable[..., tuple[Report, Report]], stop: int
) -> None:
    compare(write_fields(tmp_path / "in.mkv", begin=16), OPTIONS, stop)


def test_a_container_without_times_continues_from_its_beginning(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]]
) -> None:
    compare(clip("in.avi", codec="mpeg4", options={"b": "2000k"}, scenes=(30,), audio=False), OPTIONS, 14)


def test_a_damaged_source_continues_from_its_beginning_and_reports_all_damage(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]]
) -> None:
    source = clip(scenes=(40,), audio=False, gop=5, options={"crf": "8", "preset": "ultrafast"})
    content = bytearray(source.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 60] = bytes(60)
    source.write_bytes(content)
    options = EnhanceOptions(preset="restore", threads=1, audio=AudioMode.OFF, allow_damaged=True)

    alone, _ = compare(source, options, 33)

    assert any("the video is damaged at" in warning for warning in alone.warnings)
    assert alone.damage


def test_a_long_source_is_not_read_again_from_its_beginning(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[int] = []
    original = VideoReader.__iter__

    def note(reader: VideoReader) -> Any:
        for number, frame in enumerate(original(reader)):
            if number == 0:
                first.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoReader, "__iter__", note)
    source = clip(scenes=(100,), audio=False, options={"crf": "12", "preset": "fast", "bf": "3"}, gop=10)

    compare(source, OPTIONS, 85)

    assert len(first) == 3
    assert first[0] == first[1] == 0
    assert first[2] > 0


def test_if_seeking_returns_other_frames_the_source_is_read_from_its_beginning(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nears: list[int | None] = []
    original = VideoReader.__init__

    def corrupt(reader: VideoReader, *args: Any, near: int | None = None, **options: Any) -> None:
        nears.append(near)
        original(reader, *args, near=near, **options)
        if near is not None:
            frame = reader._first
            assert frame is not None
            reader._frames = (one for number, one in enumerate(reader._frames) if number % 7)

    monkeypatch.setattr(VideoReader, "__init__", corrupt)

    compare(clip(scenes=(100,), audio=False, gop=10), OPTIONS, 85)

    assert [near is None for near in nears] == [True, True, False, True]


def test_only_what_is_missing_is_made(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[int] = []
    samples: list[int] = []
    run_step, push = RecurrentRunner.run, SpeechEnhancer.push

    def note_step(step: RecurrentRunner, window: Any, *rest: Any) -> Any:
        frames.append(window.index)
        return run_step(step, window, *rest)

    def note_sound(enhancer: SpeechEnhancer, block: Any) -> Any:
        samples.append(block.shape[1])
        return push(enhancer, block)

    monkeypatch.setattr(RecurrentRunner, "run", note_step)
    monkeypatch.setattr(SpeechEnhancer, "push", note_sound)
    source, options = clip(), EnhanceOptions(preset="restore", threads=2)
    assert run(source, tmp_path / "out.mp4", options, tmp_path / "work", stop_at=20) is None
    assert sum(samples) > 0
    frames.clear()
    samples.clear()

    report = run(source, tmp_path / "out.mp4", options, tmp_path / "work")

    assert report is not None
    assert frames == list(range(18, 32)), "the third segment begins with picture 18"
    assert samples == []
    assert report.sound[0].samples_in == report.sound[0].samples_out
    frames.clear()
    assert run(source, tmp_path / "out.mp4", options, tmp_path / "work") == report
    assert frames == []


def test_progress_counts_what_is_durable_already(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip(audio=False)
    assert run(source, tmp_path / "out.mp4", OPTIONS, tmp_path / "work", stop_at=20) is None
    seen: list[Any] = []

    report = enhance(
        source, tmp_path / "out.mp4", OPTIONS, workspace=tmp_path / "work", rule=RULE, on_progress=seen.append
    )

    counts = [progress.frames_done for progress in seen if progress.stage == "enhancing"]
    assert counts[0] in (0, 18)
    assert counts[1:] == list(range(counts[1], 33))
    assert counts[1] in (18, 19)
    assert [progress.stage for progress in seen][-1] == "checking"
    assert report.resumes == 1


def test_the_comparison_is_drawn_although_its_frame_passed_before(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip(scenes=(32,), audio=False)
    options = EnhanceOptions(preset="restore", threads=2, audio=AudioMode.OFF, compare=tmp_path / "c.png")
    alone = run(source, tmp_path / "alone.mp4", options, tmp_path / "alone")
    expected = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").unlink()

    assert run(source, tmp_path / "out.mp4", options, tmp_path / "work", stop_at=24) is None
    report = run(source, tmp_path / "out.mp4", options, tmp_path / "work")

    assert report is not None
    assert alone is not None
    assert report.compare == alone.compare == str(tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() == expected


def test_a_tile_that_failed_before_the_stop_is_reported(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RecurrentRunner._call
    frames: list[int] = []
    run_step = RecurrentRunner.run

    def fail_once(step: RecurrentRunner, made: Any) -> None:
        original(step, made)
        if frames[-1] == 3 and step._warped.any():
            made.result[:] = np.nan

    def note(step: RecurrentRunner, window: Any, *rest: Any) -> Any:
        frames.append(window.index)
        return run_step(step, window, *rest)

    monkeypatch.setattr(RecurrentRunner, "_call", fail_once)
    monkeypatch.setattr(RecurrentRunner, "run", note)
    source = clip(audio=False)
    assert run(source, tmp_path / "out.mp4", OPTIONS, tmp_path / "work", stop_at=20) is None

    report = run(source, tmp_path / "out.mp4", OPTIONS, tmp_path / "work")

    assert report is not None
    assert report.picture is not None
    assert {reset.frame for reset in report.picture.state_resets} == {3}
    assert any("tiles were processed again" in warning for warning in report.warnings)
    assert report.picture.scene_cuts == (8, 23)


@pytest.mark.parametrize("name", ["in.ts", "in.webm"])
def test_recordings_that_were_joined_continue_behind_the_joint(
    clip: Callable[..., Path], compare: Callable[..., tuple[Report, Report]], name: str
) -> None:
    codec = {"codec": "libvpx", "options": {"deadline": "realtime"}, "audio": False} if name == "in.webm" else {}
    parts = [clip(name=f"{number}{name}", scenes=(30,), **codec) for number in (0, 1)]
    source = parts[0].with_name(name)
    source.write_bytes(b"".join(part.read_bytes() for part in parts))

    alone, _ = compare(source, OPTIONS, 12, 41)

    assert alone.picture is not None
    assert alone.picture.frames_in == 60
    assert any("timestamps jump once" in warning for warning in alone.warnings)


def write_fixed_camera(path: Path) -> Path:
    """Write 34 frames of a still image that something small crosses."""
    picture = np.kron(np.random.default_rng(5).integers(30, 220, (13, 20, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as output:
        video = output.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 160, 104, "yuv420p"
        for number in range(34):
            rgb = picture.copy()
            rgb[20:28, number : number + 8] = 255
            output.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(video.encode(None))
    return path


def test_tiles_that_stand_still_are_kept_alike_after_a_stop(
    tmp_path: Path, compare: Callable[..., tuple[Report, Report]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.job.StaticRule", lambda: StaticRule(settle_runs=2, refresh_frames=7))
    monkeypatch.setattr("runtime.job.TILE_PIXELS", 3000)
    options = EnhanceOptions(preset="surveillance", scale=1, threads=2, audio=AudioMode.OFF)

    alone, _ = compare(write_fixed_camera(tmp_path / "in.mkv"), options, 3, 14, 25)

    assert alone.picture is not None
    assert alone.picture.tiling is not None
    tiles = alone.picture.frames_in * alone.picture.tiling.tiles_per_frame
    assert tiles / 5 < alone.picture.kept_tiles < tiles
