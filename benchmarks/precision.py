"""`python -m benchmarks.precision [MODEL ...] --media FOLDER`: speed and quality of INT8 per backend.

Every precision of a light model takes a 320x180 frame, in turn, on `--threads` threads. The floor is the convolutions'
operations at the rate of one float32 convolution of 64 channels on the same machine; INT8 has four times as many
operations per instruction. Quality is PSNR-Y on the clips that training held out; a generated clip without `--media`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from calibration.quality import TestDegradation, make_test_clip, measure_psnr
from calibration.recording import make_sample
from calibration.speed import Point, time_in_turn, write_plot
from export.int8.convert import GATE_DB
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.openvino import OpenVinoSession, load_openvino
from runtime.engine.session import Session
from runtime.manifest import Model, Role, find_model, list_models

HEIGHT, WIDTH = 180, 320


class BfloatSession(OpenVinoSession):
    """OpenVINO with its default on a processor with bfloat16; not used by the shipped packages."""

    backend = "openvino-bf16"

    def __init__(self, path: Path, *, dimensions: Mapping[str, int], precision: str, threads: int) -> None:
        super().__init__(path, dimensions=dimensions, precision=precision, threads=threads)
        core = load_openvino().Core()
        model = core.read_model(path)
        model.reshape({binding.name: list(binding.shape) for binding in self.inputs})
        settings = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()


Opener = Callable[..., Session]
VARIANTS: dict[str, tuple[Opener, str]] = {
    "ONNX Runtime fp32": (OnnxRuntimeCpuSession, "fp32"),
    "OpenVINO f32": (OpenVinoSession, "fp32"),
    "OpenVINO bf16": (BfloatSession, "fp32"),
    "ONNX Runtime int8": (OnnxRuntimeCpuSession, "int8"),
    "OpenVINO int8": (OpenVinoSession, "int8"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One precision in one backend; `gain` is the speed-up over the fastest float32 one."""

    variant: str
    processor_ms: float
    clock_ms: float
    gain: float
    psnr_db: float


def measure(model: Model, arguments: argparse.Namespace) -> list[Row]:
    """Time and score every variant of a model."""
    spec = model.manifest.video
    assert spec is not None
    sizes = {"height": HEIGHT // spec.grid, "width": WIDTH // spec.grid}
    with ExitStack() as stack:
        sessions: dict[str, Any] = {
            name: stack.enter_context(
                opener(
                    model.file(precision=precision), dimensions=sizes, precision=precision, threads=arguments.threads
                )
            )
            for name, (opener, precision) in VARIANTS.items()
        }
        generator = np.random.default_rng(1)
        inputs = next(iter(sessions.values())).inputs
        tensors = {binding.name: generator.random(binding.shape, np.float32) for binding in inputs}
        timings = time_in_turn(sessions, tensors, repeats=arguments.repeats)
    fastest = min(timings[name].processor_ms for name, (_, precision) in VARIANTS.items() if "32" in name)
    scores = score(model, arguments)
    return [
        Row(name, timing.processor_ms, timing.clock_ms, fastest / timing.processor_ms, scores[name])
        for name, timing in timings.items()
    ]


def score(model: Model, arguments: argparse.Namespace) -> dict[str, float]:
    """Return every variant's PSNR-Y on the held-out clips."""
    with tempfile.TemporaryDirectory() as folder:
        paths = (
            [make_sample(Path(folder))]
            if arguments.media is None
            else [arguments.media / "video" / name for name in model.manifest.training.held_out]
        )
        degradation = TestDegradation(arguments.kind, arguments.noise_sigma, arguments.crf)
        clips = [
            make_test_clip(model, path, frames=arguments.frames, side=360, degradation=degradation) for path in paths
        ]

    return {
        name: measure_psnr(model, clips, _Variant(opener, precision, arguments.threads))
        for name, (opener, precision) in VARIANTS.items()
    }


@dataclass(frozen=True, slots=True)
class _Variant:
    """A `Backend` of one session class and precision."""

    opener: Opener
    precision: str
    threads: int

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session; see `runtime.engine.session.Backend`."""
        path = model.file(role=role, precision=self.precision)
        return self.opener(path, dimensions=shape, precision=self.precision, threads=self.threads)


def measure_rate(*, repeats: int = 12) -> float:
    """Return the best rate of a CPU-friendly convolution, in float32 operations per second of CPU time."""
    channels, rows, columns = 64, 96, 160
    weight = np.random.default_rng(0).random((channels, channels, 3, 3), np.float32)
    side = [helper.make_tensor_value_info(name, 1, (1, channels, rows, columns)) for name in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "rate", side[:1], side[1:], [numpy_helper.from_array(weight, "w")])
    best = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rate.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        with OnnxRuntimeCpuSession(path, dimensions={}, precision="fp32", threads=1) as session:
            x = np.ones((1, channels, rows, columns), np.float32)
            for _ in range(repeats):
                started = time.process_time()
                session.run({"x": x})
                best = min(best, time.process_time() - started)
    return 2 * weight.size * rows * columns / best


def make_table(model: Model, rows: list[Row], rate: float) -> Table:
    """Show a model's rows with the floor above them."""
    spec = model.manifest.video
    assert spec is not None
    floor_ms = spec.gflop_per_320x180_frame * 1e12 / rate
    table = Table(
        title=f"{model.manifest.name}: {spec.gflop_per_320x180_frame} GFLOP per frame, floor {floor_ms:.1f} ms in "
        f"float32 at {rate / 1e9:.0f} GFLOP/s, {floor_ms / 4:.1f} ms in int8"
    )
    for heading in ("precision", "CPU ms", "wall ms", "speed-up", "PSNR-Y dB", "vs fp32"):
        table.add_column(heading, justify="left" if heading == "precision" else "right")
    for row in rows:
        table.add_row(
            row.variant,
            f"{row.processor_ms:.1f}",
            f"{row.clock_ms:.1f}",
            f"{row.gain:.2f}",
            f"{row.psnr_db:.3f}",
            f"{row.psnr_db - rows[0].psnr_db:+.3f}",
        )
    return table


def main() -> None:
    """Measure the models that have an INT8 file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("models", nargs="*", help="models of the zoo (default: all that have int8)")
    parser.add_argument("--media", type=Path, help="folder with video/")
    parser.add_argument("--kind", choices=("bicubic", "degraded"), default="degraded")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--noise-sigma", type=float, default=10.0)
    parser.add_argument("--crf", type=int, default=23)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--output", type=Path, help="folder for a JSON and a plot of each model")
    arguments = parser.parse_args()
    having = [
        model.manifest.name for model in list_models() if any(f.precision == "int8" for f in model.manifest.files)
    ]
    rate = measure_rate()
    for name in arguments.models or having:
        model = find_model(name)
        rows = measure(model, arguments)
        Console().print(make_table(model, rows, rate))
        if arguments.output is not None:
            arguments.output.mkdir(parents=True, exist_ok=True)
            text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
            (arguments.output / f"{name}.precision.json").write_text(text, encoding="utf-8")
            points = [Point(row.variant, row.processor_ms, row.psnr_db) for row in rows]
            write_plot(arguments.output / f"{name}.precision.png", name, points, gate_db=GATE_DB)


if __name__ == "__main__":
    main()
