"""A queue in a data directory, small clips, and jobs run in this process."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import pytest

from appliance.jobs.job import JobRecord, NewJob, WorkerOptions
from appliance.jobs.queue import JobQueue
from appliance.jobs.run_job import Attempt
from appliance.store.data_dir import database_path, prepare_data_directory
from appliance.store.database import Database
from runtime.options import EnhanceOptions
from runtime.resume.writer import SegmentRule
from tests.killing import write_clip

SEGMENT_FRAMES = (8, 12)
RULE = SegmentRule(*SEGMENT_FRAMES)

T = TypeVar("T")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    prepare_data_directory(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def database(data):
    with Database(database_path(data)) as database:
        yield database


@pytest.fixture
def queue(database) -> JobQueue:
    return JobQueue(database)


@pytest.fixture(scope="session")
def clip_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Three scenes of ten frames at 64x48, with a tone."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()


@pytest.fixture
def clip(tmp_path: Path, clip_bytes: bytes) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip_bytes)
    return path


@pytest.fixture
def write_noise(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of noise."""

    def write(name: str, *, seconds: int = 1) -> Path:
        rng = np.random.default_rng(1)
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=48000, layout="mono")
            block = rng.normal(0, 3000, (1, 48000 * seconds)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return tmp_path / name

    return write


@pytest.fixture
def add(queue: JobQueue, tmp_path: Path) -> Callable[..., JobRecord]:
    """Add a job; without a source it is never run."""

    def add_job(title: str = "clip.mp4", source: Path | None = None, **fields: object) -> JobRecord:
        options = fields.pop("options", EnhanceOptions(preset="restore"))
        return queue.add(NewJob(source or tmp_path / title, title, options, **fields))

    return add_job


@pytest.fixture
def work(queue: JobQueue) -> Callable[..., JobRecord]:
    """Claim the next job and run it to its end in this process."""

    def run(stopping: threading.Event | None = None) -> JobRecord:
        lease = queue.lease("cpu")
        job = lease.claim()
        assert job is not None
        options = WorkerOptions(segment_frames=SEGMENT_FRAMES)
        Attempt(lease, job, stopping=stopping or threading.Event(), worker_options=options).run()
        return queue.get(job.id)

    return run


ROOT = Path(__file__).resolve().parents[3]


def wait_until(condition: Callable[[], T], *, seconds: float = 120) -> T:
    """Wait for another process, and return what the condition found."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def until() -> Callable[..., object]:
    return wait_until


@pytest.fixture(scope="session")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of work: an idle machine must not finish it between a check and a kill."""
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", scene_frames=100)


@pytest.fixture
def start_worker(data: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a worker on its own; `prefix` is a command that runs it."""
    started = []

    def start(*arguments: object, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "appliance.jobs.worker", "--data", str(data), "--segment-frames", "8-12"]
        with (tmp_path / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *command, *(str(argument) for argument in arguments)], cwd=ROOT, stdout=log, stderr=log
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
