"""Tile kernels emulated on a CPU against those of the CPU: warp, gather, scatter, blend and validity."""

import numpy as np
import pytest

from kernels import tiles as on_cpu
from kernels import warp as warp_on_cpu
from kernels.cuda.module import BAD_FLOW, BAD_RESULT, BAD_STATE, compile_all
from kernels.cuda.tiles import PlaneTable, add_tile, divide_by_weight, gather_tile, scatter_tile, warp
from kernels.errors import DeviceError, DtypeError, LayoutError, NotFiniteError, ShapeError
from kernels.tiles import Tile, plan_tiles

ULP = 4 * 2.0**-23
KINDS = [np.float32, np.float16]


def normal(shape, seed=1, scale=1.0, dtype=np.float32):
    return np.random.default_rng(seed).normal(0, scale, shape).astype(dtype)


@pytest.mark.parametrize("channels", [1, 8, 19])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 47)], ids=str)
def test_the_warp_is_that_of_the_cpu(fake_cupy, channels, size):
    state, flow = normal((channels, *size)), normal((2, *size), 2, 6)

    warped = warp(fake_cupy.asarray(state), fake_cupy.asarray(flow))

    expected = warp_on_cpu.warp(state, flow)
    np.testing.assert_allclose(warped.get(), expected, rtol=0, atol=ULP * np.abs(state).max())
    assert fake_cupy.count("launch") == 1


def test_a_window_of_the_flow_reads_the_whole_canvas(fake_cupy):
    state, flow = normal((3, 40, 50)), normal((2, 40, 50), 2, 9)
    device, on_device = fake_cupy.asarray(state), fake_cupy.asarray(flow)
    out = fake_cupy.full((3, 20, 30), 7, np.float32)

    warp(device, on_device[:, 8:24, 11:37], top=8, left=11, out=out[:, 2:18, 3:29])

    np.testing.assert_array_equal(out.get()[:, 2:18, 3:29], warp(device, on_device).get()[:, 8:24, 11:37])
    assert (out.get()[:, 18:] == 7).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_flow_that_is_not_finite_is_refused_or_flagged_and_reads_the_border(fake_cupy, value):
    state, flow = fake_cupy.asarray(normal((2, 5, 7))), np.zeros((2, 5, 7), np.float32)
    flow[:, 2, 3] = value
    device, flag = fake_cupy.asarray(flow), fake_cupy.zeros(1, np.uint32)

    if np.isfinite(value):
        warp(state, device)
    else:
        with pytest.raises(NotFiniteError, match="got a flow with NaN or infinity"):
            warp(state, device)
    fake_cupy.log.clear()
    warped = warp(state, device, flag=flag)

    assert fake_cupy.count("wait") == 0
    assert int(flag[0]) == (0 if np.isfinite(value) else BAD_FLOW)
    assert warped.get()[0, 2, 3] in state.get()[0]
    np.testing.assert_array_equal(np.delete(warped.get(), 2, axis=1), np.delete(state.get(), 2, axis=1))


class Tiled:
    """A frame and states on canvases with the tiles of a plane, and an engine's buffers for one tile."""

    def __init__(self, cupy, *, grid=2, scale=2, height=37, width=53, kind=np.float32, channels=(16, 3)):
        self.grid, self.factor, self.kind = grid, grid * scale, kind
        self.tiles = plan_tiles(height, width, tile_height=20, tile_width=24, halo=5)
        self.frame = normal((3, height * grid, width * grid))
        self.flow = normal((2, height, width), 2, 5)
        self.states = [normal((count, height, width), 3 + count) for count in channels]
        self.tile_shape = tile = (20, 24)
        self.on_gpu = [cupy.asarray(state) for state in self.states]
        self.next = [cupy.full(state.shape, 7) for state in self.states]
        self.inputs = [cupy.empty((1, count, *tile), kind) for count in channels]
        self.frame_input = cupy.empty((1, 3, 20 * grid, 24 * grid), kind)
        self.outputs = [cupy.asarray(normal((1, count, *tile), 4, dtype=kind)) for count in channels]
        self.result = cupy.asarray(normal((1, 3, 20 * self.factor, 24 * self.factor), 5, dtype=kind))
        self.canvas = cupy.full((3, height * self.factor, width * self.factor), 7)
        self.flag = cupy.zeros(1, np.uint32)
        self.read_table, self.write_table = PlaneTable(self.on_gpu), PlaneTable(self.next)
        self.input_table, self.output_table = PlaneTable(self.inputs), PlaneTable(self.outputs)

    def gather(self, cupy, tile, **named):
        gather_tile(
            tile, cupy.asarray(self.frame), self.frame_input, grid=self.grid, states=self.read_table,
            flow=cupy.asarray(self.flow), warped=self.input_table, flag=self.flag, **named,
        )  # fmt: skip

    def scatter(self, tile):
        scatter_tile(
            tile, self.result, self.canvas, self.flag, factor=self.factor, states=self.output_table,
            canvases=self.write_table,
        )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", [1, 2])
def test_gathering_fills_an_engines_inputs_as_the_cpu_does_in_one_launch(fake_cupy, kind, grid):
    one = Tiled(fake_cupy, kind=kind, grid=grid)

    for tile in one.tiles:
        fake_cupy.log.clear()
        one.gather(fake_cupy, tile)

        assert fake_cupy.count("launch") == 1
        frame = on_cpu.read_tile(one.frame, tile, scale=grid).astype(kind)
        np.testing.assert_array_equal(one.frame_input.get()[0], frame)
        for state, warped in zip(one.states, one.inputs, strict=True):
            flow = on_cpu.read_tile(one.flow, tile)
            expected = warp_on_cpu.warp(state, flow, top=tile.top, left=tile.left)
            tolerance = (ULP if kind == np.float32 else 2.0**-10) * np.abs(state).max()
            np.testing.assert_allclose(warped.get()[0].astype(np.float32), expected, rtol=0, atol=tolerance)
    assert int(one.flag[0]) == 0


def test_states_are_zeros_where_a_scene_begins(fake_cupy):
    one = Tiled(fake_cupy)
    reset = fake_cupy.zeros(1, np.uint32)

    one.gather(fake_cupy, one.tiles[0], reset=reset)
    assert all(state.get().any() for state in one.inputs)
    reset.fill(1)
    one.gather(fake_cupy, one.tiles[0], reset=reset)

    assert not any(state.get().any() for state in one.inputs)
    assert one.frame_input.get().any()


def test_a_tile_beyond_the_canvas_repeats_its_border(fake_cupy):
    frame = normal((3, 9, 11))
    out = fake_cupy.empty((3, 16, 16))

    gather_tile(Tile(-4, -2, 16, 16, 0, 0, 9, 11), fake_cupy.asarray(frame), out)

    np.testing.assert_array_equal(out.get(), np.pad(frame, ((0, 0), (4, 3), (2, 3)), mode="edge"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1, 2])
def test_scattering_writes_the_kept_parts_as_the_cpu_does_in_one_launch(fake_cupy, kind, scale):
    one = Tiled(fake_cupy, kind=kind, scale=scale)
    canvas = np.full(one.canvas.shape, 7, np.float32)
    states = [np.full(state.shape, 7, np.float32) for state in one.states]

    for tile in one.tiles:
        fake_cupy.log.clear()
        one.scatter(tile)

        assert fake_cupy.count("launch") == 1
        on_cpu.write_tile(canvas, tile, one.result.get()[0], scale=one.factor)
        for state, output in zip(states, one.outputs, strict=True):
            on_cpu.write_tile(state, tile, output.get()[0])
        np.testing.assert_array_equal(one.canvas.get(), canvas)
        for state, written in zip(states, one.next, strict=True):
            np.testing.assert_array_equal(written.get(), state)
    assert int(one.flag[0]) == 0


@pytest.mark.parametrize(
    ("value", "bit"), [(np.nan, BAD_RESULT), (np.inf, BAD_RESULT), (8, BAD_RESULT), (-8, BAD_RESULT), (7.9, 0)]
)
def test_a_result_that_is_not_finite_or_far_outside_sets_the_flag_in_the_halo_too(fake_cupy, value, bit):
    one = Tiled(fake_cupy)

    one.result[:, 1, 0, 0] = value
    one.scatter(one.tiles[-1])

    assert int(one.flag[0]) == bit


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_state_that_is_not_finite_sets_its_own_bit(fake_cupy, value):
    one = Tiled(fake_cupy)

    one.outputs[1][0, 2, 19, 23] = value
    one.scatter(one.tiles[0])

    assert int(one.flag[0]) == BAD_STATE
    one.outputs[1][0, 2, 19, 23] = 1000.0
    one.flag.fill(0)
    one.scatter(one.tiles[0])
    assert int(one.flag[0]) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1, 2])
def test_blended_tiles_have_the_bits_of_the_cpu(fake_cupy, kind, scale):
    height, width = 37, 53
    tiles = plan_tiles(height, width, tile_height=20, tile_width=24, halo=4)
    total = np.zeros((3, height * scale, width * scale), np.float32)
    weight = np.zeros(total.shape[1:], np.float32)
    sum_on_gpu, weight_on_gpu = fake_cupy.asarray(total), fake_cupy.asarray(weight)

    for number, tile in enumerate(tiles):
        result = normal((3, 20 * scale, 24 * scale), number, dtype=kind)
        window = on_cpu.tile_window(tile, height, width, overlap=8, scale=scale)
        on_cpu.add_tile(total, weight, tile, result.astype(np.float32), window, scale=scale)
        device = fake_cupy.asarray(result)
        add_tile(sum_on_gpu, weight_on_gpu, tile, device, fake_cupy.asarray(window), scale=scale)
    total /= weight
    divide_by_weight(sum_on_gpu, weight_on_gpu)

    np.testing.assert_array_equal(weight_on_gpu.get(), weight)
    np.testing.assert_array_equal(sum_on_gpu.get(), total)


def test_arrays_that_do_not_fit_are_refused_before_a_launch(fake_cupy):
    one = Tiled(fake_cupy)
    tile, frame = one.tiles[0], fake_cupy.asarray(one.frame)
    state, flow = fake_cupy.zeros((2, 5, 7)), fake_cupy.zeros((2, 5, 7))
    whole, fewer = fake_cupy.zeros((2, 37, 53)), PlaneTable(one.inputs[:1])
    cut = whole[:, :, :-1]
    fake_cupy.log.clear()

    with pytest.raises(ShapeError, match=r"got state \(5, 7\), expected \(any, any, any\)"):
        warp(state[0], flow)
    with pytest.raises(LayoutError, match="expected a C-contiguous one; copy it once"):
        warp(state[:, :, ::2], flow)
    with pytest.raises(DtypeError, match="got flow of float16, expected float32"):
        warp(state, fake_cupy.zeros((2, 5, 7), np.float16))
    with pytest.raises(ShapeError, match=r"got out \(1, 5, 7\), expected \(2, 5, 7\)"):
        warp(state, flow, out=fake_cupy.zeros((1, 5, 7)))
    with pytest.raises(ShapeError, match="at least one pixel"):
        warp(fake_cupy.zeros((2, 0, 7)), flow)
    with pytest.raises(DeviceError, match="upload it first"):
        warp(state, np.zeros((2, 5, 7), np.float32))
    with pytest.raises(ShapeError, match="got out"):
        gather_tile(tile, frame, one.frame_input[:, :, 1:], grid=2)
    with pytest.raises(ShapeError, match="got only some of states, flow and warped"):
        gather_tile(tile, frame, one.frame_input, grid=2, states=one.read_table, warped=one.input_table)
    with pytest.raises(ShapeError, match="got 16 planes of 20x24 for 19 states"):
        gather_tile(tile, frame, one.frame_input, grid=2, states=one.read_table, flow=whole, warped=fewer)
    with pytest.raises(ShapeError, match=r"got flow \(2, 37, 52\), expected \(2, 37, 53\)"):
        gather_tile(tile, frame, one.frame_input, grid=2, states=one.read_table, flow=cut, warped=one.input_table)
    with pytest.raises(ShapeError, match="expected a tile planned for this canvas"):
        scatter_tile(Tile(30, 40, 20, 24, 30, 40, 50, 64), one.result, one.canvas, one.flag, factor=4)
    with pytest.raises(ShapeError, match="expected a tile planned for this canvas"):
        scatter_tile(Tile(0, 0, 20, 24, 0, 0, 21, 24), one.result, one.canvas, one.flag, factor=4)
    with pytest.raises(DtypeError, match="got a flag of float32, expected uint32"):
        scatter_tile(tile, one.result, one.canvas, fake_cupy.zeros(1), factor=4)
    with pytest.raises(DtypeError, match="expected one dtype"):
        PlaneTable([state, state.astype(np.float16)])
    with pytest.raises(LayoutError):
        PlaneTable([one.on_gpu[0][:, :, 1:]])
    with pytest.raises(ShapeError, match="got a window"):
        add_tile(one.canvas, one.canvas[0], tile, one.result[0], fake_cupy.zeros((79, 96)), scale=4)
    assert fake_cupy.count("launch") == 0


def test_a_frames_tiles_can_be_captured_in_a_graph(fake_cupy):
    one, reset = Tiled(fake_cupy), fake_cupy.zeros(1, np.uint32)
    frame, flow = fake_cupy.asarray(one.frame), fake_cupy.asarray(one.flow)
    tile = one.tiles[1]
    compile_all()
    stream = fake_cupy.cuda.Stream(non_blocking=True)

    with stream:
        stream.begin_capture()
        gather_tile(
            tile, frame, one.frame_input, grid=2, states=one.read_table, flow=flow, warped=one.input_table, reset=reset,
            flag=one.flag,
        )  # fmt: skip
        one.scatter(tile)
        graph = stream.end_capture()
        assert (one.canvas.get() == 7).all()
        fake_cupy.log.clear()
        graph.launch()

    assert [event.kind for event in fake_cupy.log] == ["graph"]
    assert (one.canvas.get() != 7).any()
