"""The worker as a process: how it ends, and what happens to its job."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from appliance.jobs import worker
from appliance.jobs.job import JobState, WorkerOptions
from appliance.jobs.worker import LOCK_HELD, OUT_OF_MEMORY, _run_jobs, lock_path
from runtime.file_lock import FileLock, read_holder
from runtime.options import AudioMode, EnhanceOptions

SILENT = EnhanceOptions(preset="restore", audio=AudioMode.OFF)


def is_at_work(queue, job):
    return lambda: queue.get(job.id).frames_done > 0


def test_a_worker_runs_the_queue_and_returns_its_job_on_sigterm(add, queue, clip, long_clip, start_worker, until):
    first, second = add("first", clip, options=SILENT), add("second", long_clip, options=SILENT)
    process = start_worker()
    until(lambda: queue.get(first.id).is_finished)
    until(is_at_work(queue, second))

    process.send_signal(signal.SIGTERM)

    assert process.wait(30) == 0
    assert queue.get(first.id).state is JobState.DONE
    assert (queue.get(second.id).state, queue.get(second.id).attempts) == (JobState.QUEUED, 0)
    assert "is done" in queue.files(first.id).log.read_text()


def test_a_worker_ends_with_its_server(add, data, queue, long_clip, until):
    job = add("long", long_clip, options=SILENT)
    program = (
        "import os, subprocess, sys\n"
        f"subprocess.Popen([sys.executable, '-m', 'appliance.jobs.worker', '--data', {str(data)!r}, "
        "'--parent', str(os.getpid())], start_new_session=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        until(is_at_work(queue, job))
        server.send_signal(signal.SIGKILL)
        server.stdin.close()

        def lock_is_free():
            lock = FileLock.try_exclusive(lock_path(data, "cpu"), write_pid=True)
            if lock is not None:
                lock.close()
            return lock is not None

        until(lock_is_free, seconds=20)
    assert queue.get(job.id).state is JobState.QUEUED


def test_a_worker_whose_server_has_gone_already_takes_nothing(add, queue, clip, start_worker):
    job = add("clip", clip)

    assert start_worker("--parent", 1).wait(30) == 0
    assert queue.get(job.id).state is JobState.QUEUED


def test_a_second_worker_of_a_device_takes_nothing(add, data, queue, clip, start_worker):
    job = add("clip", clip)
    with FileLock.try_exclusive(lock_path(data, "cpu"), write_pid=True):
        assert start_worker().wait(30) == LOCK_HELD

    assert queue.get(job.id).state is JobState.QUEUED


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on data is Linux's")
def test_a_worker_that_may_not_take_enough_memory_is_reported(add, queue, clip, start_worker):
    job = add("clip", clip, options=EnhanceOptions(preset="upscale"))

    assert start_worker("--memory-bytes", 240_000_000).wait(60) == 0

    failed = queue.get(job.id)
    assert failed.state is JobState.FAILED
    assert failed.message.startswith("there is not enough memory for this job; choose a smaller size")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit on data is Linux's")
@pytest.mark.parametrize("megabytes", [245, 270, 285, 300, 315, 330])
def test_a_worker_that_runs_out_of_memory_anywhere_ends_its_job_in_time(add, queue, clip, start_worker, megabytes):
    """Libraries that load, stages, engine and encoder meet the limit: at each of them the job once hung or crashed."""
    job = add("clip", clip, options=EnhanceOptions(preset="restore"))

    process = start_worker("--memory-bytes", megabytes * 1_000_000)
    try:
        assert process.wait(120) in (0, OUT_OF_MEMORY)
    finally:
        process.kill()

    ended = queue.get(job.id)
    assert ended.state in (JobState.FAILED, JobState.DONE)
    if ended.state is JobState.FAILED:
        assert ended.message.startswith("there is not enough memory for this job")


def test_a_worker_ends_a_while_after_its_last_job_to_give_its_memory_back(add, queue, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_IDLE_AFTER_JOB_S", 0.0)
    jobs = [add("missing", tmp_path / "missing.mp4") for _ in range(2)]

    _run_jobs(queue.lease("cpu"), threading.Event(), WorkerOptions())

    assert [queue.get(job.id).state for job in jobs] == [JobState.FAILED, JobState.FAILED]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_an_idle_worker_does_next_to_nothing(data, queue, start_worker, until):
    folder = Path("/proc") / str(start_worker().pid)
    until(lambda: read_holder(lock_path(data, "cpu")) == int(folder.name))
    time.sleep(1.0)
    begun, used_s = time.monotonic(), processor_time(folder)
    time.sleep(2.0)

    assert (processor_time(folder) - used_s) / (time.monotonic() - begun) < 0.02
    assert int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 120_000_000
    assert queue.revision() == 0


def processor_time(folder):
    user, system = (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
