"""`python -m benchmarks kernels`: the kernels on one thread, against the machine's floor and against peers.

The floor of a kernel is the bytes that it must read and write, at the rate of a copy in the same run. Peers are
FFmpeg's swscale, torch, and OpenCV where it is installed (`pip install opencv-python-headless`); each on one thread.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from benchmarks.measure import Row, measure_copy_rate, time_interleaved
from kernels.colour import YuvLayout, rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.flow import estimate_flow
from kernels.measures import is_within, largest_block_change
from kernels.warp import warp

HEIGHT, WIDTH, STATES = 1080, 1920, 51
"""Full HD, and the channels of the states of light-restore, which lie on a grid of two."""

Array = NDArray[Any]


def measure() -> Iterator[Row]:
    """Measure every kernel."""
    torch.set_num_threads(1)
    rate = measure_copy_rate()
    yield Row(f"copy, {rate / 1e6:.1f} GB/s read and written", 2 * 100 * 2**20 / rate, 2 * 100 * 2**20 / rate)
    yield from _measure_colour(rate)
    yield from _measure_warp(rate)
    yield from _measure_flow()
    yield from _measure_checks(rate)


def _measure_colour(rate: float) -> Iterator[Row]:
    random = np.random.default_rng(0)
    for bits, chroma in ((8, "420"), (10, "420"), (10, "422"), (8, "444")):
        layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=bits, chroma=chroma)  # type: ignore[arg-type]
        name = f"yuv{chroma}p" + ("10le" if bits == 10 else "")
        kind = np.uint8 if bits == 8 else np.uint16
        y, u, v = (
            random.integers(16 << (bits - 8), 235 << (bits - 8), size).astype(kind)
            for size in ((HEIGHT, WIDTH), *[layout.chroma_shape(HEIGHT, WIDTH)] * 2)
        )
        rgb = np.empty((3, HEIGHT, WIDTH), np.float32)
        planes = (np.empty_like(y), np.empty_like(u), np.empty_like(v))
        picture = av.VideoFrame(WIDTH, HEIGHT, name)
        floats = picture.reformat(format="gbrpf32le", threads=1)
        into, back = f"{name} to RGB", f"RGB to {name}"
        works: list[Callable[[], object]] = [
            lambda planes=(y, u, v), layout=layout, rgb=rgb: yuv_to_rgb(planes, layout, rgb),
            lambda picture=picture: picture.reformat(format="gbrpf32le", threads=1),
            lambda rgb=rgb, layout=layout, planes=planes: rgb_to_yuv(rgb, layout, planes),
            lambda floats=floats, name=name: floats.reformat(format=name, threads=1),
        ]
        ours_in, theirs_in, ours_out, theirs_out = time_interleaved(works)
        floor = (y.nbytes + u.nbytes + v.nbytes + rgb.nbytes) / rate
        yield Row(into, ours_in, floor, "swscale to gbrpf32", theirs_in)
        yield Row(back, ours_out, floor, "swscale from gbrpf32", theirs_out)
    rgb = random.random((3, HEIGHT, WIDTH), np.float32)
    (ms,) = time_interleaved([lambda: rgb_to_luma(rgb, 2)])
    yield Row("RGB to luma on a grid of two", ms, rgb.nbytes * 13 / 12 / rate)


def _measure_warp(rate: float) -> Iterator[Row]:
    height, width = HEIGHT // 2, WIDTH // 2
    random = np.random.default_rng(1)
    state = random.standard_normal((STATES, height, width)).astype(np.float32)
    out = np.empty_like(state)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pan = np.stack([2.3 + 0 * x, -1.4 + 0 * y])
    waves = np.stack([4 * np.sin(y / 40), 3 * np.cos(x / 60)]).astype(np.float32)
    noise = random.normal(0, 3, (2, height, width)).astype(np.float32)
    for name, flow in (("a pan", pan), ("waves", waves), ("no order at all", noise)):
        grid = torch.from_numpy(
            np.stack([2 * (x + flow[0]) / (width - 1) - 1, 2 * (y + flow[1]) / (height - 1) - 1], -1)
        )
        given, place = torch.from_numpy(state)[None], grid[None]
        works: list[Callable[[], object]] = [
            lambda flow=flow: warp(state, flow, out=out),
            lambda given=given, place=place: torch.nn.functional.grid_sample(
                given, place, mode="bilinear", padding_mode="border", align_corners=True
            ),
        ]
        if find_spec("cv2") is not None:
            works.append(lambda flow=flow: _remap(state, x + flow[0], y + flow[1]))
        times = time_interleaved(works, rounds=3)
        floor = (2 * state.nbytes + flow.nbytes) / rate
        yield Row(f"warp of {STATES} channels by {name}", times[0], floor, "torch grid_sample", times[1])
        if len(times) > 2:
            yield Row(f"warp of {STATES} channels by {name}", times[0], floor, "OpenCV remap", times[2])


def _remap(state: Array, x: Array, y: Array) -> None:
    import cv2

    cv2.setNumThreads(1)
    for plane in state:
        cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def flow_cases(height: int, width: int) -> Iterator[tuple[str, Array, Array, Array]]:
    """Yield a name, a frame, the previous one, and the true flow, of textures that move in known ways."""
    margin = 60
    random = np.random.default_rng(6)
    noise = random.standard_normal((height + 2 * margin, width + 2 * margin))
    texture = gaussian_filter(noise, 1.2) + 3 * gaussian_filter(noise, 4) + 6 * gaussian_filter(noise, 12)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    y, x = np.mgrid[:height, :width].astype(np.float64)
    motions = {
        "pan": (3.3 + 0 * x, -1.6 + 0 * x, 0.0),
        "zoom": ((x - width / 2) * 0.01, (y - height / 2) * 0.01, 0.01),
        "waves": (4 * np.sin(y / 40), 3 * np.cos(x / 60), 0.02),
        "still, noisy": (0 * x, 0 * x, 0.02),
        "steps": (np.where((x // 80 + y // 80) % 2 > 0, 3.0, -2.0), np.where((x // 80) % 2 > 0, 1.0, -1.0), 0.01),
    }
    for name, (u, v, sigma) in motions.items():
        frame = map_coordinates(texture, [y + margin + v, x + margin + u], order=3)
        previous = texture[margin : margin + height, margin : margin + width]
        noisy = [
            np.clip(one + random.normal(0, sigma, one.shape), 0, 1).astype(np.float32) for one in (frame, previous)
        ]
        yield name, noisy[0], noisy[1], np.stack([u, v]).astype(np.float32)


def _measure_flow() -> Iterator[Row]:
    for name, frame, previous, true in flow_cases(HEIGHT // 2, WIDTH // 2):
        works: list[Callable[[], object]] = [lambda frame=frame, previous=previous: estimate_flow(frame, previous)]
        labels = [""]
        found = [estimate_flow(frame, previous)]
        if find_spec("cv2") is not None:
            import cv2

            cv2.setNumThreads(1)
            images = [(plane * 255 + 0.5).astype(np.uint8) for plane in (frame, previous)]
            for label, preset in (
                ("fast", cv2.DISOPTICAL_FLOW_PRESET_FAST),
                ("medium", cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
            ):
                search = cv2.DISOpticalFlow_create(preset)
                works.append(lambda search=search, images=images: search.calc(*images, None))
                found.append(search.calc(*images, None).transpose(2, 0, 1))
                labels.append(f"OpenCV DIS {label}")
        times = time_interleaved(works, rounds=3)
        errors = [float(np.hypot(*(flow - true))[20:-20, 20:-20].mean()) for flow in found]
        if len(times) == 1:
            yield Row(f"flow of {name}", times[0], note=f"end-point error {errors[0]:.3f}")
        for label, ms, error in zip(labels[1:], times[1:], errors[1:], strict=True):
            yield Row(
                f"flow of {name}", times[0], None, label, ms, f"end-point error {errors[0]:.3f}, peer {error:.3f}"
            )


def _measure_checks(rate: float) -> Iterator[Row]:
    state = np.zeros((STATES, HEIGHT // 2, WIDTH // 2), np.float32)
    ours, theirs = time_interleaved([lambda: is_within(state), lambda: np.isfinite(state).all()])
    yield Row(f"check of {STATES} channels", ours, state.nbytes / rate, "NumPy isfinite", theirs)
    frame = np.zeros((3, HEIGHT, WIDTH), np.float32)
    (ms,) = time_interleaved([lambda: largest_block_change(frame, frame)])
    yield Row("change of a frame by blocks", ms, 2 * frame.nbytes / rate)
