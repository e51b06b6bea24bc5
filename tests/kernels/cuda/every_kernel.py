"""Run every CUDA kernel on any array module, at odd sizes and with a flow that is partly not finite.

As a program it emulates them, compiled in the folder that is its argument, and prints a digest of the results.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kernels.colour import YuvLayout
from kernels.cuda.colour import rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.cuda.degradation import DegradationMeter
from kernels.cuda.flow import estimate_flow
from kernels.cuda.measures import ChangeMeter, SceneDetector, check_values
from kernels.cuda.module import BAD_STATE
from kernels.cuda.tiles import PlaneTable, add_tile, divide_by_weight, gather_tile, scatter_tile, warp
from kernels.tiles import Tile, plan_tiles, tile_window

SIZES = [(1, 1), (3, 2), (41, 46)]
LAYOUTS = [
    YuvLayout(0.2126, 0.0722, False, 8, "420", (0.5, 0.0)),
    YuvLayout(0.2627, 0.0593, True, 10, "420", (0.0, 0.0)),
    YuvLayout(0.299, 0.114, True, 10, "422", (0.5, 0.5)),
    YuvLayout(0.299, 0.114, False, 8, "444"),
]
KINDS = [np.float32, np.float16]


def run_every_kernel(cupy) -> dict[str, np.ndarray]:
    """Return what the kernels compute, by name; the module must be in the place of CuPy."""
    results = {}
    for size in SIZES:
        for kind in KINDS:
            for part in (_run_colour, _run_motion, _run_tiles):
                named = part(cupy, *size, kind)
                results |= {f"{name} {size} {np.dtype(kind).name}": array.get() for name, array in named}
    return results


def _run_colour(cupy, height: int, width: int, kind) -> Iterator[tuple[str, object]]:
    random = np.random.default_rng(1)
    for layout in LAYOUTS:
        bits, chroma = layout.bit_depth, layout.chroma
        rows, columns = layout.chroma_shape(height, width)
        dtype = np.uint8 if bits == 8 else np.uint16
        y = cupy.asarray(random.integers(0, 1 << bits, (height, width)).astype(dtype))
        uv = cupy.asarray(random.integers(0, 1 << bits, (rows, 2 * columns)).astype(dtype))
        rgb = cupy.empty((3, height + 3, width + 2), kind)
        yuv_to_rgb((y, uv[:, 0::2], uv[:, 1::2]), layout, rgb, repeat_edge=True, in_high_bits=bits == 10)
        yield f"rgb {bits} {chroma}", rgb
        back = tuple(cupy.zeros(shape, dtype) for shape in ((height, width), (rows, 2 * columns)))
        rgb_to_yuv(rgb[:, :height, :width], layout, (back[0], back[1][:, 0::2], back[1][:, 1::2]), in_high_bits=True)
        yield f"luma codes {bits} {chroma}", back[0]
        yield f"chroma codes {bits} {chroma}", back[1]
        yield f"planes {bits} {chroma}", rgb_to_yuv(rgb, layout)[1]
    yield "luma", rgb_to_luma(rgb)


def _run_motion(cupy, height: int, width: int, kind) -> Iterator[tuple[str, object]]:
    random = np.random.default_rng(2)
    coarse = np.kron(random.random((2, height // 4 + 1, width // 4 + 1)), np.ones((1, 4, 4)))[:, :height, :width]
    frame, previous = (cupy.asarray(np.ascontiguousarray(one, np.float32)) for one in coarse)
    flow = estimate_flow(frame, previous) if kind == np.float32 else cupy.zeros((2, height, width))
    yield "flow", flow
    if min(height, width) >= 4:
        descriptor = cupy.zeros(8, kind)
        DegradationMeter(height, width).describe(frame, descriptor)
        yield "descriptor", descriptor
    detector, cut = SceneDetector(height, width, least_change=0.04, least_unexplained=0.5), cupy.zeros(1, np.uint32)
    detector.measure(frame, previous, cut, flow=flow)
    yield "cut", cut
    yield "cut measures", detector.measures
    wild = 40 * random.standard_normal((2, height, width)).astype(np.float32)
    wild[0, -1, -1], wild[1, 0, 0], wild[0, height // 2, width // 2] = np.nan, np.inf, -1e30
    state, flag = cupy.asarray(random.random((11, height, width)).astype(kind)), cupy.zeros(1, np.uint32)
    yield "warp", warp(state, cupy.asarray(wild), flag=flag)
    yield "flow flag", flag
    check_values(state, flag, bit=BAD_STATE, bound=0.5)
    yield "value flag", flag


def _run_tiles(cupy, height: int, width: int, kind) -> Iterator[tuple[str, object]]:
    random = np.random.default_rng(3)
    grid, scale = 2, 2
    tile_height, tile_width = min(height, 24), min(width, 28)
    tiles = plan_tiles(height, width, tile_height=tile_height, tile_width=tile_width, halo=3)

    def normal(*shape: int):
        return cupy.asarray(random.standard_normal(shape).astype(kind))

    frame, states = normal(3, height * grid, width * grid), [normal(9, height, width), normal(2, height, width)]
    flow = cupy.asarray(6 * random.standard_normal((2, height, width)).astype(np.float32))
    following = [cupy.zeros(state.shape, kind) for state in states]
    inputs = [cupy.zeros((len(state), tile_height, tile_width), np.float16) for state in states]
    into = cupy.zeros((1, 3, tile_height * grid, tile_width * grid), np.float16)
    canvas = cupy.zeros((3, height * grid * scale, width * grid * scale), np.float32)
    total, weight = cupy.zeros((3, height, width)), cupy.zeros((height, width))
    flag, reset = cupy.zeros(1, np.uint32), cupy.zeros(1, np.uint32)
    tables = [PlaneTable(arrays) for arrays in (states, following, inputs)]
    for number, tile in enumerate(tiles):
        gather_tile(tile, frame, into, grid=grid, states=tables[0], flow=flow, warped=tables[2], reset=reset, flag=flag)
        yield f"frame {number}", into.copy()
        yield f"warped {number}", inputs[0].copy()
        result = normal(3, tile_height * grid * scale, tile_width * grid * scale)
        scatter_tile(tile, result, canvas, flag, factor=grid * scale, states=tables[2], canvases=tables[1])
        window = cupy.asarray(tile_window(tile, height, width, overlap=6))
        add_tile(total, weight, tile, normal(3, tile_height, tile_width), window)
    divide_by_weight(total, weight)
    yield from (("canvas", canvas), ("states", following[0]), ("more states", following[1]), ("blend", total))
    yield "tile flag", flag
    gather_tile(Tile(-9, -7, tile_height, tile_width, 0, 0, 0, 0), frame, into[:, :, ::1], grid=grid)
    yield "frame beyond", into
    meter = ChangeMeter(tiles, grid=grid, dtype=kind)
    meter.keep(0, normal(*frame.shape))
    meter.measure(frame)
    yield "change", meter.changes


def digest(results: dict[str, np.ndarray]) -> str:
    """Return a digest of results: names, dtypes and bits."""
    text = hashlib.sha256()
    for name, array in results.items():
        text.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return text.hexdigest()


if __name__ == "__main__":
    from tests.fake_cupy import FakeCupy

    module = FakeCupy(Path(sys.argv[1]))
    sys.modules["cupy"] = module
    print(digest(run_every_kernel(module)))
