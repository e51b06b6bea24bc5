"""One attempt at a job, in this process: results, names, options, and messages of failures."""

import os
import shutil
import threading
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import pytest

from appliance.jobs.job import JobState, Origin, WorkerOptions
from appliance.jobs.progress_reporter import MemoryGauge, ProgressReporter
from appliance.jobs.run_job import Attempt, preview_span
from appliance.jobs.worker import _run_job
from appliance.watch.file_state import FileState, WatchedFile
from appliance.watch.folder import FolderConfig
from appliance.watch.store import FolderStore
from benchmarks.survive import read_packets
from runtime.errors import EncodeError
from runtime.media.muxer import Muxer
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.report import report_from_json
from tests.killing import write_clip

SILENT = EnhanceOptions(preset="restore", audio=AudioMode.OFF)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, clip_bytes):
    """The packets of an uninterrupted run."""
    from runtime.enhance import enhance

    from .conftest import RULE

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "clip.mp4").write_bytes(clip_bytes)
    enhance(folder / "clip.mp4", folder / "out.mp4", SILENT, workspace=folder / "work", rule=RULE)
    return read_packets(folder / "out.mp4")


@pytest.fixture
def halt(monkeypatch):
    """Call a function when a job has finished twelve frames, and hold the job until it is stopped."""

    def at_frame_twelve(act):
        original = ProgressReporter.progress

        def progress(self, message):
            original(self, message)
            if message.frames_done == 12:
                act()
                assert self.cancel.wait(20)

        monkeypatch.setattr(ProgressReporter, "progress", progress)

    return at_frame_twelve


def read_sizes(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        context = video.codec_context
        times = [frame.time for frame in container.decode(video)]
        return (context.name, context.pix_fmt, context.width, context.height), times


@pytest.mark.parametrize(("wished", "backend"), [("auto", "openvino-cpu"), ("cpu", "onnxruntime-cpu")])
def test_the_configured_backend_applies_to_jobs_that_set_none(add, queue, write_noise, wished, backend):
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    job = add(source=write_noise("a.wav"), options=EnhanceOptions(preset="sound-only", backend=wished))

    Attempt(
        queue.lease("cpu"),
        queue.lease("cpu").claim(),
        stopping=threading.Event(),
        worker_options=WorkerOptions(backend="openvino"),
    ).run()

    report = report_from_json(queue.files(job.id).report.read_text())
    assert [engine.backend for engine in report.engines] == [backend]


def test_a_job_without_a_target_ends_in_its_own_folder(add, work, queue, clip):
    add("My holiday.mp4", clip)

    job = work()

    files = queue.files(job.id)
    assert (job.state, job.message, job.frames_done, job.frames_total) == (JobState.DONE, "", 30, 30)
    assert job.result == files.results / "My holiday.relume.mp4"
    assert list(files.results.iterdir()) == [job.result]
    assert {path.name for path in files.folder.iterdir()} == {
        "thumbnail.jpg", "before.mp4", "after.mp4", "sound-before.m4a", "sound-after.m4a", "still-before.jpg",
        "still-after.jpg", "report.json",
    }  # fmt: skip
    assert report_from_json(files.report.read_text()).result.path == str(job.result)


def test_before_and_after_play_in_step(add, work, queue, clip):
    add("clip.mp4", clip, options=EnhanceOptions(preset="upscale", scale=2))

    files = queue.files(work().id)

    before, after = read_sizes(files.before), read_sizes(files.after)
    assert before == after
    assert before[0] == ("h264", "yuv420p", 128, 96)
    assert before[1] == pytest.approx([number / 25 for number in range(30)], abs=1e-4)
    for path in (files.before, files.after):
        content = path.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")
        with av.open(str(path)) as container:
            assert container.streams.audio[0].codec_context.name == "aac"


def test_a_target_gets_its_folder_and_an_existing_file_stays(add, work, clip, tmp_path):
    target = tmp_path / "far" / "away" / "out.mp4"
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    other = tmp_path / "new" / "folder" / "out.mp4"
    add("one", clip, target=target, options=SILENT)
    add("two", clip, target=other, options=SILENT)

    first, second = work(), work()

    assert first.result == target.with_name("out (2).mp4")
    assert target.read_text() == "mine"
    assert second.result == other
    assert sorted(path.name for path in target.parent.iterdir()) == ["out (2).mp4", "out.mp4"]
    assert list(other.parent.iterdir()) == [other]


def test_a_job_onto_its_own_source_makes_another_file(add, work, clip, clip_bytes):
    add("clip", clip, target=clip, options=SILENT)

    job = work()

    assert job.result == clip.with_name("clip (2).mp4")
    assert clip.read_bytes() == clip_bytes


def test_a_paused_job_resumes_where_it_was(add, work, queue, clip, tmp_path, halt, monkeypatch, undisturbed):
    job = add("clip", clip, target=tmp_path / "out" / "a.mp4", options=SILENT)
    halt(lambda: queue.pause(job.id))

    paused = work()

    assert (paused.state, paused.command, paused.attempts) == (JobState.PAUSED, None, 0)
    assert queue.files(job.id).count_segments() > 0
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    queue.resume(job.id)
    done = work()
    assert (done.state, done.attempts) == (JobState.DONE, 1)
    assert read_packets(done.result) == undisturbed
    assert not queue.files(job.id).workspace.exists()


def test_a_cancelled_job_leaves_nothing(add, work, queue, clip, tmp_path, halt):
    job = add("clip", clip, target=tmp_path / "out" / "a.mp4", options=SILENT)
    halt(lambda: queue.cancel(job.id))

    cancelled = work()

    assert (cancelled.state, cancelled.command, cancelled.result) == (JobState.CANCELLED, None, None)
    assert not queue.files(job.id).workspace.exists()
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stopping_worker_returns_its_job(add, work, clip, halt, monkeypatch, undisturbed):
    add("clip", clip, options=SILENT)
    stopping = threading.Event()
    halt(stopping.set)

    job = work(stopping)

    assert (job.state, job.attempts, job.message) == (JobState.QUEUED, 0, "")
    monkeypatch.undo()
    assert read_packets(work().result) == undisturbed


def test_a_command_that_comes_after_the_result_is_too_late(add, work, queue, clip, monkeypatch):
    job = add("clip", clip, options=SILENT)
    stage = ProgressReporter.stage

    def cancel_at_the_end(self, name):
        stage(self, name)
        if name == "comparing":
            queue.cancel(job.id)
            assert self.cancel.wait(20)

    monkeypatch.setattr(ProgressReporter, "stage", cancel_at_the_end)

    done = work()

    assert (done.state, done.command) == (JobState.DONE, None)
    assert done.result.exists()
    assert not queue.files(job.id).before.exists()


def test_a_source_that_is_removed_at_the_end_is_still_compared(add, work, queue, clip, monkeypatch):
    add("clip", clip, options=SILENT)
    stage = ProgressReporter.stage

    def lose_the_source(self, name):
        stage(self, name)
        if name == "comparing":
            clip.unlink()

    monkeypatch.setattr(ProgressReporter, "stage", lose_the_source)

    job = work()

    assert (job.state, job.message) == (JobState.DONE, "")
    assert queue.files(job.id).before.exists()


def test_a_result_that_is_there_already_needs_no_source(add, work, clip, tmp_path, monkeypatch):
    add("clip", clip, options=SILENT)
    (tmp_path / "out.mp4").write_bytes(b"made by an earlier try")
    clip.unlink()
    monkeypatch.setattr("appliance.jobs.run_job.find_published", lambda *_: tmp_path / "out.mp4")

    job = work()

    assert (job.state, job.result) == (JobState.DONE, tmp_path / "out.mp4")
    assert job.message.startswith("the result is complete, but its preview videos could not be created")


def test_a_fault_in_the_comparison_does_not_cost_the_result(add, work, queue, clip, monkeypatch):
    add("clip", clip, options=SILENT)
    monkeypatch.setattr("appliance.jobs.previews.write_video_proxies", lambda *_, **__: 1 / 0)

    job = work()

    assert (job.state, job.result.exists()) == (JobState.DONE, True)
    log = queue.files(job.id).log
    said = "the result is complete, but its preview videos could not be created (ZeroDivisionError); see"
    assert job.message == f"{said} {log}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; check the name and the folder"),
        (b"", "is empty; copy it again from its source"),
        (b"no film at all, only words " * 50, "is a text file, expected a video or audio file"),
    ],
)
def test_a_source_that_cannot_be_used_fails_with_its_reason(add, work, queue, tmp_path, content, message):
    if content is not None:
        (tmp_path / "bad.mp4").write_bytes(content)
    add("bad.mp4", tmp_path / "bad.mp4")

    job = work()

    assert job.state is JobState.FAILED
    assert message in job.message
    assert job.code == "source_unreadable"
    assert not queue.files(job.id).results.exists() or list(queue.files(job.id).results.iterdir()) == []


def test_a_damaged_source_fails_and_is_enhanced_as_far_as_readable_on_request(add, work, queue, clip):
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    lost = packets[len(packets) // 2]
    data[lost.pos + 4 : lost.pos + lost.size] = bytes(lost.size - 4)
    clip.write_bytes(data)
    job = add("clip", clip, options=SILENT)

    failed = work()

    assert (failed.state, failed.code) == (JobState.FAILED, "source_damaged")
    assert "is damaged in stream 0 at " in failed.message

    queue.retry(job.id, allow_damaged=True)
    done = work()

    assert (done.state, done.code) == (JobState.DONE, "")
    report = report_from_json(queue.files(job.id).report.read_text())
    assert [place.index for place in report.damage] == [0]


def test_a_failure_shows_the_name_that_the_user_entered(add, work, clip, tmp_path):
    add("clip", clip, target=tmp_path / "out.avi", options=EnhanceOptions(preset="restore", codec=Codec.H264))

    job = work()

    assert job.state is JobState.FAILED
    assert ".relume-" not in job.message
    assert ".avi" in job.message


def test_a_result_whose_check_fails_is_kept_beside_its_place(add, work, clip, tmp_path, monkeypatch):
    write, seen = Muxer._write, []

    def lose_one(muxer, packet):
        seen.append(packet.stream.type == "video")
        if not (seen[-1] and sum(seen) == 3):
            write(muxer, packet)

    monkeypatch.setattr(Muxer, "_write", lose_one)

    add("clip", clip, target=tmp_path / "films" / "done.mp4", options=SILENT)
    work()
    seen.clear()
    add("clip", clip, target=tmp_path / "films" / "done.mp4", options=SILENT)

    job = work()

    kept = tmp_path / "films" / "done.unverified.mp4"
    assert (job.state, job.code) == (JobState.FAILED, "unverified")
    assert job.message == (
        f"verification of the finished file failed: 30 frames were written, 29 are in the file; it is kept as {kept}"
    )
    assert [path.name for path in kept.parent.iterdir()] == ["done.unverified.mp4"]


def test_a_folder_that_cannot_be_made_is_reported(add, work, clip, tmp_path):
    (tmp_path / "file").write_text("")
    add("clip", clip, target=tmp_path / "file" / "out.mp4")

    job = work()

    assert job.state is JobState.FAILED
    assert "for the result cannot be created" in job.message
    assert "choose another" in job.message


def test_a_retry_resumes_where_the_failure_was(add, work, queue, clip, tmp_path, monkeypatch, undisturbed):
    job = add("clip", clip, target=tmp_path / "out" / "a.mp4", options=SILENT)
    original = ProgressReporter.progress

    def fail_at_twelve(self, message):
        original(self, message)
        if message.frames_done == 12:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(ProgressReporter, "progress", fail_at_twelve)
    assert work().state is JobState.FAILED
    kept = queue.files(job.id).count_segments()
    assert kept > 0
    monkeypatch.undo()
    queue.retry(job.id)

    assert read_packets(work().result) == undisturbed


def test_an_unexpected_error_keeps_its_traceback_in_the_jobs_log(add, queue, clip, monkeypatch):
    add("clip", clip, options=SILENT)
    monkeypatch.setattr("runtime.enhance.enhance", lambda *_, **__: 1 / 0)

    ended = _run_job(queue.lease("cpu"), queue.lease("cpu").claim(), threading.Event(), WorkerOptions())

    (job,) = queue.list()
    log = queue.files(job.id).log
    assert not ended
    assert job.state is JobState.FAILED
    assert job.message == f"unexpected error (ZeroDivisionError: division by zero); the details are in {log}"
    assert "Traceback (most recent call last)" in log.read_text()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), OSError(12, "Cannot allocate memory")]
)
def test_running_out_of_memory_is_reported_and_ends_the_process(add, queue, clip, monkeypatch, error):
    add("clip", clip, options=SILENT)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("runtime.enhance.enhance", fail)

    ended = _run_job(queue.lease("cpu"), queue.lease("cpu").claim(), threading.Event(), WorkerOptions())

    (job,) = queue.list()
    assert ended
    assert job.message.startswith("there is not enough memory for this job; choose a smaller size")


def test_an_error_near_the_memory_limit_is_reported_as_out_of_memory(add, queue, clip, monkeypatch):
    add("clip", clip, options=SILENT)

    def fail(*_, **__):
        raise EncodeError("h264 encoder failed: Generic error in an external library")

    monkeypatch.setattr("runtime.enhance.enhance", fail)
    monkeypatch.setattr(MemoryGauge, "was_near", lambda _: True)

    assert _run_job(queue.lease("cpu"), queue.lease("cpu").claim(), threading.Event(), WorkerOptions())

    assert queue.list()[0].message.startswith("there is not enough memory for this job")


def test_a_disk_that_is_nearly_full_ends_the_job_before_it_is(add, queue, clip, work):
    add("clip", clip, options=SILENT)
    reserve = shutil.disk_usage(clip.parent).free * 2

    _run_job(queue.lease("cpu"), queue.lease("cpu").claim(), threading.Event(), WorkerOptions(reserve_bytes=reserve))

    (job,) = queue.list()
    assert job.state is JobState.FAILED
    assert "is nearly full: less than the reserve of" in job.message
    queue.retry(job.id)
    assert work().state is JobState.DONE


def test_audio_only_is_compared_by_ear(add, work, queue, write_noise):
    source = write_noise("talk.wav")
    add("talk.wav", source, options=EnhanceOptions(preset="sound-only"))

    job = work()

    files = queue.files(job.id)
    assert (job.state, job.message) == (JobState.DONE, "")
    assert job.result.name == "talk.relume.wav"
    assert not files.thumbnail.exists()
    assert not files.before.exists()
    for path in (files.sound_before, files.sound_after):
        with av.open(str(path)) as container:
            samples = sum(frame.samples for frame in container.decode(container.streams.audio[0]))
        assert abs(samples - 48000) <= 1024


def test_a_preview_is_three_seconds_from_the_middle(add, work, queue, tmp_path):
    source = write_clip(tmp_path / "long.mp4", scene_frames=40)
    add("long.mp4", source, preview_of="upload-1", options=SILENT)

    job = work()

    assert job.result.name == "long.preview.mp4"
    assert (job.frames_done, job.state) == (75, JobState.DONE)
    before, after = read_sizes(queue.files(job.id).before), read_sizes(queue.files(job.id).after)
    assert len(before[1]) == len(after[1]) == 75
    assert preview_span(source, SILENT) == (Fraction(9, 10), Fraction(39, 10))


def test_a_preview_of_something_short_is_all_of_it(clip):
    assert preview_span(clip, SILENT) == (None, None)


def test_the_clock_on_the_wall_may_jump_while_a_job_runs(add, work, clip, monkeypatch, undisturbed):
    import time

    jumps = iter(range(10_000_000))
    monkeypatch.setattr(time, "time", lambda: 1.7e9 + (-1) ** (step := next(jumps)) * step * 1e6)
    add("clip", clip, options=SILENT)

    job = work()

    assert (job.state, job.attempts) == (JobState.DONE, 1)
    assert read_packets(job.result) == undisturbed


def test_two_sources_of_one_name_share_a_folder(add, work, tmp_path, clip):
    (tmp_path / "other").mkdir()
    other = Path(shutil.copy(clip, tmp_path / "other" / "clip.mp4"))
    for source in (clip, other):
        add("clip", source, target=tmp_path / "out" / "clip.mp4", options=SILENT)

    assert [work().result.name, work().result.name] == ["clip.mp4", "clip (2).mp4"]


@pytest.fixture
def watched(database, add, tmp_path, clip_bytes):
    """A job of a watch folder: its source, its target and the folder."""
    (tmp_path / "in/day").mkdir(parents=True)
    source, target = tmp_path / "in/day/clip.mp4", tmp_path / "out/day/clip.mp4"
    source.write_bytes(clip_bytes)
    store = FolderStore(database)
    folder = store.add(FolderConfig(tmp_path / "in", tmp_path / "out"))
    job = add(source=source, target=target, folder=folder.id, options=SILENT)
    facts = source.stat()
    file = WatchedFile("day/clip.mp4", facts.st_size, facts.st_mtime_ns, FileState.QUEUED, job=job.id, target=target)
    store.files(folder.id).put(file)
    return source, target


def test_a_watched_source_is_done_as_it_was_checked(watched, work):
    job = work()

    assert (job.state, job.result) == (JobState.DONE, watched[1])


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_in_the_place_of_a_watched_source_is_not_followed(watched, work, tmp_path, clip_bytes, what):
    source, target = watched
    other = tmp_path / "secret" / "clip.mp4"
    other.parent.mkdir()
    other.write_bytes(clip_bytes)
    os.utime(other, ns=(source.stat().st_mtime_ns,) * 2)
    source.unlink()
    if what == "file":
        source.symlink_to(other)
    else:
        source.parent.rmdir()
        source.parent.symlink_to(other.parent)

    job = work()

    assert job.state is JobState.FAILED
    assert "is a link, expected a" in job.message
    assert not target.exists()


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_job_that_uses_a_watched_file_again_follows_no_link_either(
    watched, add, queue, work, database, tmp_path, clip_bytes, is_watched
):
    source, target = watched
    queue.cancel(queue.list()[0].id)
    add(source=source, origin=Origin.UPLOAD, options=SILENT)
    if not is_watched:
        store = FolderStore(database)
        store.remove(store.list()[0].id)
    (tmp_path / "secret.mp4").write_bytes(clip_bytes)
    source.unlink()
    source.symlink_to(tmp_path / "secret.mp4")

    job = work()

    assert job.state is JobState.FAILED
    assert "it is a link, expected a file" in job.message
    assert not target.exists()


@pytest.mark.parametrize("what", ["pipe", "other"])
def test_another_file_in_the_place_of_a_watched_source_is_not_done(watched, work, what):
    source, target = watched
    content = source.read_bytes()
    source.unlink()
    if what == "pipe":
        os.mkfifo(source)
    else:
        source.write_bytes(content)
        os.utime(source, ns=(1, 1))

    job = work()

    assert job.state is JobState.FAILED
    expected = {"pipe": "it is a pipe, expected a file", "other": "changed since it was selected"}
    assert expected[what] in job.message
    assert not target.exists()


def test_a_source_that_is_replaced_while_its_job_runs_has_no_result(watched, work, monkeypatch, tmp_path):
    source, target = watched
    other = write_clip(tmp_path / "other.mp4", scene_frames=4)
    original = ProgressReporter.progress

    def progress(self, message):
        original(self, message)
        if message.frames_done == 12 and not source.is_symlink():
            source.unlink()
            source.symlink_to(other)

    monkeypatch.setattr(ProgressReporter, "progress", progress)

    job = work()

    assert job.state is JobState.FAILED
    assert "changed while it was being read" in job.message
    assert not target.exists()


def test_a_link_in_a_watch_folders_destination_is_not_followed(watched, work, tmp_path):
    target = watched[1]
    (tmp_path / "elsewhere").mkdir()
    target.parent.parent.mkdir(exist_ok=True)
    target.parent.symlink_to(tmp_path / "elsewhere")

    job = work()

    assert job.state is JobState.FAILED
    assert "is a link, expected a folder" in job.message
    assert list((tmp_path / "elsewhere").iterdir()) == []
