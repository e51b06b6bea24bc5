"""`python -m benchmarks.pipeline`: speed of a whole job, compared with the machine's limits.

The floor is measured first: the convolutions' operations of one frame at the rate of a matrix product on the same cores
in the same run, and the bytes that a frame moves through each stage at the rate of a copy. The job itself is a real
one, from an H.264 file to an H.264 file. Shared machines vary, so compare the ratio to the floor, not the seconds.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from runtime.enhance import enhance
from runtime.manifest import find_model
from runtime.options import AudioMode, EnhanceOptions
from runtime.presets import PRESETS
from runtime.report import Report

RATE = Fraction(30)


def write_clip(path: Path, *, width: int, height: int, frames: int) -> None:
    """Write a panning textured image as H.264."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (height // 8 + 8, (width + 3 * frames) // 8 + 8, 3))
    wide = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            window = np.ascontiguousarray(wide[:height, 3 * index : 3 * index + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
        container.mux(stream.encode(None))


def measure_rates() -> tuple[float, float]:
    """Return this machine's current matrix-product rate (GFLOP/s, float32, all cores) and copy rate (GB/s)."""
    size = 2048
    one = np.random.default_rng(2).random((size, size), np.float32)
    block = np.zeros(64 << 20, np.uint8)
    product = _best_seconds(lambda: one @ one)
    copied = _best_seconds(block.copy)
    return 2 * size**3 / product / 1e9, 2 * block.nbytes / copied / 1e9


def floor_seconds(name: str, *, width: int, height: int, gflop_rate: float, copy_rate: float) -> tuple[float, float]:
    """Return the lower bound of one frame's seconds, from its operations and from its bytes (frame, state, result)."""
    video = find_model(name).manifest.video
    assert video is not None
    pixels = width * height
    state = sum(
        spec.shape[1]
        for spec in find_model(name).manifest.inputs
        if spec.name in {"hidden", "previous"} and isinstance(spec.shape[1], int)
    )
    floats = 3 * pixels + 2 * 2 * state * pixels / video.grid**2 + 2 * 3 * pixels * video.scale**2
    operations = video.gflop_per_320x180_frame * pixels / (320 * 180)
    return operations / gflop_rate, 4 * floats / copy_rate / 1e9


def _best_seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def run(clip: Path, scale: int, folder: Path) -> tuple[Report, float]:
    """Enhance a clip; return its report and the CPU time of this process in seconds, all threads."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    options = EnhanceOptions(scale=scale, audio=AudioMode.OFF, overwrite=True)  # type: ignore[arg-type]
    report = enhance(clip, folder / "out.mp4", options)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return report, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--scale", type=int, default=4, choices=(1, 2, 4))
    parser.add_argument("--frames", type=int, default=150)
    arguments = parser.parse_args()
    size = {"width": arguments.width, "height": arguments.height}
    name = PRESETS["upscale"].models[arguments.scale]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "in.mp4"
        write_clip(clip, **size, frames=arguments.frames)
        run(clip, arguments.scale, Path(folder))  # kernels compiled, files cached
        gflop_rate, copy_rate = measure_rates()
        report, cpu_s = run(clip, arguments.scale, Path(folder))
    operations_s, bytes_s = floor_seconds(name, **size, gflop_rate=gflop_rate, copy_rate=copy_rate)
    frame_s = report.speed.wall_s / arguments.frames
    print(f"{name}, {arguments.width}x{arguments.height} x{arguments.scale}, {os.cpu_count()} cores")
    print(f"machine now     {gflop_rate:8.0f} GFLOP/s product, {copy_rate:.1f} GB/s copy")
    print(f"floor           {1e3 * operations_s:8.1f} ms of operations, {1e3 * bytes_s:.1f} ms of bytes per frame")
    ratio = frame_s / operations_s
    print(f"whole job       {1e3 * frame_s:8.1f} ms per frame, {1 / frame_s:.1f} fps: {ratio:.1f} x the floor")
    print(f"processor       {1e3 * cpu_s / arguments.frames:8.1f} ms per frame, all threads")
    for stage in report.speed.stages:
        print(f"  {stage.stage:12}{1e3 * stage.seconds / arguments.frames:10.1f} ms per frame")
    print(f"memory          {report.speed.peak_memory_bytes / 1e6:8.0f} MB peak")


if __name__ == "__main__":
    main()
