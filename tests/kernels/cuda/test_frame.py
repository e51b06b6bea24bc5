"""Frames are processed from planes to planes on the GPU, emulated on a CPU: the same result, with few transfers."""

import numpy as np
import pytest

from kernels.colour import YuvLayout, rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.cuda import colour as cuda_colour
from kernels.cuda.flow import FlowEstimator
from kernels.cuda.measures import SceneDetector
from kernels.cuda.module import compile_all
from kernels.cuda.tiles import PlaneTable, gather_tile, scatter_tile
from kernels.flow import estimate_flow
from kernels.tiles import plan_tiles, read_tile, write_tile
from kernels.warp import warp
from runtime.video.motion import is_scene_cut

HEIGHT, WIDTH, CHANNELS = 70, 92, 5
CANVAS = (72, 96)
LAYOUT = YuvLayout(0.2126, 0.0722, False, 8, "420")
TILES = plan_tiles(36, 48, tile_height=20, tile_width=28, halo=3)


def run_engine(frame, state):
    """Stand in for a network on a grid of 2, in float16: its output depends on its state."""
    mean = frame.reshape(3, frame.shape[1] // 2, 2, frame.shape[2] // 2, 2).mean((2, 4))
    following = 0.5 * state + 0.5 * np.concatenate([mean, mean[:2]])
    return frame + np.kron(0.1 * state[:3], np.ones((1, 2, 2))), following


def clip():
    """Five frames: a moving pattern, and a different one from the fourth on."""
    random = np.random.default_rng(1)
    patterns = [np.kron(random.random((3, 20, 24)), np.ones((1, 6, 6))) for _ in range(2)]
    for index in range(5):
        pattern = patterns[index // 3]
        rgb = pattern[:, index : index + HEIGHT, 2 * index : 2 * index + WIDTH].astype(np.float32)
        yield rgb_to_yuv(np.ascontiguousarray(rgb), LAYOUT)


def run_on_cpu():
    state, previous = np.zeros((CHANNELS, 36, 48), np.float32), None
    for planes in clip():
        rgb = np.empty((3, *CANVAS), np.float32)
        yuv_to_rgb(planes, LAYOUT, rgb)
        rgb[:, :HEIGHT, WIDTH:] = rgb[:, :HEIGHT, WIDTH - 1 : WIDTH]
        rgb[:, HEIGHT:] = rgb[:, HEIGHT - 1 : HEIGHT]
        luma = rgb_to_luma(rgb, 2)
        flow = None if previous is None else estimate_flow(luma, previous)
        is_cut = flow is None or is_scene_cut(luma, previous, flow)
        previous, output, following = luma, np.empty_like(rgb), np.empty_like(state)
        for tile in TILES:
            warped = np.zeros((CHANNELS, tile.height, tile.width), np.float32)
            if not is_cut:
                warp(state, read_tile(flow, tile), top=tile.top, left=tile.left, out=warped)
            result, made = run_engine(read_tile(rgb, tile, scale=2), warped)
            write_tile(output, tile, result, scale=2)
            write_tile(following, tile, made)
        state = following
        yield rgb_to_yuv(np.ascontiguousarray(output[:, :HEIGHT, :WIDTH]), LAYOUT), is_cut, state


class Resident:
    """All buffers on a GPU, allocated once; a frame is enqueued on one stream and waited for once."""

    def __init__(self, cupy):
        self.cupy, self.stream = cupy, cupy.cuda.Stream(non_blocking=True)
        chroma = LAYOUT.chroma_shape(HEIGHT, WIDTH)
        shapes = [(HEIGHT, WIDTH), chroma, chroma]
        self.given, self.made = ([cupy.empty(shape, np.uint8) for shape in shapes] for _ in range(2))
        self.rgb, self.output = (cupy.empty((3, *CANVAS), np.float32) for _ in range(2))
        self.luma, self.previous = (cupy.zeros((36, 48), np.float32) for _ in range(2))
        self.flow = cupy.zeros((2, 36, 48), np.float32)
        self.states = [cupy.zeros((CHANNELS, 36, 48), np.float32) for _ in range(2)]
        self.frame_in = cupy.empty((1, 3, 40, 56), np.float16)
        self.state_in, self.state_out = (cupy.empty((1, CHANNELS, 20, 28), np.float16) for _ in range(2))
        self.result = cupy.empty((1, 3, 40, 56), np.float16)
        self.flags, self.cut = cupy.zeros(len(TILES), np.uint32), cupy.zeros(1, np.uint32)
        self.tables = [PlaneTable([state]) for state in (*self.states, self.state_in, self.state_out)]
        self.detector = SceneDetector(36, 48, least_change=0.04, least_unexplained=0.5)
        self.pinned = [np.empty(shape, np.uint8) for shape in shapes]
        self.pinned_flags = np.empty(len(TILES) + 1, np.uint32)
        estimator = FlowEstimator(36, 48)
        compile_all()
        with self.stream:
            self.stream.begin_capture()
            cuda_colour.rgb_to_luma(self.rgb, 2, self.luma)
            estimator.estimate(self.luma, self.previous, self.flow)
            self.detector.measure(self.luma, self.previous, self.cut, flow=self.flow)
            self.motion = self.stream.end_capture()

    def run(self, planes, index):
        with self.stream:
            for plane, host in zip(self.given, planes, strict=True):
                plane.set(host)
            cuda_colour.yuv_to_rgb(tuple(self.given), LAYOUT, self.rgb, repeat_edge=True)
            self.motion.launch()
            if index == 0:
                self.cut.fill(1)
            self.previous[...] = self.luma
            self.flags.fill(0)
            old, new = self.tables[index % 2], self.tables[1 - index % 2]
            for number, tile in enumerate(TILES):
                flag = self.flags[number : number + 1]
                gather_tile(
                    tile, self.rgb, self.frame_in, grid=2, states=old, flow=self.flow, warped=self.tables[2],
                    reset=self.cut, flag=flag,
                )  # fmt: skip
                self.cupy.enqueue("engine", self.run_engine)
                scatter_tile(tile, self.result, self.output, flag, factor=2, states=self.tables[3], canvases=new)
            cuda_colour.rgb_to_yuv(self.output[:, :HEIGHT, :WIDTH], LAYOUT, tuple(self.made))
            for plane, host in zip(self.made, self.pinned, strict=True):
                plane.get(out=host, blocking=False)
            self.flags.get(out=self.pinned_flags[1:], blocking=False)
            self.cut.get(out=self.pinned_flags[:1], blocking=False)
            self.stream.synchronize()
        return self.pinned, bool(self.pinned_flags[0]), self.states[1 - index % 2]

    def run_engine(self):
        frame, state = (self.cupy.at(one.data.ptr)[0].astype(np.float32) for one in (self.frame_in, self.state_in))
        for one, values in zip((self.result, self.state_out), run_engine(frame, state), strict=True):
            self.cupy.at(one.data.ptr)[0] = values


@pytest.fixture
def resident(fake_cupy):
    return Resident(fake_cupy)


def test_frames_come_out_as_from_the_cpu_over_a_scene_cut(resident):
    cuts = []
    for index, (planes, (expected, is_cut, state)) in enumerate(zip(clip(), run_on_cpu(), strict=True)):
        made, was_cut, states = resident.run(planes, index)

        for plane, want in zip(made, expected, strict=True):
            assert np.abs(plane.astype(int) - want).max() <= 1  # the engine's float16
        # Flow differs by a few hundredths of a pixel, and the pattern has edges.
        np.testing.assert_allclose(states.get(), state, atol=0.05)
        assert np.abs(states.get() - state).mean() < 1e-3
        assert was_cut == is_cut
        assert not resident.pinned_flags[1:].any()
        cuts.append(was_cut)
    assert cuts == [True, False, False, True, False]


def test_a_frame_goes_up_once_and_down_once_with_one_wait_and_few_launches(fake_cupy, resident):
    frames = list(clip())
    resident.run(frames[0], 0)
    fake_cupy.log.clear()

    resident.run(frames[1], 1)

    plane_bytes = sum(plane.nbytes for plane in frames[1])
    assert fake_cupy.bytes("up") == plane_bytes
    assert fake_cupy.bytes("down") == plane_bytes + resident.pinned_flags.nbytes
    assert fake_cupy.count("wait") == 1
    work = len(fake_cupy.log) - fake_cupy.count("up") - fake_cupy.count("down") - 1
    assert fake_cupy.count("launch", "gather_tile") == len(TILES)
    assert work == 3 * len(TILES) + 5  # colour twice, the graph of the motion, a copy and a fill


def test_a_tile_that_fails_is_found_by_its_flag(resident):
    frames = list(clip())
    resident.run(frames[0], 0)
    resident.states[1][0, 2, 3] = np.nan

    resident.run(frames[1], 1)

    assert resident.pinned_flags[1] != 0
    assert resident.pinned_flags[len(TILES)] == 0
