"""`python -m benchmarks.survive`: kills real jobs with `kill -9` at random moments, and checks that nothing is lost.

A job of three segments (one boundary at a scene cut, one in the middle of a scene) and a speech track first runs
undisturbed. Then it runs repeatedly in its own process, which is killed at a random moment (each of `--repeats` equal
parts of its duration is hit once; every fourth moment is after the last frame, where the result is merged, verified,
published and the workspace cleared), and restarted until it finishes, possibly killed once more. Each time the segments
must have the same bytes, the result the same packets, and no file may be left over.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from runtime.enhance import enhance
from runtime.options import EnhanceOptions
from runtime.resume.workspace import Workspace
from runtime.resume.writer import SegmentRule

RULE = SegmentRule(6, 12)
OPTIONS = EnhanceOptions(preset="upscale", scale=4, threads=2)
SCENES = (12, 24)
WIDTH, HEIGHT, RATE = 96, 64, 16_000
_MOST_KILLS = 4
_MANIFEST = Path("work/segments/manifest.json")


@dataclass(slots=True)
class Summary:
    """The outcome of the kills; `moments` counts them by the state of the workspace, `problems` must stay empty."""

    repeats: int
    kills: int = 0
    attempts: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Alone:
    """The undisturbed job: its duration, and the time until its last frame was durable."""

    seconds: float
    video_s: float
    digests: dict[str, str]
    packets: list[tuple[Any, ...]]


def write_clip(path: Path) -> None:
    """Write two moving scenes, and noisy audio."""
    rng = np.random.default_rng(7)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for length in SCENES:
            scene = np.kron(rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8 + 8, 3)), np.ones((8, 8, 1)))
            for step in range(length):
                image = np.ascontiguousarray(scene[:, step : step + WIDTH]).astype(np.uint8)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        samples = rng.normal(0, 0.05, (1, RATE * sum(SCENES) // 25)).astype(np.float32)
        for start in range(0, samples.shape[1], 1024):
            block = np.ascontiguousarray(samples[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def work(source: Path, folder: Path) -> None:
    """Run one attempt in this process; the digests of its segments are recorded before the workspace is cleared."""
    clear = Workspace.clear

    def note(workspace: Workspace) -> None:
        path = folder / "digests.json"
        if not path.exists():
            found = {
                file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in workspace.folder.glob("*.packets")
            }
            partial = folder / "digests.part"
            partial.write_text(json.dumps(found))
            partial.replace(path)
        clear(workspace)

    Workspace.clear = note  # type: ignore[method-assign]
    print("ready", flush=True)
    enhance(source, folder / "out.mp4", OPTIONS, workspace=folder / "work", rule=RULE)


def start(source: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start an attempt and wait until its imports are done."""
    command = [sys.executable, "-m", "benchmarks.survive", "--work", str(source), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError("an attempt did not start")
    return process


def read_packets(path: Path) -> list[tuple[Any, ...]]:
    """Return every packet of a result."""
    with av.open(str(path)) as container:
        return [
            (p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, hashlib.sha256(bytes(p)).hexdigest())
            for p in container.demux()
            if p.size
        ]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the workspace."""
    try:
        found: dict[str, Any] = json.loads((folder / _MANIFEST).read_text())
    except FileNotFoundError:
        return {}
    return found


def run_alone(source: Path, folder: Path) -> Alone:
    """Run the job without a kill."""
    folder.mkdir()
    video_s = 0.0
    process, begun = start(source, folder), time.perf_counter()
    while process.poll() is None:
        if not video_s and read_manifest(folder).get("picture"):
            video_s = time.perf_counter() - begun
        time.sleep(0.002)
    seconds = time.perf_counter() - begun
    _finish(process)
    digests = json.loads((folder / "digests.json").read_text())
    if len([name for name in digests if name.startswith("segment")]) != 3:
        raise RuntimeError(f"the job has the files {sorted(digests)}, expected three segments")
    return Alone(seconds, video_s or seconds, digests, read_packets(folder / "out.mp4"))


def kill_after(process: subprocess.Popen[bytes], folder: Path, delay_s: float, *, at_end: bool) -> bool:
    """Kill an attempt a time after its start (or after its last frame); return False if it ended before."""
    begun = time.perf_counter()
    while at_end and process.poll() is None and not read_manifest(folder).get("picture"):
        time.sleep(0.001)
        begun = time.perf_counter()
    while process.poll() is None and time.perf_counter() - begun < delay_s:
        time.sleep(0.0005)
    killed = process.poll() is None
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    if not killed and process.returncode:
        raise RuntimeError(f"an attempt failed with {process.returncode}")
    return killed


def describe_moment(folder: Path) -> str:
    """Describe the state that a killed attempt left."""
    manifest = read_manifest(folder)
    if (folder / "out.mp4").exists():
        return "published"
    if manifest.get("result"):
        return "checked"
    if manifest.get("picture"):
        return "merging" if list(folder.glob(".out.*")) else "video complete"
    if not manifest.get("sounds"):
        return "sound" if manifest else "nothing"
    return f"{len(manifest['segments'])} segments"


def survive(
    source: Path, folder: Path, alone: Alone, delay_s: float, *, at_end: bool, chance: random.Random
) -> Summary:
    """Kill a job at a moment, possibly several times, let it finish, and compare it."""
    one = Summary(1)
    folder.mkdir()
    while True:
        one.attempts += 1
        process = start(source, folder)
        if one.kills and (one.kills >= _MOST_KILLS or chance.random() < 0.5):
            _finish(process)
            break
        if not kill_after(process, folder, delay_s, at_end=at_end):
            break
        one.kills += 1
        one.moments[describe_moment(folder)] += 1
        delay_s, at_end = chance.uniform(0, alone.seconds), False
    name = folder.name
    if json.loads((folder / "digests.json").read_text()) != alone.digests:
        one.problems.append(f"{name}: segments differ")
    if read_packets(folder / "out.mp4") != alone.packets:
        one.problems.append(f"{name}: packets differ")
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if left != ["digests.json", "out.mp4", str(_MANIFEST)]:
        one.problems.append(f"{name}: left over {left}")
    return one


def measure(repeats: int, seed: int, folder: Path) -> tuple[Alone, Summary]:
    """Run the job undisturbed, then kill it at least `repeats` times."""
    chance, summary = random.Random(seed), Summary(repeats)
    source = folder / "in.mp4"
    write_clip(source)
    run_alone(source, folder / "first")  # kernels compiled, files cached
    alone = run_alone(source, folder / "alone")
    number = part = 0
    while part < repeats:
        at_end = part % 4 == 3
        share = (part + chance.random()) / repeats
        delay_s = chance.random() * (alone.seconds - alone.video_s) if at_end else share * alone.seconds
        one = survive(source, folder / f"{number:03d}", alone, delay_s, at_end=at_end, chance=chance)
        number += 1
        part += one.kills > 0  # a job that ended before its moment is repeated with another one
        summary.kills += one.kills
        summary.attempts += one.attempts
        summary.moments += one.moments
        summary.problems += one.problems
    return alone, summary


def _finish(process: subprocess.Popen[bytes]) -> None:
    process.communicate()
    if process.returncode:
        raise RuntimeError(f"an attempt failed with {process.returncode}")


def main() -> None:
    """Measure and print; the exit status is 1 if anything was lost, left over or different."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survive", description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, nargs=2, metavar=("SOURCE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(*arguments.work)
        return
    with tempfile.TemporaryDirectory() as folder:
        alone, summary = measure(arguments.repeats, arguments.seed, Path(folder))
    printed = {
        "repeats": summary.repeats,
        "kills": summary.kills,
        "attempts": summary.attempts,
        "killed_when_the_workspace_held": dict(summary.moments.most_common()),
        "seconds_alone": round(alone.seconds, 2),
        "seconds_after_the_last_frame": round(alone.seconds - alone.video_s, 2),
        "segments_and_packets_equal": not any("differ" in problem for problem in summary.problems),
        "problems": summary.problems,
    }
    print(json.dumps(printed, indent=2))
    sys.exit(1 if summary.problems else 0)


if __name__ == "__main__":
    main()
