"""`python -m benchmarks.rvrt_cuda`: time per frame and peak memory of residual RVRT on a CUDA GPU, untiled and tiled.

PyTorch and ONNX Runtime's CUDA provider, in float32 and float16, next to the published figures for a 320x180 frame.
Each line is measured in its own process, so that memory is not shared. `--device cpu` only tests the script itself.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from export.conversion import build_network
from export.fp16.convert import find_fp32_nodes
from export.fp16.graph import rewrite_to_fp16
from export.networks import make_graphs
from export.onnx_export import export_graph
from models.registry import REGISTRY
from runtime.engine.onnxruntime import CUDA_PROVIDER, OnnxRuntimeCpuSession, OnnxRuntimeGpuSession, load_onnxruntime
from runtime.engine.session import Session

PUBLISHED = "published for 320x180: 183 ms per frame, 1056 MB (arXiv 2206.02146)"
OVERLAP = 10
"""Overlap of two tiles in pixels, as in the published tiling."""
RUNTIMES = ("torch", "onnxruntime")
PRECISIONS = ("fp32", "fp16")


@dataclass(frozen=True, slots=True)
class Case:
    """One line: runtime and precision, on frames of `size` (height, width), tiled or not (`tile` None)."""

    network: str
    device: str
    runtime: str
    precision: str
    size: tuple[int, int]
    tile: tuple[int, int] | None
    frames: int
    repeats: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds per frame, best of the repeats, and the peak memory above the initial one."""

    frame_ms: float
    peak_mb: float


def tile_corners(size: tuple[int, int], tile: tuple[int, int], *, overlap: int = OVERLAP) -> list[tuple[int, int]]:
    """Return the top left corners, y and x, of the tiles that cover a frame; the last ones touch its border."""
    sides = []
    for whole, part in zip(size, tile, strict=True):
        last = max(whole - part, 0)
        sides.append([*range(0, last, part - overlap), last])
    return list(product(*sides))


def measure(case: Case) -> Measured:
    """Run a case in this process.

    Raises:
        SessionError: ONNX Runtime has no CUDA provider.
    """
    torch.manual_seed(0)
    shape = (1, case.frames, REGISTRY.find(case.network).build().config.input_channels, *case.size)  # type: ignore[union-attr]
    clip = np.random.default_rng(0).random(shape, np.float32)
    before = _memory_mb(case)
    run, close = _open_torch(case) if case.runtime == "torch" else _open_onnxruntime(case)
    try:
        for part in _parts(case, clip):
            run(part)
            break
        best = float("inf")
        for _ in range(case.repeats):
            started = time.perf_counter()
            for part in _parts(case, clip):
                run(part)
            best = min(best, time.perf_counter() - started)
        return Measured(1000 * best / case.frames, _memory_mb(case, peak=True) - before)
    finally:
        close()


def _parts(case: Case, clip: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    height, width = case.tile or case.size
    for top, left in tile_corners(case.size, (height, width)):
        yield np.ascontiguousarray(clip[..., top : top + height, left : left + width])


Run = Callable[[NDArray[np.float32]], object]


def _open_torch(case: Case) -> tuple[Run, Callable[[], None]]:
    network = build_network(REGISTRY.find(case.network), None).to(case.device)
    kind = torch.float16 if case.precision == "fp16" else torch.float32
    network.to(kind)

    def run(part: NDArray[np.float32]) -> object:
        with torch.inference_mode():
            # The copy back waits for the device.
            return network(torch.from_numpy(part).to(case.device, kind)).float().cpu()

    return run, lambda: None


def _open_onnxruntime(case: Case) -> tuple[Run, Callable[[], None]]:
    entry = REGISTRY.find(case.network)
    network = build_network(entry, None)
    (graph,) = make_graphs(entry, network, size=case.tile or case.size, frames=case.frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "window.onnx"
        export_graph(graph, path)
        if case.precision == "fp16":
            model = onnx.load(path)
            onnx.save(rewrite_to_fp16(model, find_fp32_nodes(model)), path)
        session: Session
        if case.device == "cuda":
            session = OnnxRuntimeGpuSession(path, dimensions={}, precision=case.precision, threads=1)
        else:
            session = OnnxRuntimeCpuSession(path, dimensions={}, precision=case.precision, threads=1)
    (name,) = graph.inputs
    return lambda part: session.run({name: part}), session.close


def _memory_mb(case: Case, *, peak: bool = False) -> float:
    """Return the device memory in use, which ONNX Runtime's arena never returns; on a CPU the peak of the process."""
    if case.device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if case.runtime == "torch" and peak:
        return torch.cuda.max_memory_allocated() / 2**20
    if case.runtime == "torch":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def measure_apart(case: Case) -> Measured:
    """Run a case in its own process.

    Raises:
        RuntimeError: The process failed, after printing the reason.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(case, there))
    process.start()
    there.close()
    try:
        measured = here.recv()
    except EOFError as error:
        process.join()
        raise RuntimeError(f"{case.runtime} in {case.precision} exited with {process.exitcode}") from error
    process.join()
    assert isinstance(measured, Measured)
    return measured


def _send(case: Case, there: Connection) -> None:
    there.send(measure(case))


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rvrt_cuda", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--network", default="residual-rvrt-001")
    parser.add_argument("--size", default="320x180", help="width x height of a frame")
    parser.add_argument("--tile", default="64x64", help="width x height of a tile")
    parser.add_argument("--frames", type=int, default=10, help="frames of a window, even")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    refusal = _refusal() if options.device == "cuda" else ""
    if refusal:
        parser.exit(2, f"{refusal}\n")
    size, tile = _size(options.size), _size(options.tile)
    print(f"{options.network}, random weights, {options.frames} frames of {options.size}, on {_name(options.device)}")
    print(PUBLISHED)
    for runtime, precision, cut in product(RUNTIMES, PRECISIONS, (None, tile)):
        case = Case(
            options.network, options.device, runtime, precision, size, cut, options.frames, max(options.repeats, 1)
        )
        measured = measure_apart(case)
        how = "whole" if cut is None else f"{len(tile_corners(size, cut))} tiles of {options.tile}"
        line = f"{runtime:<12} {precision}  {how:<20} {measured.frame_ms:9.1f} ms per frame {measured.peak_mb:8.0f} MB"
        print(line, flush=True)


def _refusal() -> str:
    """Return why CUDA cannot be measured here; empty if it can."""
    if not torch.cuda.is_available():
        return (
            f"got --device cuda; torch {torch.__version__} sees no CUDA device: install a CUDA build of torch on a "
            "machine with one, or test the script with --device cpu --size 64x64"
        )
    if find_spec("onnxruntime") is None:
        return "onnxruntime is not installed; install onnxruntime-gpu"
    onnxruntime = load_onnxruntime()
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} has no CUDA provider; install onnxruntime-gpu instead"
    return ""


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else f"a CPU, {sys.platform}"


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(height), int(width)


if __name__ == "__main__":
    main()
