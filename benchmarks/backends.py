"""`python -m benchmarks.backends`: runs the same job on several backends in turn, and prints the speed-up of each.

Every round runs the job once on each, so that other load affects all alike. The relevant figures are the medians over
the rounds of the first backend's time over another's: wall-clock time, time of the stage that runs the model, and CPU
time (all threads of the job), which other programs affect least. Frames per second hold for this machine at this
moment.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.pipeline import write_clip
from runtime.enhance import enhance
from runtime.options import AudioMode, EnhanceOptions
from runtime.report import Report


@dataclass(slots=True)
class Way:
    """A backend and a precision, and the time of each job in seconds."""

    backend: str
    precision: str
    wall_s: list[float] = field(default_factory=list)
    engine_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)
    runs_on: str = ""

    def add(self, report: Report, processor_s: float) -> None:
        """Record a job."""
        self.wall_s.append(report.speed.wall_s)
        self.engine_s.append(sum(entry.seconds for entry in report.speed.stages if entry.stage == "engine"))
        self.processor_s.append(processor_s)
        self.runs_on = f"{report.engines[0].backend} {report.engines[0].precision}"


def parse_way(text: str) -> Way:
    """Parse `openvino:int8`."""
    backend, _, precision = text.partition(":")
    return Way(backend, precision or "fp32")


def run(clip: Path, target: Path, way: Way, *, scale: int, threads: int) -> Report:
    """Run the job once."""
    options = EnhanceOptions(
        scale=scale,  # type: ignore[arg-type]
        audio=AudioMode.OFF,
        backend=way.backend,
        precision=way.precision,
        threads=threads,
        overwrite=True,
    )
    return enhance(clip, target, options)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backends", description=__doc__)
    parser.add_argument("ways", nargs="*", type=parse_way, default=[Way("cpu", "fp32"), Way("openvino", "int8")])
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--scale", type=int, default=4, choices=(1, 2, 4))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip, target = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
        write_clip(clip, width=given.width, height=given.height, frames=given.frames)
        run(clip, target, given.ways[0], scale=given.scale, threads=given.threads)  # kernels compiled, files cached
        for _ in range(given.rounds):
            for way in given.ways:
                before = time.process_time()
                report = run(clip, target, way, scale=given.scale, threads=given.threads)
                way.add(report, time.process_time() - before)
    first = given.ways[0]
    print(f"{given.width}x{given.height} x{given.scale}, {given.frames} frames", end=", ")
    print(f"{given.rounds} rounds, {given.threads} threads")
    print(f"{'runs on':24}{'fps':>8}{'speed-up: job':>20}{'engine':>8}{'processor':>11}{'ms per frame':>18}")
    for way in given.ways:
        fps = given.frames / statistics.median(way.wall_s)
        processor_ms = 1000 * statistics.median(way.processor_s) / given.frames
        gains = (
            _ratio(first.wall_s, way.wall_s),
            _ratio(first.engine_s, way.engine_s),
            _ratio(first.processor_s, way.processor_s),
        )
        print(f"{way.runs_on:24}{fps:8.2f}{gains[0]:20.2f}{gains[1]:8.2f}{gains[2]:11.2f}{processor_ms:18.1f}")


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True) if other)


if __name__ == "__main__":
    main()
