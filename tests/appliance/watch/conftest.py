"""Tiny media of many kinds, a watch folder over a real database and queue, and a worker that needs no models."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from appliance.jobs.job import JobRecord, JobState
from appliance.jobs.queue import JobQueue
from appliance.store.database import Database
from appliance.watch.folder import FolderConfig, WatchFolder
from appliance.watch.ingest import FolderIngest
from appliance.watch.integrity_process import Inspector
from appliance.watch.job_tracker import RetryPolicy
from appliance.watch.store import FolderStore
from runtime.progress import Progress
from tests import media

ROOT = Path(__file__).resolve().parents[3]
SOUND_CODECS = {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame", ".ogg": "libopus", ".mka": "pcm_s16le"}


def write_video(
    path: Path,
    *,
    seed: int = 0,
    frames: int = 3,
    audio: bool = False,
    samples: int | None = None,
    container_options: dict[str, str] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a tiny video; another seed changes its content."""
    noise = np.random.default_rng(seed)
    images = [noise.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(frames)]
    samples = frames * 1920 if samples is None else samples
    return media.write_clip(
        path,
        images,
        codec="mpeg4" if path.suffix == ".avi" else codec,
        options=options,
        container_options=container_options,
        audio=make_noise(noise, samples, "aac") if audio else None,
    )


def write_audio(path: Path, *, seed: int = 0, samples: int = 4800) -> Path:
    """Write a tiny recording."""
    return media.write_audio(path, make_noise(np.random.default_rng(seed), samples, SOUND_CODECS[path.suffix]))


def make_noise(noise: np.random.Generator, samples: int, codec: str) -> media.AudioTrack:
    audio = (0.1 * noise.standard_normal((1, samples))).astype(np.float32)
    return media.AudioTrack(audio, codec, is_resampled=True)


def write_media(path: Path, *, seed: int = 0, **options: object) -> Path:
    """Write a video or a recording, depending on the suffix."""
    write = write_audio if path.suffix in SOUND_CODECS else write_video
    return write(path, seed=seed, **options)


def wait_for(what: Callable[[], object], *, timeout_s: float = 60.0, every_s: float = 0.02) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every_s)


class Clock:
    """A clock that is moved by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Box:
    """A data directory with a watch folder, and a record of events."""

    root: Path
    database: Database
    inspector: Inspector
    clock: Clock = field(default_factory=Clock)
    notified: list[tuple[str, str]] = field(default_factory=list)

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.database)

    @property
    def queue(self) -> JobQueue:
        return JobQueue(self.database)

    @property
    def inbox(self) -> Path:
        return self.root / "in"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def config(self, **changes: object) -> FolderConfig:
        return FolderConfig(**{"path": self.inbox, "destination": self.out, **changes})

    def add(self, **changes: object) -> WatchFolder:
        return self.store.add(self.config(**changes))

    def ingest(self, folder: WatchFolder, **changes: object) -> FolderIngest:
        settings = {"clock": self.clock, "retry_policy": RetryPolicy(first_s=0.0), "notify": self.notify, **changes}
        return FolderIngest(folder, self.store, self.queue, self.inspector, **settings)

    def notify(self, name: str, text: str) -> None:
        self.notified.append((name, text))

    def jobs(self, *states: JobState) -> list[JobRecord]:
        return self.queue.list(states=states or None, limit=10_000)

    def settle(self, ingest: FolderIngest, scans: int = 4) -> None:
        """Pass the hold time during a number of scans."""
        for _ in range(scans):
            ingest.scan()
            ingest.follow_jobs()
            self.clock.go(1.01 * ingest.config.hold_s / (scans - 1))

    def work(self, *, fails: Callable[[JobRecord], str | None] = lambda _: None) -> int:
        """Do all queued jobs as a worker does, except the enhancement: the result is the source's bytes plus more."""
        done = 0
        while (job := self.queue.lease("test").claim()) is not None:
            self.queue.lease("test").progress(job.id, Progress("enhancing"))
            reason = fails(job)
            if reason is not None:
                self.queue.lease("test").fail(job.id, reason)
                continue
            partial = job.target.with_name(f".{job.target.name[:40]}.partial{job.target.suffix}")
            partial.write_bytes(job.source.read_bytes() + b"enhanced")
            os.link(partial, job.target)
            partial.unlink()
            self.queue.lease("test").finish(job.id, job.target)
            done += 1
        return done


@pytest.fixture(scope="session")
def inspector() -> Iterator[Inspector]:
    with Inspector() as inspector:
        yield inspector


@pytest.fixture
def box(tmp_path: Path, inspector: Inspector) -> Iterator[Box]:
    (tmp_path / "data").mkdir()
    (tmp_path / "in").mkdir()
    with Database(tmp_path / "data/relume.db") as database:
        yield Box(tmp_path, database, inspector)


@pytest.fixture(scope="session")
def make_media() -> Callable[..., Path]:
    return write_media


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    return wait_for


@pytest.fixture
def work_on(box: Box) -> Iterator[Callable[..., None]]:
    """Start a thread that does the jobs as they arrive."""
    stop = threading.Event()
    threads = []

    def start(**options) -> None:
        def run() -> None:
            while not stop.is_set():
                box.work(**options)
                stop.wait(0.05)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="session")
def start_watch() -> Callable[..., subprocess.Popen[str]]:
    """Start `relume watch` or `relume folders` in a separate process."""
    program = (
        "from appliance import cli\n"
        "from appliance.watch.cli import folders, watch\n"
        "known = [command.callback for command in cli.app.registered_commands]\n"
        "if watch not in known:\n    cli.app.command()(watch); cli.app.add_typer(folders)\n"
        "cli.main()"
    )

    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *(str(argument) for argument in arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    return start
