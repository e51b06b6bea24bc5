"""Frames that stay on a GPU, emulated on a CPU: the pipeline gives what it gives on the CPU, with few transfers.

The network is a plain formula; everything else is the product's own: decoder, stages, kernels (emulated), encoder.
"""

import gc
import logging
import sys
import threading
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from kernels.colour import YuvLayout
from kernels.errors import CompileError
from runtime.engine.choose import ModelBackend
from runtime.engine.device import EngineType
from runtime.engine.session import Binding, DeviceTensors
from runtime.engine.tensorrt import TensorRtSession
from runtime.enhance import enhance as enhance_file
from runtime.errors import CancelledError, SessionError
from runtime.manifest import Model, find_model
from runtime.media.muxer import open_scratch
from runtime.media.pixel_formats import YuvFrame
from runtime.media.probe import probe
from runtime.media.side_data import SideEntry
from runtime.media.video_encoder import EncodeSettings, VideoEncoder
from runtime.media.video_reader import VideoReader
from runtime.options import EnhanceOptions
from runtime.resume.writer import SegmentRule
from runtime.stages import StageClock, StopSignal
from runtime.video.pipeline import ResumePoint, VideoPipeline
from runtime.video.resident import ResidentRunner
from runtime.video.tile_plan import plan_canvas
from tests import media
from tests.fake_cupy import Event, FakeCupy, FakeKernel, FakeStream

HEIGHT, WIDTH, SCENES = 70, 92, (5, 4)
FRAMES = sum(SCENES)
HIDDEN = 4
TIME_BASE = Fraction(1, 1000)
LAYOUT = YuvLayout(0.2126, 0.0722, False, 8, "420")
FLASH, RED = (255, 255, 255), (255, 0, 0)
"""What makes the network fail: with a state, and always."""


def run_network(tensors, *, scale, xp=np):
    """Return what the network makes of a frame on a grid of 2, a state and the strength; arrays of NumPy or CuPy."""
    frame, hidden, previous = (tensors[name][0].astype(np.float32) for name in ("frame", "hidden", "previous"))
    mean = frame.reshape(3, frame.shape[1] // 2, 2, frame.shape[2] // 2, 2).mean((2, 4))
    detail = xp.repeat(xp.repeat(0.1 * (hidden[:3] + mean - previous), 2, 1), 2, 2)
    output = frame + tensors["strength"].astype(np.float32) * detail
    if "degradation" in tensors:
        output = output + 0.05 * tensors["degradation"].astype(np.float32).mean()
    output = xp.repeat(xp.repeat(output, scale, 1), scale, 2)
    following = 0.5 * hidden + 0.5 * xp.concatenate([mean, mean[:1]])
    fails_with_state, fails = frame[1].max() > 0.97, (frame[0] - frame[1]).max() > 0.8
    output[:, 0, 0] += xp.where(fails | (fails_with_state & hidden.any()), xp.float32(np.nan), xp.float32(0))
    return {"output": output[None], "hidden_out": following[None], "previous_out": mean[None]}


class StandIn:
    """A session whose network is the formula; with `cupy` its tensors lie on that GPU."""

    backend, precision = "stand-in", "fp32"

    def __init__(self, model, shape, *, cupy=None, dtype=np.float32):
        rows, columns, scale = shape["height"], shape["width"], model.manifest.video.scale
        names = {one.name for one in model.manifest.inputs}
        kinds = [("frame", (1, 3, 2 * rows, 2 * columns)), ("strength", (1,)), ("degradation", (1, 8)),
                 ("hidden", (1, HIDDEN, rows, columns)), ("previous", (1, 3, rows, columns))]  # fmt: skip
        self.inputs = tuple(Binding(name, np.dtype(dtype), size) for name, size in kinds if name in names)
        made = [("output", (1, 3, 2 * scale * rows, 2 * scale * columns))]
        made += [(f"{name}_out", size) for name, size in kinds[3:]]
        self.outputs = tuple(Binding(name, np.dtype(dtype), size) for name, size in made)
        self.scale, self.runs, self.closed = scale, 0, False
        self.device_tensors = None
        if cupy is not None:
            arrays = [{one.name: cupy.empty(one.shape, dtype) for one in ones} for ones in (self.inputs, self.outputs)]
            self.cupy, self.device_tensors = cupy, DeviceTensors(*arrays, self.enqueue)

    def run(self, tensors, out):
        assert self.device_tensors is None, "tensors on a GPU are not copied tile by tile"
        return run_beside_the_gpu(self, tensors, out)

    def enqueue(self, stream):
        self.runs += 1
        if not hasattr(self.cupy, "enqueue"):  # a real one
            for name, array in run_network(self.device_tensors.inputs, scale=self.scale, xp=self.cupy).items():
                self.device_tensors.outputs[name][...] = array
            return
        given, made = (
            {name: self.cupy.at(array.data.ptr) for name, array in arrays.items()}
            for arrays in (self.device_tensors.inputs, self.device_tensors.outputs)
        )

        def work():
            for name, array in run_network(given, scale=self.scale).items():
                made[name][...] = array

        self.cupy.enqueue("engine", work, stream)

    def close(self):
        self.closed, self.device_tensors = True, None


def run_beside_the_gpu(session, tensors, out):
    session.runs += 1
    for name, array in run_network(tensors, scale=session.scale).items():
        out[name][...] = array
    return out


@dataclass
class StandInBackend:
    """Opens the stand-in session, and remembers it."""

    fields: dict = field(default_factory=dict)

    def open(self, model, role, shape):
        assert role == "step"
        self.session = StandIn(model, shape, **self.fields)
        return self.session


class Segments:
    """Divides at every scene cut, and after five frames; notes what it was given."""

    def __init__(self, begun=0):
        self.begun, self.kept, self.ended = begun, {}, []

    def starts_segment(self, index, *, is_cut):
        if index == self.begun or not (is_cut or index - self.begun >= 3):
            return False
        self.begun = index
        return True

    def keep_state(self, join, states):
        self.kept[join.index] = (join, {name: array.copy() for name, array in states.items()})

    def end_segment(self, join, passed):
        self.ended.append((join.index, join.is_cut, passed.scene_cuts[:1], passed.reruns))


class Recorder:
    """A real encoder; what came to it is kept."""

    def __init__(self, scale, layout):
        size, times = (WIDTH * scale, HEIGHT * scale), (TIME_BASE, Fraction(25))
        settings = EncodeSettings("h264", *size, *times, layout.bit_depth, layout.chroma)
        self.encoder = VideoEncoder(open_scratch(".mp4"), settings)
        self.frames = []

    def encode(self, frame):
        self.frames.append(replace(frame, planes=tuple(plane.copy() for plane in frame.planes)))
        return self.encoder.encode(frame)

    def flush(self):
        return self.encoder.flush()


def write_clip(path, spots=(), pixel_format="yuv420p"):
    """Write two scenes that pan, without loss, with times that are not regular; `spots` are (frame, row, colour)."""
    random = np.random.default_rng(5)
    frames = []
    for length in SCENES:
        scene = media.blocks(random, HEIGHT // 8 + 1, WIDTH // 8 + 3, low=30, high=200)[:HEIGHT]
        frames += [pixels.copy() for pixels in media.pan(scene, length, WIDTH)]
    for index, row, colour in spots:
        frames[index][row : row + 4, 10:14] = colour
    times = [40 * index + index % 3 for index in range(FRAMES)]
    return media.write_clip(
        path, frames, codec="ffv1", pixel_format=pixel_format, times_ms=times, colour=(1, 1), is_converted=True
    )


def make_model(*, scale=1, tile=(20, 28), inputs=(), **video):
    """Return a recurrent model of the formula's form; its files are never read."""
    shipped = find_model("light-restore")
    spec = {"scale": scale, "halo": 3, "tile_shapes": (tile,), **video}
    given = [*shipped.manifest.inputs, *(SimpleNamespace(name=name) for name in inputs)]
    changes = {"video": shipped.manifest.video.model_copy(update=spec), "inputs": tuple(given)}
    return Model(folder=shipped.folder, manifest=shipped.manifest.model_copy(update=changes))


def enhance(
    path, model, backend, *, begun=0, start=None, on_frame=lambda _: None, snapshots=(), layout=LAYOUT, **options
):
    """Enhance a clip, from a frame on; return what came to the encoder, the result, the segments and the packets."""
    canvas = plan_canvas(HEIGHT, WIDTH, model.manifest.video)
    recorder, segments = Recorder(model.manifest.video.scale, layout), Segments(begun)
    with VideoReader(path, probe(path).video) as reader:
        frames = (replace(frame, side_data=(SideEntry(1, str(frame.pts).encode()),)) for frame in reader)
        pipeline = VideoPipeline(
            [frame for index, frame in enumerate(frames) if index >= begun], recorder, model=model, backend=backend,
            canvas=canvas, strength=0.5, layout_in=layout, layout_out=layout, clock=StageClock(), stop=StopSignal(),
            on_frame=on_frame, snapshots=frozenset(snapshots), segmenter=segments, start=start, **options,
        )  # fmt: skip
        with pipeline:
            packets = []
            for packet in pipeline.packets():
                packets.append((packet.pts, packet.duration))
            result = pipeline.result()
    assert backend.session.closed
    return SimpleNamespace(frames=recorder.frames, result=result, segments=segments, packets=packets)


def assert_alike(found, expected, *, most=1, state=0.05):
    """Check that frames, their times, cuts, segments and failures are the same, and planes to a code."""
    assert [(one.pts, one.duration, one.side_data) for one in found.frames] == [
        (one.pts, one.duration, one.side_data) for one in expected.frames
    ]
    assert found.result.pts == expected.result.pts
    assert found.result.scene_cuts == expected.result.scene_cuts
    assert found.result.reruns == expected.result.reruns
    assert found.packets == expected.packets
    assert [one[:2] for one in found.segments.ended] == [one[:2] for one in expected.segments.ended]
    assert found.segments.kept.keys() == expected.segments.kept.keys()
    for index, (join, states) in expected.segments.kept.items():
        np.testing.assert_allclose(found.segments.kept[index][0].previous, join.previous, atol=1e-6)
        for name, array in states.items():
            made = found.segments.kept[index][1][name]
            assert (made.shape, made.dtype) == (array.shape, array.dtype)
            np.testing.assert_allclose(made, array, atol=state)  # flow differs by some hundredths of a pixel
            assert np.abs(made - array).mean() < 2e-3
    for one, other in zip(found.frames, expected.frames, strict=True):
        for plane, want in zip(one.planes, other.planes, strict=True):
            assert np.abs(plane.astype(int) - want).max() <= most


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("resident") / "in.mkv")


@pytest.fixture
def on_gpu(fake_cupy):
    """Return a backend with sessions on a GPU that does all work as late as it may, which shows missing waits."""
    fake_cupy.lazy = True
    return lambda **fields: StandInBackend({"cupy": fake_cupy, **fields})


def test_frames_segments_and_states_are_those_of_the_cpu(on_gpu, clip):
    options = {"snapshots": {0, 4}, "grain": 0.5}
    found, expected = (enhance(clip, make_model(), backend, **options) for backend in (on_gpu(), StandInBackend()))

    assert_alike(found, expected)
    assert found.result.scene_cuts == (SCENES[0],)
    assert [one[:2] for one in found.segments.ended] == [(3, False), (5, True), (8, False)]
    for made, want in (
        (found.result.snapshot.before, expected.result.snapshot.before),
        (found.result.snapshot.after, expected.result.snapshot.after),
    ):
        assert np.abs(made.astype(int) - want).max() <= 1


@pytest.mark.slow
def test_work_that_is_done_at_once_gives_the_bits_of_work_that_is_done_late(on_gpu, fake_cupy, clip):
    late = enhance(clip, make_model(), on_gpu())
    fake_cupy.lazy = False
    soon = enhance(clip, make_model(), on_gpu())

    assert_alike(soon, late, most=0, state=0)


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ({"scale": 2, "tile": (35, 46)}, np.float16),
        ({"overlap": 4, "inputs": ("degradation",)}, np.float32),
        ({"tile": (64, 64), "aligned_by": "none"}, np.float32),
    ],
    ids=["scaled, one tile, float16", "blended, told the degradation", "padded, without flow"],
)
def test_networks_of_every_form_give_what_they_give_on_the_cpu(on_gpu, clip, fields, dtype):
    model = make_model(**fields)

    assert_alike(enhance(clip, model, on_gpu(dtype=dtype)), enhance(clip, model, StandInBackend()))


@pytest.mark.slow
def test_planes_of_ten_bits_and_another_chroma_come_out_as_on_the_cpu(on_gpu, tmp_path):
    path, layout = (
        write_clip(tmp_path / "in.mkv", pixel_format="yuv422p10le"),
        replace(LAYOUT, bit_depth=10, chroma="422"),
    )

    found, expected = (enhance(path, make_model(), backend, layout=layout) for backend in (on_gpu(), StandInBackend()))

    assert found.frames[0].planes[1].dtype == np.uint16
    assert_alike(found, expected, most=4)


def test_an_error_of_the_gpu_ends_the_job_and_releases_its_memory(on_gpu, fake_cupy, clip, monkeypatch):
    used, enqueue = fake_cupy.used, StandIn.enqueue

    def fail(session, stream):
        if session.runs == 20:
            raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")
        enqueue(session, stream)

    monkeypatch.setattr(StandIn, "enqueue", fail)
    backend = on_gpu()

    with pytest.raises(SessionError, match="the GPU failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        enhance(clip, make_model(), backend)

    assert backend.session.closed
    del backend
    gc.collect()
    fake_cupy.get_default_memory_pool().free_all_blocks()
    assert fake_cupy.used == used


def test_a_frame_goes_up_once_and_down_once_with_one_wait_and_few_launches(on_gpu, fake_cupy, clip):
    model, seen = make_model(inputs=("degradation",)), []

    def note(_):
        seen.append(len(fake_cupy.log))

    backend = on_gpu()
    enhance(clip, model, backend, on_frame=note)

    tiles = len(plan_canvas(HEIGHT, WIDTH, model.manifest.video).tiles)
    planes = HEIGHT * WIDTH * 3 // 2
    log, upload = fake_cupy.log, Event("up", "", planes)
    uploads = [place for place, event in enumerate(log) if event == upload]
    assert len(uploads) == FRAMES
    assert backend.session.runs == FRAMES * tiles
    # Between the uploads of frames 7 and 8, where no segment begins: the work of 7, and the wait for 6.
    frame = log[uploads[7] : uploads[8]]
    up, down = (sum(event.bytes for event in frame if event.kind == kind) for kind in ("up", "down"))
    assert up <= 1.1 * planes
    assert down <= 1.1 * planes
    assert [event.kind for event in frame].count("wait") == 1
    assert [event.kind for event in frame].count("up") == 1
    assert [event.kind for event in frame].count("down") == 2
    names = [event.name or event.kind for event in frame if event.kind not in ("up", "down", "wait")]
    assert names == ["graph", *["gather_tile", "engine", "scatter_tile"] * tiles, "rgb_to_yuv"]


@pytest.mark.parametrize("name", ["light-restore", "light-x2"])
def test_what_a_frame_of_1080p_costs_with_the_shipped_models(fake_cupy, monkeypatch, name):
    """Counts alone: neither kernels nor the network are run."""
    monkeypatch.setattr(FakeKernel, "_run", lambda *_: None)
    monkeypatch.setattr(fake_cupy, "enqueue", lambda name, _, stream: stream.submit(Event("library", name), int))
    fake_cupy.free_bytes = 16 << 30
    model = find_model(name)
    canvas = plan_canvas(1080, 1920, model.manifest.video)
    height, width = canvas.tile_shape
    session = StandIn(model, {"height": height, "width": width}, cupy=fake_cupy)
    planes = tuple(np.zeros(shape, np.uint8) for shape in ((1080, 1920), (540, 960), (540, 960)))
    frames = [YuvFrame(planes, 8, "420", index, 1) for index in range(6)]
    with ResidentRunner(model, session, canvas, strength=1, layout_in=LAYOUT, layout_out=LAYOUT) as runner:
        for frame in frames[:3]:
            list(runner.push(frame))
        fake_cupy.log.clear()
        for frame in frames[3:]:
            list(runner.push(frame))
        log = list(fake_cupy.log)

    counts = {kind: sum(event.kind == kind for event in log) / 3 for kind in {event.kind for event in log}}
    size, factor = 1080 * 1920 * 3 // 2, model.manifest.video.scale**2
    assert sum(event.bytes for event in log if event.kind == "up") / 3 == size
    assert sum(event.bytes for event in log if event.kind == "down") / 3 <= 1.0001 * size * factor
    assert counts == {
        "up": 1, "down": 2, "wait": 1, "graph": 1, "launch": 2 * len(canvas.tiles) + 1, "library": len(canvas.tiles),
    }  # fmt: skip


def test_nothing_is_computed_on_the_host_between_upload_and_download(on_gpu, clip, monkeypatch):
    for name in ("yuv_to_rgb", "rgb_to_yuv", "_to_bytes", "_repeat_edge"):
        monkeypatch.setattr(f"runtime.video.pipeline.{name}", None)
    for name in ("rgb_to_luma", "estimate_flow", "warp"):
        monkeypatch.setattr(f"runtime.video.motion.{name}", None)
    monkeypatch.setattr("runtime.video.device_frames.upscale_bicubic", None)

    assert len(enhance(clip, make_model(), on_gpu()).frames) == FRAMES


def test_two_frames_are_in_flight(on_gpu, fake_cupy, clip):
    """The work of a frame is enqueued before the one before it is waited for."""
    enhance(clip, make_model(), on_gpu())

    events = [event for event in fake_cupy.log if event.kind == "wait" or event.name == "rgb_to_yuv"]
    enqueued = [place for place, event in enumerate(events) if event.name == "rgb_to_yuv"]
    assert events[enqueued[7] : enqueued[8]] == [Event("launch", "rgb_to_yuv"), Event("wait")]


@pytest.mark.parametrize("spot", [FLASH, RED], ids=["cured", "replaced"])
def test_a_tile_that_fails_is_run_again_and_the_frames_after_it_too(on_gpu, tmp_path, spot):
    # One fails in a frame by itself, and one in two frames that are in flight together.
    path = write_clip(tmp_path / "in.mkv", [(1, 10, spot), (3, 50, spot), (4, 50, spot)])

    found, expected = (enhance(path, make_model(), backend) for backend in (on_gpu(), StandInBackend()))

    assert {one.frame for one in found.result.reruns} == {1, 3, 4}
    assert {one.cured for one in found.result.reruns} == {spot is FLASH}
    assert_alike(found, expected, state=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("begun", [3, 5, 8])
def test_a_job_that_was_stopped_goes_on_with_the_same_planes(on_gpu, clip, begun):
    whole = enhance(clip, make_model(), on_gpu())
    join, states = whole.segments.kept[begun]
    cuts = tuple(cut for cut in whole.result.scene_cuts if cut <= begun)
    start = ResumePoint(
        whole.result.pts[:begun], cuts, (), None, None if join.is_cut else join.previous, {} if join.is_cut else states
    )

    rest = enhance(clip, make_model(), on_gpu(), begun=begun, start=start)

    assert rest.result.pts == whole.result.pts
    assert rest.result.scene_cuts == whole.result.scene_cuts
    assert rest.segments.ended == [one for one in whole.segments.ended if one[0] > begun]
    for one, other in zip(rest.frames, whole.frames[begun:], strict=True):
        assert (one.pts, one.side_data) == (other.pts, other.side_data)
        for plane, want in zip(one.planes, other.planes, strict=True):
            np.testing.assert_array_equal(plane, want)


def test_all_memory_is_released_when_the_pipeline_is_closed(on_gpu, fake_cupy, clip):
    before = fake_cupy.used

    backend = on_gpu()
    enhance(clip, make_model(), backend)

    del backend
    gc.collect()
    fake_cupy.get_default_memory_pool().free_all_blocks()
    assert fake_cupy.used == before


def test_what_is_counted_is_what_is_allocated(on_gpu, fake_cupy, clip, monkeypatch):
    counted, used = [], []
    monkeypatch.setattr(
        "runtime.video.device_frames.check_device_memory", lambda needed, *_, **__: counted.append(needed)
    )
    backend, model = on_gpu(), make_model(scale=2, overlap=4)

    enhance(clip, model, backend, on_frame=lambda _: used.append(fake_cupy.used))

    session = backend.session
    tensors = sum(one.dtype.itemsize * np.prod(one.shape) for one in (*session.inputs, *session.outputs))
    pinned = 3 * (5 * HEIGHT * WIDTH * 3 // 2)
    allocated = max(used) - tensors - pinned
    assert counted[0] - (1 << 20) <= allocated <= counted[0]


def test_memory_is_counted_before_anything_is_allocated(on_gpu, fake_cupy, clip, caplog, monkeypatch):
    """Without the memory for whole frames a session is run as before, tile by tile."""
    fake_cupy.free_bytes = fake_cupy.used + (1 << 20)
    monkeypatch.setattr(StandIn, "run", run_beside_the_gpu)
    with caplog.at_level(logging.WARNING):
        found = enhance(clip, make_model(), on_gpu())

    assert "every tile is copied to the GPU and back, which is slower: the frames take" in caplog.text
    assert fake_cupy.count("launch") == 0
    assert len(found.frames) == FRAMES


def test_a_job_that_was_cancelled_goes_on_with_the_same_packets(on_gpu, clip, tmp_path, monkeypatch):
    """The whole product, with segments and states in its workspace."""
    backend = on_gpu()
    monkeypatch.setattr(ModelBackend, "open", lambda _, *rest: backend.open(*rest))

    def run(name, stop_at=FRAMES + 1):
        cancel = threading.Event()
        return enhance_file(
            clip, tmp_path / f"{name}.mp4", EnhanceOptions(preset="restore", threads=2, backend="cpu"),
            workspace=tmp_path / name, rule=SegmentRule(2, 3), cancel=cancel,
            on_progress=lambda progress: progress.frames_done >= stop_at and cancel.set(),
        )  # fmt: skip

    alone = run("alone")
    with pytest.raises(CancelledError):
        run("stopped", stop_at=7)
    stopped = run("stopped")

    assert stopped.resumes == 1
    assert (tmp_path / "stopped.mp4").read_bytes() == (tmp_path / "alone.mp4").read_bytes()
    assert stopped.picture == alone.picture
    assert alone.picture.scene_cuts == (SCENES[0],)


class Engine:
    """A TensorRT engine of the formula, with its execution context, on the memory of a fake GPU."""

    def __init__(self, cupy, session):
        self.cupy, self.scale = cupy, session.scale
        self.tensors = {
            one.name: (one, mode) for mode, ones in enumerate((session.inputs, session.outputs)) for one in ones
        }
        self.num_io_tensors, self.addresses = len(self.tensors), {}
        self.set_tensor_address = lambda *pair: not self.addresses.update([pair])
        self.create_execution_context = lambda: self
        self.get_tensor_name = list(self.tensors).__getitem__
        self.get_tensor_shape = lambda name: self.tensors[name][0].shape
        self.get_tensor_dtype = lambda name: self.tensors[name][0].dtype
        self.get_tensor_mode = lambda name: self.tensors[name][1]

    def execute_async_v3(self, stream):
        arrays = {name: self.cupy.at(address) for name, address in self.addresses.items()}

        def work():
            for name, array in run_network(arrays, scale=self.scale).items():
                arrays[name][...] = array

        self.cupy.enqueue("engine", work, stream)
        return True


@pytest.mark.parametrize("integrated", [False, True], ids=["card", "integrated"])
def test_engines_of_tensorrt_keep_frames_on_the_gpu(kernel_folder, clip, tmp_path, monkeypatch, integrated):
    cupy, model = FakeCupy(kernel_folder, integrated=integrated, lazy=True), make_model()
    for name, module in cupy.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("runtime.engine.tensorrt.find_spec", lambda name: name)
    (tmp_path / "x.engine").write_bytes(b"engine")

    class Backend:
        def open(self, model, _, shape):
            engine = Engine(cupy, StandIn(model, shape))
            library = SimpleNamespace(
                TensorIOMode=SimpleNamespace(INPUT=0), nptype=np.dtype, ILogger=type("ILogger", (), {"ERROR": 1}),
                Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine),
            )  # fmt: skip
            monkeypatch.setitem(sys.modules, "tensorrt", library)
            self.session = TensorRtSession(tmp_path / "x.engine", engine_type=EngineType.TENSORRT, precision="fp32")
            self.session.closed = True
            cupy.log.clear()
            return self.session

    found = enhance(clip, model, Backend())

    assert_alike(found, enhance(clip, model, StandInBackend()))
    tiles = len(plan_canvas(HEIGHT, WIDTH, model.manifest.video).tiles)
    assert cupy.count("graph") == FRAMES * (1 + tiles)
    assert cupy.count("launch", "gather_tile") == FRAMES * tiles


@pytest.mark.slow
def test_without_a_cuda_graph_the_kernels_are_launched_one_by_one(on_gpu, fake_cupy, clip, monkeypatch, caplog):
    expected = enhance(clip, make_model(), on_gpu())

    def refuse(_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(FakeStream, "begin_capture", refuse)
    fake_cupy.log.clear()
    with caplog.at_level(logging.WARNING):
        found = enhance(clip, make_model(), on_gpu())

    assert "no CUDA graph for the steps before the tiles" in caplog.text
    assert fake_cupy.count("graph") == 0
    assert_alike(found, expected, most=0, state=0)


def test_memory_that_runs_out_while_it_is_allocated_is_given_back(on_gpu, fake_cupy, clip, caplog, monkeypatch):
    """What is free may be taken by another program after it was counted."""
    held = []

    def refuse(*_, **__):
        held.append(fake_cupy.used)
        raise MemoryError("out of memory allocating 1,234 bytes")

    monkeypatch.setattr("runtime.video.device_frames.FlowEstimator", refuse)
    monkeypatch.setattr(StandIn, "run", run_beside_the_gpu)

    with caplog.at_level(logging.WARNING):
        found = enhance(clip, make_model(), on_gpu(), on_frame=lambda _: held.append(fake_cupy.used))

    assert "every tile is copied to the GPU and back, which is slower: the GPU failed: out of memory" in caplog.text
    assert held[1] < held[0]
    assert len(found.frames) == FRAMES


def test_kernels_that_do_not_compile_leave_the_frames_on_the_host(on_gpu, clip, caplog, monkeypatch):
    def refuse(*_, **__):
        raise CompileError("no NVRTC")

    monkeypatch.setattr("runtime.video.resident.FrameWork", refuse)
    monkeypatch.setattr(StandIn, "run", run_beside_the_gpu)

    with caplog.at_level(logging.WARNING):
        found = enhance(clip, make_model(), on_gpu())

    assert "every tile is copied to the GPU and back, which is slower: no NVRTC" in caplog.text
    assert_alike(found, enhance(clip, make_model(), StandInBackend()), most=0, state=0)


@pytest.mark.gpu
def test_frames_on_a_real_gpu_are_those_of_the_cpu(clip):
    if find_spec("cupy") is None:
        pytest.skip("needs cupy")
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"needs an NVIDIA GPU: {error}")
    for fields in ({}, {"scale": 2}, {"overlap": 4, "inputs": ("degradation",)}):
        model = make_model(**fields)

        found = enhance(clip, model, StandInBackend({"cupy": cupy}), snapshots={0})

        assert_alike(found, enhance(clip, model, StandInBackend(), snapshots={0}))
