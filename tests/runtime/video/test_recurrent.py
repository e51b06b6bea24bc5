"""Tiled equals untiled, and a failure of the network is never visible."""

import hashlib
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.errors import ManifestError
from runtime.manifest import Model, ModelFile, StateSpec, find_model
from runtime.video.fallback import TileRetry
from runtime.video.motion import MotionEstimator, PreparedFrame
from runtime.video.recurrent import RecurrentRunner, find_last_readers
from runtime.video.tile_plan import plan_canvas

CPU = ModelBackend(find_backend("cpu"))

FRAMES = 6


def with_shapes(model, *shapes, **changes):
    video = model.manifest.video.model_copy(update={"tile_shapes": shapes, **changes})
    return Model(folder=model.folder, manifest=model.manifest.model_copy(update={"video": video}))


def clip(height, width):
    rng = np.random.default_rng(11)
    wide = np.kron(rng.random((3, height // 4 + 20, width // 4 + 20)), np.ones((4, 4))).astype(np.float32)
    return [wide[:, 2 * k : 2 * k + height, 3 * k : 3 * k + width].copy() for k in range(FRAMES)]


def run(model, frames, height, width, **options):
    canvas = plan_canvas(height, width, model.manifest.video, **options)
    size = (canvas.height * canvas.grid, canvas.width * canvas.grid)
    window = MotionEstimator(canvas, aligned=True)
    outputs = []
    with RecurrentRunner(model, CPU, canvas, strength=1.0) as step:
        for index, frame in enumerate(frames):
            padded = np.pad(frame, ((0, 0), (0, size[0] - height), (0, size[1] - width)), mode="edge")
            outputs.append(step.run(window.push(padded, pts=index, duration=1)).copy())
    return outputs, canvas


@pytest.mark.parametrize("name", ["light-x4", "light-x2", "light-restore"])
@pytest.mark.parametrize(("height", "width"), [(80, 70), (97, 131), (150, 68), (129, 200)])
def test_tiled_equals_untiled_on_every_frame(name, height, width):
    model = find_model(name)
    grid = model.manifest.video.grid
    whole = (-(-height // grid), -(-width // grid))

    untiled, one = run(with_shapes(model, whole), clip(height, width), height, width)
    tiled, many = run(with_shapes(model, (32, 32)), clip(height, width), height, width)

    assert len(one.tiles) == 1
    assert len(many.tiles) > 1
    for expected, found in zip(untiled, tiled, strict=True):
        assert found.shape == (3, height * many.scale, width * many.scale)
        assert np.abs(found - expected).max() < 1 / 255


@pytest.mark.parametrize("name", ["light-x4", "light-x2", "light-restore"])
def test_tiles_that_are_cut_to_measure_give_the_bits_of_a_single_one(name):
    model, height, width = find_model(name), 144, 176
    whole, one = run(model, clip(height, width), height, width, any_shape=True)

    cut, many = run(model, clip(height, width), height, width, any_shape=True, most_pixels=5000)

    assert len(one.tiles) == 1
    assert len(many.tiles) > 1
    for expected, found in zip(whole, cut, strict=True):
        assert np.array_equal(expected, found)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 19), (16, 90), (31, 33)])
@pytest.mark.parametrize("name", ["light-x4", "light-restore"])
def test_small_and_odd_sizes_are_complete(name, height, width):
    outputs, canvas = run(find_model(name), clip(height, width), height, width)

    for output, frame in zip(outputs, clip(height, width), strict=True):
        assert output.shape == (3, height * canvas.scale, width * canvas.scale)
        mean = output.reshape(3, height, canvas.scale, width, canvas.scale).mean((2, 4))
        assert np.abs(mean - frame).mean() < 0.06


def test_strength_zero_is_the_bicubic_frame():
    model = find_model("light-restore")
    frame = clip(64, 64)[0]
    canvas = plan_canvas(64, 64, model.manifest.video)

    with RecurrentRunner(model, CPU, canvas, strength=0.0) as step:
        output = step.run(PreparedFrame(0, 0, 1, frame, None))

    np.testing.assert_allclose(output, frame, atol=1e-6)


def test_a_new_scene_owes_nothing_to_the_old_one():
    model = find_model("light-x4")
    canvas = plan_canvas(64, 64, model.manifest.video)
    first, second = clip(64, 64)[0], np.ascontiguousarray(clip(64, 64)[3][:, ::-1])
    still = np.zeros((2, 64, 64), np.float32)

    with RecurrentRunner(model, CPU, canvas, strength=1.0) as step:
        step.run(PreparedFrame(0, 0, 1, first, None))
        cut = step.run(PreparedFrame(1, 1, 1, second, None)).copy()
        step.run(PreparedFrame(2, 2, 1, first, None))
        carried = step.run(PreparedFrame(3, 3, 1, second, still)).copy()
    with RecurrentRunner(model, CPU, canvas, strength=1.0) as step:
        alone = step.run(PreparedFrame(0, 0, 1, second, None))

    np.testing.assert_array_equal(cut, alone)
    assert np.abs(carried - alone).max() > 1e-4


@pytest.fixture
def failing_model(tmp_path):
    """A network that adds log(limit - state) to the frame, its state growing by a half: not finite at the fourth."""

    def build(limit):
        shape, constant = ["height", "width"], helper.make_tensor
        nodes = [
            helper.make_node("Sub", ["limit", "state"], ["left"]),
            helper.make_node("Log", ["left"], ["log"]),
            helper.make_node("Mul", ["log", "strength"], ["detail"]),
            helper.make_node("Add", ["frame", "detail"], ["output"]),
            helper.make_node("Add", ["state", "half"], ["state_out"]),
        ]
        floats = [("frame", [1, 3, *shape]), ("strength", [1]), ("state", [1, 1, *shape])]
        results = [("output", [1, 3, *shape]), ("state_out", [1, 1, *shape])]
        graph = helper.make_graph(
            nodes,
            "failing",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in floats],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in results],
            [constant("limit", TensorProto.FLOAT, [1], [limit]), constant("half", TensorProto.FLOAT, [1], [0.5])],
        )
        path = tmp_path / "step.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
        shipped = find_model("light-restore").manifest
        manifest = shipped.model_copy(
            update={
                "files": (
                    ModelFile(
                        path="step.onnx",
                        role="step",
                        precision="fp32",
                        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                    ),
                ),
                "states": (StateSpec(input="state", output="state_out"),),
                "video": shipped.video.model_copy(
                    update={"grid": 1, "scale": 1, "halo": 2, "tile_shapes": ((32, 32),)}
                ),
            }
        )
        return Model(folder=tmp_path, manifest=manifest)

    return build


def still_frames(count):
    frame = np.full((3, 32, 48), 0.25, np.float32)
    flow = np.zeros((2, 32, 48), np.float32)
    return [PreparedFrame(k, k, 1, frame, flow if k else None) for k in range(count)]


def test_a_tile_that_is_not_finite_is_run_again_from_a_clean_state(failing_model):
    model = failing_model(1.2)
    canvas = plan_canvas(32, 48, model.manifest.video)

    with RecurrentRunner(model, CPU, canvas, strength=1.0) as step:
        outputs = [step.run(frame).copy() for frame in still_frames(5)]

    assert [(rerun.frame, rerun.tile, rerun.cured) for rerun in step.reruns] == [(3, 0, True), (3, 1, True)]
    assert all(np.isfinite(output).all() for output in outputs)
    np.testing.assert_allclose(outputs[3], outputs[0], atol=1e-6)
    np.testing.assert_allclose(outputs[4], outputs[1], atol=1e-6)


def test_a_tile_that_fails_twice_shows_the_bicubic_frame(failing_model):
    model = failing_model(-1.0)
    canvas = plan_canvas(32, 48, model.manifest.video)

    with RecurrentRunner(model, CPU, canvas, strength=1.0) as step:
        output = step.run(still_frames(1)[0])

    assert step.reruns == [TileRetry(0, 0, cured=False), TileRetry(0, 1, cured=False)]
    np.testing.assert_allclose(output, 0.25, atol=1e-6)


def test_blended_tiles_show_no_joint(failing_model):
    model = with_shapes(failing_model(2.0), (32, 32), overlap=8, halo=4)
    canvas = plan_canvas(32, 48, model.manifest.video)

    with RecurrentRunner(model, CPU, canvas, strength=1.0) as step:
        output = step.run(still_frames(1)[0])

    np.testing.assert_allclose(output, 0.25 + np.log(2), atol=1e-6)


def test_a_speech_model_is_refused():
    model = find_model("light-x4")
    silent = Model(folder=model.folder, manifest=model.manifest.model_copy(update={"video": None}))

    with pytest.raises(ManifestError, match="is not a video model"):
        RecurrentRunner(silent, CPU, plan_canvas(64, 64, model.manifest.video), strength=1.0)


class InstantBackend:
    """A backend whose sessions take no time; it records the bytes that go in and out."""

    name = library = "instant"
    precision = "fp32"

    def __init__(self):
        self.moved = 0

    def open(self, model, role, shape):
        session = CPU.open(model, role, shape)
        results = {one.name: np.zeros(one.shape, one.dtype) for one in session.outputs}
        size = sum(one.nbytes for one in results.values()) + sum(
            one.dtype.itemsize * int(np.prod(one.shape)) for one in session.inputs
        )

        def run(tensors, out=None):
            del tensors
            self.moved += size
            return results if out is None else out

        session.run = run
        return session


@pytest.mark.parametrize("name", ["light-restore", "light-x2"])
def test_the_host_takes_little_time_compared_with_the_network(name):
    """The work on a frame around its network, relative to copying the network's inputs and outputs."""
    model, height, width = find_model(name), 288, 352
    canvas = plan_canvas(height, width, model.manifest.video)
    window, backend = MotionEstimator(canvas, aligned=True), InstantBackend()
    size = (canvas.height * canvas.grid, canvas.width * canvas.grid)
    edges = ((0, 0), (0, size[0] - height), (0, size[1] - width))
    frames = [np.pad(frame, edges, mode="edge") for frame in clip(height, width)]
    prepared = [window.push(frame, pts=index, duration=1) for index, frame in enumerate(frames)]
    times = []
    with RecurrentRunner(model, backend, canvas, strength=1.0) as step:
        for frame in prepared:
            backend.moved, begun = 0, time.thread_time()
            step.run(frame)
            times.append(time.thread_time() - begun)
    planes = np.ones(backend.moved // 4, np.float32)
    copies = []
    for _ in range(5):
        begun = time.thread_time()
        planes.copy()
        copies.append(time.thread_time() - begun)

    assert min(times[1:]) < 12 * min(copies)


@pytest.mark.parametrize("motion", [(0.0, 0.0), (37.5, -21.25), (-400.0, 400.0)])
def test_a_state_is_overwritten_only_when_no_later_tile_reads_there(motion):
    canvas = plan_canvas(200, 260, with_shapes(find_model("light-x4"), (64, 64)).manifest.video)
    rng = np.random.default_rng(2)
    flow = (np.array(motion)[:, None, None] + rng.normal(0, 2, (2, canvas.height, canvas.width))).astype(np.float32)
    owner = np.empty((canvas.height, canvas.width), np.int64)
    for number, tile in enumerate(canvas.tiles):
        owner[tile.keep_top : tile.keep_bottom, tile.keep_left : tile.keep_right] = number

    last = find_last_readers(canvas, flow)

    rows, columns = np.mgrid[: canvas.height, : canvas.width]
    for number, tile in enumerate(canvas.tiles):
        part = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
        for step in (0, 1):
            y = np.clip(np.floor((rows + flow[1])[part]) + step, 0, canvas.height - 1).astype(int)
            x = np.clip(np.floor((columns + flow[0])[part]) + step, 0, canvas.width - 1).astype(int)
            assert all(last[one] >= number for one in np.unique(owner[y, x]))
    assert all(one >= number for number, one in enumerate(last))
    assert find_last_readers(canvas, None) == list(range(len(canvas.tiles)))


def test_still_tiles_wait_for_one_row_of_neighbours_alone():
    canvas = plan_canvas(300, 300, with_shapes(find_model("light-x4"), (64, 64)).manifest.video)
    columns = sum(tile.top == 0 for tile in canvas.tiles)

    last = find_last_readers(canvas, np.zeros((2, canvas.height, canvas.width), np.float32))

    assert max(one - number for number, one in enumerate(last)) <= columns + 1
