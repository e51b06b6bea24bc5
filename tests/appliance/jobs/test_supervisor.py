"""The supervisor: dead, hanging and left-over workers, and jobs that are never lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.jobs.job import JobState
from appliance.jobs.supervisor import Supervisor, list_devices
from appliance.jobs.worker_process import Limits, is_worker, read_oom_kills, visible_devices
from appliance.settings_file import load_settings
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.errors import DatabaseDamagedError
from appliance.web.server import start_background_services
from benchmarks.survive import read_packets
from runtime.options import AudioMode, EnhanceOptions
from tests.killing import start_supervisor

from .conftest import SEGMENT_FRAMES

SILENT = EnhanceOptions(preset="restore", audio=AudioMode.OFF)


@pytest.fixture
def supervise(data):
    """Start a supervisor; its workers are stopped with the test."""
    started = []

    def start(**options):
        supervisor = Supervisor(data, segment_frames=SEGMENT_FRAMES, **options)
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in started:
        supervisor.close()


def holder(supervisor, job):
    """Return the process that runs a job."""
    (status,) = supervisor.status()
    return status.pid if status.job == job.id else None


@pytest.fixture
def undisturbed(add, work, long_clip, tmp_path):
    add("undisturbed", long_clip, target=tmp_path / "undisturbed.mp4", options=SILENT)
    return read_packets(work().result)


def test_a_killed_worker_is_replaced_and_its_job_continues(add, queue, long_clip, supervise, until, undisturbed):
    job = add("long", long_clip, options=SILENT)
    supervisor = supervise()
    pid = until(lambda: queue.files(job.id).count_segments() > 3 and holder(supervisor, job))

    os.kill(pid, signal.SIGKILL)
    until(lambda: queue.get(job.id).is_finished)

    done = queue.get(job.id)
    assert (done.state, done.attempts) == (JobState.DONE, 2)
    assert read_packets(done.result) == undisturbed


def test_a_stopped_server_finishes_the_next_time(add, queue, long_clip, supervise, until):
    job = add("long", long_clip, options=SILENT)
    supervisor = supervise()
    until(lambda: queue.get(job.id).frames_done > 0)

    supervisor.close()

    assert (queue.get(job.id).state, queue.get(job.id).attempts) == (JobState.QUEUED, 0)
    supervise()
    until(lambda: queue.get(job.id).is_finished)
    assert queue.get(job.id).state is JobState.DONE


def test_a_job_for_which_the_kernel_kills_the_worker_fails_after_three_times(add, queue, long_clip, supervise, until):
    job = add("long", long_clip)
    kills = [0]
    supervisor = supervise(count_oom_kills=lambda: kills[0])

    for attempt in (1, 2, 3):
        pid = until(lambda attempt=attempt: queue.get(job.id).attempts == attempt and holder(supervisor, job))
        kills[0] += 1
        os.kill(pid, signal.SIGKILL)
        until(lambda: queue.get(job.id).state is not JobState.RUNNING)

    failed = queue.get(job.id)
    assert failed.state is JobState.FAILED
    assert failed.message.startswith(
        "the worker ended 3 times over this file: it was killed, probably because the machine ran out of memory; "
        "choose a smaller"
    )


def test_the_workers_own_lines_go_to_a_file_if_one_is_named(add, queue, tmp_path, supervise, until):
    job = add("missing", tmp_path / "missing.mp4")

    supervise(log=tmp_path / "workers.log")
    until(lambda: queue.get(job.id).is_finished)

    assert f"worker cpu: job {job.id} failed" in (tmp_path / "workers.log").read_text()


def test_a_hanging_worker_is_ended(add, queue, clip, supervise, until):
    job = add("clip", clip, options=SILENT)
    supervisor = supervise(limits=Limits(hang_timeout_s=3.0))
    os.kill(until(lambda: holder(supervisor, job)), signal.SIGSTOP)
    until(lambda: queue.get(job.id).is_finished)

    assert (queue.get(job.id).state, queue.get(job.id).attempts) == (JobState.DONE, 2)


def test_a_job_that_waits_forever_is_abandoned(add, queue, long_clip, supervise, until):
    job = add("long", long_clip)

    supervisor = supervise(limits=Limits(hang_timeout_s=2.5, max_crashes=2))
    for attempt in (1, 2):
        pid = until(lambda attempt=attempt: queue.get(job.id).attempts == attempt and holder(supervisor, job))
        os.kill(pid, signal.SIGSTOP)
    until(lambda: queue.get(job.id).is_finished)

    assert queue.get(job.id).message.startswith(
        "the worker ended 2 times over this file: it made no progress for 2.5 s and was killed"
    )


@pytest.mark.parametrize(("command", "state"), [("cancel", JobState.CANCELLED), ("pause", JobState.PAUSED)])
def test_a_worker_that_does_not_do_what_is_requested_is_ended(add, queue, long_clip, supervise, until, command, state):
    job = add("long", long_clip, options=SILENT)
    supervisor = supervise(limits=Limits(command_timeout_s=1.0))
    pid = until(lambda: queue.get(job.id).frames_done > 0 and holder(supervisor, job))

    os.kill(pid, signal.SIGSTOP)
    getattr(queue, command)(job.id)
    until(lambda: queue.get(job.id).state is state)

    after = add("missing", long_clip.with_name("missing.mp4"))
    until(lambda: queue.get(after.id).is_finished)


def test_a_worker_of_an_earlier_server_is_waited_for(add, queue, clip, start_worker, supervise, until):
    job = add("clip", clip, options=SILENT)
    old = start_worker()
    until(lambda: queue.get(job.id).state is JobState.RUNNING)

    supervisor = supervise()
    until(lambda: queue.get(job.id).is_finished)
    assert supervisor.status()[0].pid is None
    old.terminate()
    assert old.wait(30) == 0
    until(lambda: supervisor.status()[0].pid)

    assert (queue.get(job.id).state, queue.get(job.id).attempts) == (JobState.DONE, 1)


def test_a_damaged_database_is_reported_before_anything_starts(add, data, database, clip):
    add("clip", clip)
    database.close()
    (data / "relume.db").write_bytes(b"not a database " * 300)
    for name in ("relume.db-wal", "relume.db-shm"):
        (data / name).unlink(missing_ok=True)

    with pytest.raises(DatabaseDamagedError, match=r"relume\.db is damaged .* Put a backup from"):
        Supervisor(data)


def test_two_servers_do_not_share_a_data_directory(data, until):
    with start_supervisor(data) as first:
        until((data / "workers" / "cpu.lock").exists)
        with start_supervisor(data, stderr=subprocess.PIPE, text=True) as second:
            _, said = second.communicate(timeout=60)
        first.terminate()

    assert second.returncode == 1
    assert f"in use by another Relume server (process {first.pid}); stop that one" in said
    assert first.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_no_other_process_is_treated_as_a_worker(data, start_worker, until):
    worker = start_worker()

    until(lambda: is_worker(worker.pid, data))

    assert not is_worker(worker.pid, data.parent)
    assert not is_worker(os.getpid(), data)
    worker.kill()
    worker.wait()
    assert not is_worker(worker.pid, data)


def test_kills_by_the_kernel_are_counted():
    if not os.path.exists("/proc/vmstat"):
        pytest.skip("there is no /proc/vmstat here")
    assert read_oom_kills() is not None


def test_a_job_of_a_device_that_is_named_no_more_goes_back_to_the_queue(add, queue, clip, supervise, until):
    job = add("clip", clip, options=SILENT)
    assert queue.lease("gpu:7").claim().id == job.id

    supervise(devices=["cpu"])
    until(lambda: queue.get(job.id).is_finished)

    assert queue.get(job.id).state is JobState.DONE


def test_each_device_that_is_named_has_a_worker_which_sees_it_alone(supervise, until):
    supervisor = supervise(devices=["cpu", "gpu:0", "gpu:1"])
    until(lambda: all(status.pid for status in supervisor.status()))

    def seen(pid):
        rows = dict(row.split(b"=", 1) for row in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in row)
        return rows.get(b"CUDA_VISIBLE_DEVICES")

    until(lambda: all(b"jobs.worker" in Path(f"/proc/{s.pid}/cmdline").read_bytes() for s in supervisor.status()))
    assert [seen(status.pid) for status in supervisor.status()] == [b"", b"0", b"1"]


@pytest.mark.parametrize(
    ("seen", "device", "number"),
    [
        (None, "gpu", None), (None, "gpu:1", "1"), ("2,5", "gpu:1", "5"), ("GPU-8f, GPU-3a", "gpu:1", "GPU-3a"),
        ("4", "gpu:1", ""), ("2", "gpu", "2"), ("2", "cpu", ""),
    ],
)  # fmt: skip
def test_a_worker_sees_its_gpu_among_those_that_the_server_sees(monkeypatch, seen, device, number):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)

    assert (os.environ | visible_devices(device)).get("CUDA_VISIBLE_DEVICES") == number


@pytest.mark.parametrize(
    ("gpus", "usable", "devices"),
    [(0, False, ["cpu"]), (1, True, ["gpu"]), (2, True, ["gpu:0", "gpu:1"]), (2, False, ["cpu"])],
)
def test_each_of_several_gpus_gets_a_worker(monkeypatch, gpus, usable, devices):
    backends = [SimpleNamespace(available=True, on_gpu=False), SimpleNamespace(available=usable, on_gpu=True)]
    monkeypatch.setattr("runtime.engine.backends.list_backends", lambda: backends)
    monkeypatch.setattr("runtime.hardware.read_gpus", lambda: ("a GPU",) * gpus)

    assert list_devices() == devices


def test_the_threads_of_the_settings_reach_the_workers(data, settings_of, until):
    with (
        Database(database_path(data)) as database,
        start_background_services(database, settings_of(threads=3, device="cpu")) as supervisor,
    ):
        until(lambda: supervisor.status()[0].pid)
        pid = supervisor.status()[0].pid
        until(lambda: b"jobs.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")

    assert words[words.index(b"--threads") + 1] == b"3"


@pytest.fixture
def settings_of(data):
    return lambda **given: load_settings(data, announce=False, host="127.0.0.1", **given)
