"""`python -m benchmarks pipeline`: what a frame costs beside its network and its encoder.

The network takes no time here: its session copies the frame to the output and leaves the states as they are. All else
is as in a job, from an H.264 file to planes for the encoder. Also: how the cost grows with the pixels and with the
length of the clip, and what is saved where most of a frame stands still.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.measure import Row
from benchmarks.pipeline import write_clip
from kernels.colour import YuvLayout
from runtime.closing import Closing
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.session import Array, Session
from runtime.manifest import Model, Role, VideoSpec, find_model
from runtime.media.pixel_formats import YuvFrame
from runtime.media.probe import probe
from runtime.media.video_reader import VideoReader
from runtime.stages import StageClock, StopSignal
from runtime.video.pipeline import VideoPipeline
from runtime.video.tile_plan import plan_canvas

_MODEL = "light-restore"


class IdentitySession(Closing):
    """A network that gives the frame back, in no more time than a copy of it."""

    backend, precision = "identity", "fp32"

    def __init__(self, model: Model, role: Role, shape: Mapping[str, int]) -> None:
        with OnnxRuntimeCpuSession(model.file(role=role), dimensions=shape, precision="fp32", threads=1) as session:
            self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Copy the frame; see `Session.run`."""
        results = dict(out) if out is not None else {one.name: np.zeros(one.shape, one.dtype) for one in self.outputs}
        np.copyto(results["output"], tensors["frame"])
        return results

    def close(self) -> None:
        """Do nothing."""


class IdentityBackend:
    """Opens identity sessions."""

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session; see `Backend.open`."""
        return IdentitySession(model, role, shape)


class NoEncoder:
    """Accepts frames and discards them."""

    def encode(self, picture: YuvFrame) -> Iterable[object]:
        """Drop a frame."""
        del picture
        return ()

    def flush(self) -> Iterable[object]:
        """Return nothing."""
        return ()


def run_pipeline(clip: Path, spec: VideoSpec, *, threads: int) -> tuple[float, float, dict[str, float]]:
    """Return the milliseconds of a frame by the clock and by the processor, and those of each stage."""
    stream = probe(clip).videos[0]
    clock, count = StageClock(), 0

    def count_frame(done: int) -> None:
        nonlocal count
        count = done

    with VideoReader(clip, stream, threads=threads) as reader:
        layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=8, chroma="420")
        canvas = plan_canvas(reader.height, reader.width, spec, any_shape=True, most_pixels=600_000)
        pipeline: VideoPipeline[object] = VideoPipeline(
            reader,
            NoEncoder(),
            model=find_model(_MODEL),
            backend=IdentityBackend(),
            canvas=canvas,
            strength=1.0,
            layout_in=layout,
            layout_out=layout,
            clock=clock,
            stop=StopSignal(),
            on_frame=count_frame,
            threads=threads,
        )
        with pipeline:
            wall, processor = time.perf_counter(), time.process_time()
            for _ in pipeline.packets():
                pass
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
    stages = {name: 1e3 * seconds / count for name, seconds in clock.seconds.items()}
    return 1e3 * wall / count, 1e3 * processor / count, stages


def measure() -> Iterator[Row]:
    """Measure at every size."""
    threads = len(os.sched_getaffinity(0))
    spec = find_model(_MODEL).manifest.video
    assert spec is not None
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "in.mp4"
        first = None
        for height, width in ((180, 320), (360, 640), (720, 1280), (1080, 1920), (2160, 3840)):
            frames = 30 if height < 2160 else 12
            write_clip(clip, width=width, height=height, frames=frames)
            if first is None:
                run_pipeline(clip, spec, threads=threads)  # kernels are compiled
            wall, processor, stages = run_pipeline(clip, spec, threads=threads)
            per_megapixel = 1e6 * processor / (height * width)
            first = first or per_megapixel
            note = ", ".join(f"{name} {ms:.1f}" for name, ms in stages.items())
            yield Row(f"{width}x{height}, by the clock, {threads} threads", wall, note=note)
            yield Row(
                f"{width}x{height}, by the processor",
                processor,
                note=f"{per_megapixel:.1f} ms a megapixel, {per_megapixel / first:.2f} of the smallest size's",
            )
        for frames in (20, 80, 240):
            write_clip(clip, width=640, height=360, frames=frames)
            _, processor, _ = run_pipeline(clip, spec, threads=threads)
            yield Row(f"640x360, by the processor, {frames} frames", processor)
