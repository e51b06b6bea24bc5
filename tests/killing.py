"""Processes that are killed at chosen steps or at random moments: `python -m tests.killing --repeats 50`.

Jobs of three segments run one after the other. The worker, its supervisor, or both at once (a power cut, as far as
processes can tell) get SIGKILL at random moments, until a running job has been hit that many times; kills at other
moments are extra. Each job must end complete: the same packets as an uninterrupted run gives, one result, nothing else
left.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from appliance.jobs.job import JobRecord, JobState, NewJob
from appliance.jobs.queue import JobQueue
from appliance.jobs.supervisor import Supervisor
from appliance.jobs.worker import lock_path, parse_segment_frames
from appliance.jobs.worker_process import Limits, is_worker
from appliance.store.data_dir import database_path, open_data_directory, prepare_data_directory
from appliance.store.database import Database
from benchmarks.survive import read_packets
from runtime.file_lock import read_holder
from runtime.options import EnhanceOptions
from tests import media

ROOT: Final = Path(__file__).resolve().parents[1]
SCENE_FRAMES: Final = 10
SEGMENT_FRAMES: Final = f"{SCENE_FRAMES - 2}-{SCENE_FRAMES + 2}"
_TIMEOUT_S: Final = 180.0
_DEVICE: Final = "cpu"
_EARLY_SHARE: Final = 0.15
_MAX_JOBS: Final = 5


class StepCounter:
    """Count durable calls of `os`, and kill this process just before number `last`."""

    def __init__(self, names: Sequence[str], last: int | None) -> None:
        self.steps = 0
        self._last = last
        for name in names:
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.steps += 1
            if self.steps == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **options)

        return step


@dataclass(slots=True)
class Outcome:
    """The outcome: `faults` is empty if nothing was wrong; `hits` counts the kills while the job ran."""

    jobs: int = 0
    hits: int = 0
    kills: dict[str, int] = field(default_factory=lambda: {"worker": 0, "supervisor": 0, "both": 0})
    attempts: int = 0
    faults: list[str] = field(default_factory=list)


class KillTest:
    """A data directory, a supervisor that is started again and again, and the jobs in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._data, self._results = folder / "data", folder / "results"
        self._results.mkdir(parents=True)
        prepare_data_directory(self._data)
        self._random = random.Random(seed)
        self._source = write_clip(folder / "clip.mp4")
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._log = (folder / "supervisor.log").open("ab")
        self._database = Database(database_path(self._data))
        self.queue = JobQueue(self._database)
        self.outcome = Outcome()
        self._usual_s: list[float] = []

    def close(self) -> None:
        """Stop the supervisor cleanly."""
        if self._supervisor is not None:
            self._supervisor.terminate()
            self._supervisor.wait(60)
        self._database.close()
        self._log.close()

    def run(self, repeats: int, kills_each: int) -> Outcome:
        """Run two jobs undisturbed, and others until enough kills have hit a running job."""
        packets: list[Any] = []
        # The second one finds everything loaded and is much faster: kills must hit both kinds in every stage.
        for _ in range(2):
            seconds, result = self._run_undisturbed()
            self._usual_s.append(seconds)
            if result is None or (packets and read_packets(result) != packets):
                self.outcome.faults.append("the undisturbed jobs have different results")
                return self.outcome
            packets = read_packets(result)
        while self.outcome.hits < repeats and self.outcome.jobs < repeats * _MAX_JOBS:
            job = self.add(f"job {self.outcome.jobs}")
            for _ in range(kills_each):
                self._kill_at_random(job)
            self.check(job, packets)
            self.outcome.jobs += 1
        if self.outcome.hits < repeats:
            self.outcome.faults.append(f"only {self.outcome.hits} of {repeats} kills met a running job")
        return self.outcome

    def add(self, name: str) -> JobRecord:
        """Add a job with a separate folder for its result."""
        target = self._results / name / "result.mp4"
        return self.queue.add(NewJob(self._source, name, EnhanceOptions(preset="restore"), target=target))

    def finish(self, job: JobRecord) -> Path | None:
        """Wait for the end of a job; return its result if it is done."""
        self._start()
        now = self._await(job, lambda job: job.is_finished)
        self.outcome.attempts += now.attempts
        return now.result if now.state is JobState.DONE else None

    def check(self, job: JobRecord, wanted: list[Any]) -> None:
        """Wait for the end of a job, and record any difference from an uninterrupted run."""
        result = self.finish(job)
        faults = []
        if result is None:
            now = self.queue.get(job.id)
            faults.append(f"{now.state}: {now.message}")
        elif read_packets(result) != wanted:
            faults.append("the packets are not those of an uninterrupted run")
        assert job.target is not None
        found = sorted(path.name for path in job.target.parent.iterdir()) if job.target.parent.exists() else []
        if found != ["result.mp4"]:
            faults.append(f"the folder of the result holds {found}")
        if self.queue.files(job.id).workspace.exists():
            faults.append("the workspace is still there")
        if len(self.queue.list(text=job.title, states=[JobState.DONE])) != 1:
            faults.append("it is not done exactly once")
        self.outcome.faults += [f"{job.title}: {fault}" for fault in faults]

    def _run_undisturbed(self) -> tuple[float, Path | None]:
        """Run a job; return its seconds, and its result if it is done."""
        job = self.add(f"undisturbed {len(self._usual_s)}")
        self._start()
        self._await(job, lambda job: job.state is not JobState.QUEUED)
        begun = time.monotonic()
        result = self.finish(job)
        return time.monotonic() - begun, result

    def _kill_at_random(self, job: JobRecord) -> None:
        self._start()
        # Sometimes also before the job begins: while processes start and locks are taken.
        if self._random.random() > _EARLY_SHARE:
            self._await(job, lambda job: job.state is not JobState.QUEUED)
        time.sleep(self._random.uniform(0.0, self._random.choice(self._usual_s)))
        victim = self._random.choice(["worker", "supervisor", "both"])
        worker, supervisor = read_holder(lock_path(self._data, _DEVICE)), self._supervisor
        assert supervisor is not None
        self.outcome.hits += self.queue.get(job.id).state is JobState.RUNNING
        if victim != "worker":
            supervisor.kill()
        # A supervisor that checks whether the lock is free writes its own process id there too.
        if victim != "supervisor" and worker is not None and is_worker(worker, self._data):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        if victim != "worker":
            supervisor.wait()
            self._supervisor = None
        self.outcome.kills[victim] += 1

    def _start(self) -> None:
        if self._supervisor is None or self._supervisor.poll() is not None:
            self._supervisor = start_supervisor(
                self._data, "--segment-frames", SEGMENT_FRAMES, stdout=self._log, stderr=self._log
            )

    def _await(self, job: JobRecord, condition: Callable[[JobRecord], bool]) -> JobRecord:
        """Return the job once the condition holds, or in its state at the deadline."""
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            now = self.queue.get(job.id)
            if condition(now) or time.monotonic() > deadline:
                return now
            time.sleep(0.02)


def kill_at_random(folder: Path, *, repeats: int, kills_each: int = 1, seed: int = 0) -> Outcome:
    """Run the whole test in an empty folder."""
    test = KillTest(folder, seed)
    try:
        return test.run(repeats, kills_each)
    finally:
        test.close()


def start_supervisor(data: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start the supervisor of a data directory, without the web server, in a separate process."""
    command = [sys.executable, "-m", "tests.killing", "--supervise", str(data), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, **options)


def supervise(data: Path, limits: Limits, segment_frames: str) -> None:
    """Run the workers of a data directory until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    frames = parse_segment_frames(segment_frames) if segment_frames else None
    with open_data_directory(data) as data, Supervisor(data, limits=limits, segment_frames=frames) as supervisor:
        supervisor.start()
        threading.Event().wait()


def write_clip(path: Path, *, scene_frames: int = SCENE_FRAMES) -> Path:
    """Write three scenes of 64x48 at 25 fps, with a tone."""
    x, y = np.meshgrid(np.arange(64), np.arange(48))

    def draw(number: int) -> media.Pixels:
        scene = number // scene_frames
        level = (x * (3 + 5 * scene) + y * (2 + scene) + number * 3) % 128 + 127 * (scene % 2)
        return np.stack([level, np.roll(level, 9 * scene, 0), level[::-1]], -1).astype(np.uint8)

    return media.write_clip(
        path,
        map(draw, range(3 * scene_frames)),
        options={"crf": "12", "preset": "veryfast"},
        audio=media.AudioTrack(media.tone(3 * scene_frames * 1920)),
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__)
    parser.add_argument("--repeats", type=int, default=50, help="kills of a running job")
    parser.add_argument("--kills", type=int, default=1, help="most kills in each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--supervise", type=Path, metavar="DATA", help=argparse.SUPPRESS)
    parser.add_argument("--memory-bytes", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--segment-frames", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.supervise is not None:
        supervise(options.supervise, Limits(memory_bytes=options.memory_bytes), options.segment_frames)
        return 0
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="relume-killing-") as folder:
        run = Path(folder) / "run"
        outcome = kill_at_random(run, repeats=options.repeats, kills_each=options.kills, seed=options.seed)
        if outcome.faults:
            print((run / "supervisor.log").read_text(errors="replace")[-4000:], file=sys.stderr)
    kills = ", ".join(f"{count} x {victim}" for victim, count in outcome.kills.items())
    print(f"{outcome.jobs} jobs, {sum(outcome.kills.values())} kills ({kills}; {outcome.hits} while the job ran),")
    print(f"{outcome.attempts} attempts with the two undisturbed ones', {time.monotonic() - begun:.0f} s")
    print("\n".join(outcome.faults) or "every job ended complete, once, and equal to an uninterrupted run")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
