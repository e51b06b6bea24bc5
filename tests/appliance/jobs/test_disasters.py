"""Failures around a job: each ends in a clear state and message, and nothing is lost."""

import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import closing

import pytest

from appliance.jobs.job import JobState, WorkerOptions
from appliance.jobs.progress_reporter import ProgressReporter
from appliance.jobs.queue import JobQueue
from appliance.jobs.run_job import Attempt
from appliance.jobs.worker import lock_path
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from benchmarks.survive import read_packets
from runtime.file_lock import read_holder
from runtime.options import AudioMode, EnhanceOptions
from tests.killing import write_clip

from .conftest import SEGMENT_FRAMES

SILENT = EnhanceOptions(preset="restore", audio=AudioMode.OFF)


@pytest.fixture
def on_small_disk(tmp_path):
    """Return a command that runs another one with a small private file system mounted on a folder."""
    if shutil.which("unshare") is None:
        pytest.skip("the unshare command is missing")
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("this kernel does not allow mounts in a private namespace")

    def prefix(folder, options):
        folder.mkdir(parents=True, exist_ok=True)
        script = 'mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"'
        return ["unshare", "-Urm", "sh", "-c", script, "sh", options, str(folder)]

    return prefix


@pytest.fixture
def undisturbed(add, work, clip, tmp_path):
    add("undisturbed", clip, target=tmp_path / "undisturbed.mp4", options=SILENT)
    return read_packets(work().result)


def test_a_full_disk_at_the_target_fails_and_a_retry_needs_only_the_rest(
    add, queue, clip, tmp_path, on_small_disk, start_worker, until, work, undisturbed
):
    job = add("clip", clip, target=tmp_path / "out" / "a.mp4", options=SILENT)
    worker = start_worker(prefix=on_small_disk(tmp_path / "out", "size=4k"))
    until(lambda: queue.get(job.id).is_finished)
    worker.terminate()
    worker.wait(30)

    failed = queue.get(job.id)
    assert failed.state is JobState.FAILED
    assert "no space left in" in failed.message
    assert "free some space or choose another folder" in failed.message
    assert ".relume-" not in failed.message
    segments = queue.files(job.id).count_segments()
    assert segments >= 3

    queue.retry(job.id)
    done = work()
    assert (done.state, read_packets(done.result)) == (JobState.DONE, undisturbed)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_a_full_disk_at_the_workspace_fails_with_a_message(add, queue, clip, on_small_disk, start_worker, until):
    job = add("clip", clip, options=EnhanceOptions(preset="archive"))
    start_worker(prefix=on_small_disk(queue.files(job.id).folder, "size=64k"))

    until(lambda: queue.get(job.id).is_finished)

    failed = queue.get(job.id)
    assert failed.state is JobState.FAILED
    assert "no space left" in failed.message


def test_a_read_only_target_fails_with_a_message_and_can_be_retried(
    add, queue, clip, tmp_path, on_small_disk, start_worker, until, work
):
    job = add("clip", clip, target=tmp_path / "out" / "a.mp4", options=SILENT)
    worker = start_worker(prefix=on_small_disk(tmp_path / "out", "ro"))
    until(lambda: queue.get(job.id).is_finished)
    worker.terminate()
    worker.wait(30)

    failed = queue.get(job.id)
    assert failed.state is JobState.FAILED
    assert f"{tmp_path / 'out'} is not writable; choose another folder" in failed.message
    queue.retry(job.id)
    assert work().state is JobState.DONE


def test_a_source_that_is_removed_while_it_is_worked_on(add, work, queue, clip, clip_bytes, monkeypatch, undisturbed):
    """A restarted worker reports what is missing, and resumes once it is back."""
    job = add("clip", clip, options=SILENT)
    original, stopping = ProgressReporter.progress, threading.Event()

    def remove_at_twelve(self, message):
        original(self, message)
        if message.frames_done == 12:
            clip.unlink()
            stopping.set()
            assert self.cancel.wait(20)

    monkeypatch.setattr(ProgressReporter, "progress", remove_at_twelve)
    assert work(stopping).state is JobState.QUEUED
    monkeypatch.undo()

    failed = work()
    assert failed.state is JobState.FAILED
    assert failed.message == f"{clip} does not exist; check the name and the folder"
    assert queue.files(job.id).count_segments() > 0

    clip.write_bytes(clip_bytes)
    queue.retry(job.id)
    assert read_packets(work().result) == undisturbed


def test_a_source_that_is_removed_under_a_running_worker(add, work, queue, clip, monkeypatch, undisturbed):
    """The job keeps the file open: it is read to its end, whatever happens to its name."""
    job = add("clip", clip, options=SILENT)
    original = ProgressReporter.progress

    def remove_at_twelve(self, message):
        original(self, message)
        if message.frames_done == 12:
            clip.unlink()

    monkeypatch.setattr(ProgressReporter, "progress", remove_at_twelve)
    done = work()
    monkeypatch.undo()

    assert done.state is JobState.DONE
    assert not clip.exists()
    assert queue.files(job.id).count_segments() == 0
    assert read_packets(done.result) == undisturbed


def test_another_source_of_the_same_name_is_not_mixed_in(add, work, queue, clip, tmp_path, monkeypatch):
    job = add("clip", clip, options=SILENT)
    original, stopping = ProgressReporter.progress, threading.Event()

    def stop_at_twelve(self, message):
        original(self, message)
        if message.frames_done == 12:
            stopping.set()
            assert self.cancel.wait(20)

    monkeypatch.setattr(ProgressReporter, "progress", stop_at_twelve)
    work(stopping)
    monkeypatch.undo()
    write_clip(tmp_path / "other.mp4", scene_frames=12).replace(clip)

    done = work()

    assert (done.state, done.frames_done) == (JobState.DONE, 36)
    assert "started over" in queue.files(job.id).report.read_text()


def test_a_database_that_others_hold_delays_a_job_and_harms_nothing(add, data, clip, until, undisturbed):
    add("clip", clip, options=SILENT)
    with Database(database_path(data), busy_timeout_s=0.1) as impatient:
        queue = JobQueue(impatient)
        lease, options = queue.lease("cpu"), WorkerOptions(segment_frames=SEGMENT_FRAMES)
        job = lease.claim()
        attempt = Attempt(lease, job, stopping=threading.Event(), worker_options=options)
        thread = threading.Thread(target=attempt.run)
        with closing(sqlite3.connect(database_path(data), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            thread.start()
            # The result is complete, and waits under its hidden name to be recorded.
            until(lambda: list(queue.files(job.id).results.glob(".relume-*.mp4")))
            time.sleep(0.5)
            assert thread.is_alive()
            other.execute("ROLLBACK")
        thread.join(30)
        now = queue.get(job.id)
        if now.state is JobState.QUEUED:
            assert now.attempts == 0
            Attempt(lease, lease.claim(), stopping=threading.Event(), worker_options=options).run()

        done = queue.get(job.id)
        assert (done.state, done.attempts) == (JobState.DONE, 1)
        assert read_packets(done.result) == undisturbed
        assert list(queue.files(job.id).results.iterdir()) == [done.result]


def test_a_worker_waits_for_a_database_that_others_hold(add, data, queue, clip, start_worker, until):
    job = add("clip", clip, options=SILENT)
    with closing(sqlite3.connect(database_path(data), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        worker = start_worker()
        until(lambda: read_holder(lock_path(data, "cpu")) == worker.pid)
        time.sleep(0.5)
        assert worker.poll() is None
        assert queue.get(job.id).state is JobState.QUEUED
        other.execute("ROLLBACK")

    until(lambda: queue.get(job.id).is_finished)
    assert queue.get(job.id).state is JobState.DONE
