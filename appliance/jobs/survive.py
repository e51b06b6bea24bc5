"""`python -m appliance.jobs.survive --repeats 50`: kills processes at random moments and checks that no job suffers.

Jobs of three segments run one after the other. The worker, the server that minds it, or both at once (a power cut, as
far as processes can tell) get SIGKILL at random moments, until that has met a running job so often; kills at other
moments come on top. Each job must end complete: the same packets as an uninterrupted run gives, one result, nothing
else left.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

import appliance
from appliance.jobs.job import JobRecord, JobState, NewJob
from appliance.jobs.queue import JobQueue
from appliance.jobs.worker import lock_path
from appliance.jobs.worker_process import is_worker
from appliance.store.data_dir import database_path, prepare_data_directory
from appliance.store.database import Database
from runtime.file_lock import read_holder
from runtime.options import EnhanceOptions

SCENE_FRAMES: Final = 10
RULE: Final = f"{SCENE_FRAMES - 2}-{SCENE_FRAMES + 2}"
_SCENES: Final = 3
_SIZE: Final = (64, 48)
_RATE: Final = 25
_SAMPLE_RATE: Final = 48_000
_PATIENCE_S: Final = 180.0
_DEVICE: Final = "cpu"
_EARLY_SHARE: Final = 0.15
_MOST_JOBS: Final = 5

Packets = list[tuple[int | None, int | None, int, str]]


@dataclass(slots=True)
class Outcome:
    """What happened: `faults` is empty when everything held; `hits` are the kills while the job ran."""

    jobs: int = 0
    hits: int = 0
    kills: dict[str, int] = field(default_factory=lambda: {"worker": 0, "server": 0, "both": 0})
    attempts: int = 0
    faults: list[str] = field(default_factory=list)


class Survival:
    """A data directory, a server that is started again and again, and the jobs in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._data, self._results = folder / "data", folder / "results"
        self._results.mkdir(parents=True)
        prepare_data_directory(self._data)
        self._random = random.Random(seed)
        self._source = write_clip(folder / "clip.mp4")
        self._server: subprocess.Popen[bytes] | None = None
        self._log = (folder / "server.log").open("ab")
        self._database = Database(database_path(self._data))
        self.queue = JobQueue(self._database)
        self.outcome = Outcome()
        self._usual_s: list[float] = []

    def close(self) -> None:
        """End the server in order."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait(60)
        self._database.close()
        self._log.close()

    def run(self, repeats: int, kills_each: int) -> Outcome:
        """Run one job undisturbed, and others until so many kills have met a running job."""
        packets: Packets = []
        # The second one finds everything loaded and is much faster: a kill shall meet both kinds in all their stages.
        for _ in range(2):
            seconds, result = self._run_undisturbed()
            self._usual_s.append(seconds)
            if result is None or (packets and read_packets(result) != packets):
                self.outcome.faults.append("the undisturbed jobs did not end alike")
                return self.outcome
            packets = read_packets(result)
        while self.outcome.hits < repeats and self.outcome.jobs < repeats * _MOST_JOBS:
            job = self._add(f"job {self.outcome.jobs}")
            for _ in range(kills_each):
                self._kill_at_random(job)
            self._check(job, packets)
            self.outcome.jobs += 1
        if self.outcome.hits < repeats:
            self.outcome.faults.append(f"only {self.outcome.hits} of {repeats} kills met a running job")
        return self.outcome

    def _run_undisturbed(self) -> tuple[float, Path | None]:
        """Run a job; give its seconds, and its result where it is done."""
        job = self._add(f"undisturbed {len(self._usual_s)}")
        self._start()
        self._await(job, lambda job: job.state is not JobState.QUEUED)
        begun = time.monotonic()
        result = self._finish(job)
        return time.monotonic() - begun, result

    def _add(self, name: str) -> JobRecord:
        target = self._results / name / "result.mp4"
        return self.queue.add(NewJob(self._source, name, EnhanceOptions(preset="restore"), target=target))

    def _kill_at_random(self, job: JobRecord) -> None:
        self._start()
        # Now and then also before the job begins: while processes start, and locks are taken.
        if self._random.random() > _EARLY_SHARE:
            self._await(job, lambda job: job.state is not JobState.QUEUED)
        time.sleep(self._random.uniform(0.0, self._random.choice(self._usual_s)))
        victim = self._random.choice(["worker", "server", "both"])
        worker, server = read_holder(lock_path(self._data, _DEVICE)), self._server
        assert server is not None
        self.outcome.hits += self.queue.get(job.id).state is JobState.RUNNING
        if victim != "worker":
            server.kill()
        # A server that looks whether the lock is free writes its own id there too.
        if victim != "server" and worker is not None and is_worker(worker, self._data):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        if victim != "worker":
            server.wait()
            self._server = None
        self.outcome.kills[victim] += 1

    def _start(self) -> None:
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "appliance.jobs", "--data", str(self._data), "--rule", RULE],
                cwd=Path(appliance.__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
            )

    def _finish(self, job: JobRecord) -> Path | None:
        """Let the job end; give its result where it is done."""
        self._start()
        now = self._await(job, lambda job: job.is_finished)
        self.outcome.attempts += now.attempts
        return now.result if now.state is JobState.DONE else None

    def _await(self, job: JobRecord, condition: Callable[[JobRecord], bool]) -> JobRecord:
        """Return the job as soon as it is so, or as it is when patience ends."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            now = self.queue.get(job.id)
            if condition(now) or time.monotonic() > deadline:
                return now
            time.sleep(0.02)

    def _check(self, job: JobRecord, wanted: Packets) -> None:
        result = self._finish(job)
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


def write_clip(path: Path, *, scene_frames: int = SCENE_FRAMES) -> Path:
    """Write three short scenes with a tone."""
    x, y = np.meshgrid(np.arange(_SIZE[0]), np.arange(_SIZE[1]))
    frames = scene_frames * _SCENES
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(_RATE), options={"crf": "12", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = *_SIZE, "yuv420p"
        audio = container.add_stream("aac", rate=_SAMPLE_RATE, layout="mono")
        for number in range(frames):
            scene = number // scene_frames
            level = (x * (3 + 5 * scene) + y * (2 + scene) + number * 3) % 128 + 127 * (scene % 2)
            pixels = np.stack([level, np.roll(level, 9 * scene, 0), level[::-1]], -1).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        tone = 0.2 * np.sin(np.arange(frames * _SAMPLE_RATE // _RATE) * 2 * np.pi * 440 / _SAMPLE_RATE)
        for start in range(0, tone.size, 1024):
            block = np.ascontiguousarray(tone[None, start : start + 1024].astype(np.float32))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = _SAMPLE_RATE, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def read_packets(path: Path) -> Packets:
    """Return every packet of a file: stream order is the file's own."""
    with av.open(str(path)) as container:
        return [
            (packet.pts, packet.dts, packet.stream_index, hashlib.sha256(bytes(packet)).hexdigest())
            for packet in container.demux()
            if packet.size
        ]


def survive(folder: Path, *, repeats: int, kills_each: int = 1, seed: int = 0) -> Outcome:
    """Run the whole of it in an empty folder."""
    survival = Survival(folder, seed)
    try:
        return survival.run(repeats, kills_each)
    finally:
        survival.close()


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m appliance.jobs.survive", description=__doc__)
    parser.add_argument("--repeats", type=int, default=50, help="kills of a running job")
    parser.add_argument("--kills", type=int, default=1, help="most kills in each job")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="relume-survive-") as folder:
        outcome = survive(Path(folder) / "run", repeats=options.repeats, kills_each=options.kills, seed=options.seed)
        if outcome.faults:
            print((Path(folder) / "run" / "server.log").read_text(errors="replace")[-4000:], file=sys.stderr)
    kills = ", ".join(f"{count} x {victim}" for victim, count in outcome.kills.items())
    print(f"{outcome.jobs} jobs, {sum(outcome.kills.values())} kills ({kills}; {outcome.hits} while the job ran),")
    print(f"{outcome.attempts} attempts with the two undisturbed ones', {time.monotonic() - begun:.0f} s")
    print("\n".join(outcome.faults) or "every job ended complete, once, and equal to an uninterrupted run")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
