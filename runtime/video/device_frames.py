"""The work of one frame on a GPU: from its planes to the planes of the result, in buffers that are allocated once."""

import logging
from collections.abc import Collection
from itertools import accumulate, pairwise
from math import prod
from typing import Any, Final

import numpy as np

from kernels.colour import YuvLayout
from kernels.cuda.colour import rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.cuda.degradation import DegradationMeter
from kernels.cuda.flow import FlowEstimator
from kernels.cuda.measures import SceneDetector
from kernels.cuda.tiles import PlaneTable, add_tile, divide_by_weight, gather_tile, scatter_tile
from kernels.tiles import tile_window
from runtime.engine.device_memory import check_device_memory, count_free_bytes
from runtime.engine.session import DeviceTensors
from runtime.manifest import Model
from runtime.video.fallback import upscale_bicubic
from runtime.video.motion import LEAST_CHANGE, LEAST_UNEXPLAINED
from runtime.video.tile_plan import Canvas

logger = logging.getLogger(__name__)

SLOTS: Final = 3
"""Frames whose buffers are kept: two in flight, and the one before them, whose state they start from."""


class StagedPlanes:
    """The planes of a frame, one after the other, on the GPU and in page-locked memory: one transfer moves all."""

    def __init__(self, layout: YuvLayout, height: int, width: int) -> None:
        import cupy
        import cupyx

        shapes = _plane_shapes(layout, height, width)
        kind = np.uint8 if layout.bit_depth == 8 else np.uint16
        ends = list(accumulate(map(prod, shapes), initial=0))
        self.device = cupy.empty(ends[-1], kind)
        self.host = cupyx.empty_pinned(ends[-1], kind)
        self.on_gpu, self.on_host = (
            tuple(flat[begin:end].reshape(shape) for (begin, end), shape in zip(pairwise(ends), shapes, strict=True))
            for flat in (self.device, self.host)
        )


class Slot:
    """The buffers of one frame; `state` and `luma` are what the next frame needs of it.

    status: On the GPU and on the host, (1 + tiles,) uint32: whether a scene begins, and a validity flag for each tile.
    """

    def __init__(self, canvas: Canvas, layout_in: YuvLayout, layout_out: YuvLayout, state: tuple[int, Any]) -> None:
        import cupy
        import cupyx

        height, width, scale = canvas.source_height, canvas.source_width, canvas.scale
        self.given = StagedPlanes(layout_in, height, width)
        self.made = StagedPlanes(layout_out, height * scale, width * scale)
        self.luma = cupy.zeros((canvas.height, canvas.width), np.float32)
        channels, dtype = state
        self.state = cupy.zeros((channels, canvas.height, canvas.width), dtype)
        self.table = PlaneTable([self.state]) if channels else None
        self.status = cupy.zeros(1 + len(canvas.tiles), np.uint32)
        self.host_status = cupyx.empty_pinned(1 + len(canvas.tiles), np.uint32)
        self.cut = self.status[:1]
        self.flags = [self.status[1 + number : 2 + number] for number in range(len(canvas.tiles))]
        self.uploaded, self.computed, self.arrived = (
            cupy.cuda.Event(block=True, disable_timing=True) for _ in range(3)
        )
        self.preparation: Any = None
        """A CUDA graph of the steps before the tiles."""

    @property
    def failed(self) -> list[int]:
        """The tiles whose flag is set; once the frame has arrived."""
        return [int(number) for number in np.flatnonzero(self.host_status[1:])]


class _Blending:
    """The sum of tiles that overlap, and of their weights."""

    def __init__(self, canvas: Canvas, overlap: int, shape: tuple[int, ...]) -> None:
        import cupy

        scale = canvas.scale * canvas.grid
        self.sums = cupy.zeros((shape[0] + 1, *shape[1:]), np.float32)
        self.total, self.weight = self.sums[:-1], self.sums[-1]
        kept: dict[bytes, Any] = {}
        self.windows = []
        for tile in canvas.tiles:
            window = tile_window(tile, canvas.height, canvas.width, overlap=overlap, scale=scale)
            key = window.tobytes()
            kept[key] = kept[key] if key in kept else cupy.asarray(window)
            self.windows.append(kept[key])


class FrameWork:
    """Everything on the GPU except the engine's tensors, and the work of one frame."""

    def __init__(
        self,
        model: Model,
        tensors: DeviceTensors,
        canvas: Canvas,
        stream: Any,
        *,
        layout_in: YuvLayout,
        layout_out: YuvLayout,
    ) -> None:
        import cupy

        spec = model.manifest.video
        assert spec is not None
        self._canvas, self._tensors, self._stream = canvas, tensors, stream
        self._layout_in, self._layout_out = layout_in, layout_out
        self._aligned = spec.aligned_by == "flow"
        inputs = [tensors.inputs[state.input] for state in model.manifest.states]
        self.outputs = [tensors.outputs[state.output] for state in model.manifest.states]
        self._warped, self._made = (PlaneTable(arrays) if arrays else None for arrays in (inputs, self.outputs))
        channels = sum(array.shape[1] for array in inputs)
        kind = inputs[0].dtype if inputs else np.dtype(np.float32)
        height, width, grid = canvas.height, canvas.width, canvas.grid
        factor = canvas.scale * grid
        check_device_memory(
            count_bytes(canvas, layout_in, layout_out, channels * kind.itemsize, blended=spec.overlap > 0),
            count_free_bytes(cupy),
            what="the frames",
        )
        self.rgb = cupy.zeros((3, height * grid, width * grid), np.float32)
        self._output = cupy.zeros((3, height * factor, width * factor), np.float32)
        self._blending = _Blending(canvas, spec.overlap, self._output.shape) if spec.overlap else None
        self._flow = cupy.zeros((2, height, width), np.float32)
        self._still = self._flow if self._aligned else cupy.zeros((2, height, width), np.float32)
        self._moved_cut, self._reset = cupy.zeros(1, np.uint32), cupy.ones(1, np.uint32)
        self._estimator = FlowEstimator(height, width)
        self._detector = SceneDetector(height, width, least_change=LEAST_CHANGE, least_unexplained=LEAST_UNEXPLAINED)
        self._meter: DegradationMeter | None = None
        if "degradation" in tensors.inputs:
            size = canvas.source_height, canvas.source_width
            self._meter, self._fine_luma = DegradationMeter(*size), cupy.zeros(size, np.float32)
        self.slots = [Slot(canvas, layout_in, layout_out, (channels, kind)) for _ in range(SLOTS)]
        # Kernels are compiled and loaded by a first call, which may not happen while a graph is captured.
        self._prepare(0)
        for index, slot in enumerate(self.slots):
            slot.preparation = self._capture(index)

    def compute(
        self, index: int, *, is_first: bool, clean: Collection[int] = (), replaced: Collection[int] = ()
    ) -> None:
        """Enqueue the work of a frame whose planes lie in its slot.

        Args:
            index: The frame's.
            is_first: It begins a scene whatever is measured.
            clean: Tiles that start from a clean state.
            replaced: Tiles whose result is the bicubic upscaling; their pixels are waited for.
        """
        slot, before = self.slots[index % SLOTS], self.slots[(index - 1) % SLOTS]
        if slot.preparation is None:
            self._prepare(index)
        else:
            slot.preparation.launch(stream=self._stream)
        if is_first:
            slot.cut.fill(1)
        if self._blending is not None:
            self._blending.sums.fill(0)
        for number in range(len(self._canvas.tiles)):
            reset = self._reset if number in clean else slot.cut
            self._run_tile(number, before, slot, reset, is_replaced=number in replaced)
        if self._blending is not None:
            divide_by_weight(self._blending.total, self._blending.weight)
        rgb_to_yuv(self.result, self._layout_out, slot.made.on_gpu)

    @property
    def result(self) -> Any:
        """The newest frame's result on the GPU, cut to the source's size times the scale."""
        canvas, whole = self._canvas, self._output if self._blending is None else self._blending.total
        return whole[:, : canvas.source_height * canvas.scale, : canvas.source_width * canvas.scale]

    def _prepare(self, index: int) -> None:
        """Convert a frame's colour, estimate its motion, and decide whether it begins a scene."""
        slot, before = self.slots[index % SLOTS], self.slots[(index - 1) % SLOTS]
        yuv_to_rgb(slot.given.on_gpu, self._layout_in, self.rgb, repeat_edge=True)
        slot.status.fill(0)
        rgb_to_luma(self.rgb, self._canvas.grid, slot.luma)
        self._estimator.estimate(slot.luma, before.luma, self._flow)
        self._detector.measure(slot.luma, before.luma, slot.cut, flow=self._flow)
        if not self._aligned:
            # What changed may only have moved: a cut is one that neither explains.
            self._detector.measure(slot.luma, before.luma, self._moved_cut)
            slot.cut &= self._moved_cut
        if self._meter is not None:
            height, width = self._canvas.source_height, self._canvas.source_width
            rgb_to_luma(self.rgb[:, :height, :width], 1, self._fine_luma)
            self._meter.describe(self._fine_luma, self._tensors.inputs["degradation"])

    def _capture(self, index: int) -> Any:
        try:
            self._stream.begin_capture()
            try:
                self._prepare(index)
            finally:
                graph = self._stream.end_capture()
        except RuntimeError as error:
            logger.warning("no CUDA graph for the steps before the tiles, which is slightly slower: %s", error)
            return None
        return graph

    def _run_tile(self, number: int, before: Slot, slot: Slot, reset: Any, *, is_replaced: bool) -> None:
        tile, flag, canvas = self._canvas.tiles[number], slot.flags[number], self._canvas
        factor, has_states = canvas.scale * canvas.grid, self._warped is not None
        if is_replaced:
            self._replace(number)
        else:
            gather_tile(
                tile, self.rgb, self._tensors.inputs["frame"], grid=canvas.grid, states=before.table,
                flow=self._still if has_states else None, warped=self._warped, reset=reset, flag=flag,
            )  # fmt: skip
            self._tensors.enqueue(self._stream)
        result = self._tensors.outputs["output"]
        scatter_tile(tile, result, self._output, flag, factor=factor, states=self._made, canvases=slot.table)
        if self._blending is not None:
            window = self._blending.windows[number]
            add_tile(self._blending.total, self._blending.weight, tile, result[0], window, scale=factor)

    def _replace(self, number: int) -> None:
        """Replace the engine's outputs with the bicubic upscaling of a tile and clean states."""
        tile, grid, output = self._canvas.tiles[number], self._canvas.grid, self._tensors.outputs["output"]
        rows = slice(tile.top * grid, (tile.top + tile.height) * grid)
        columns = slice(tile.left * grid, (tile.left + tile.width) * grid)
        rgb = self.rgb[:, rows, columns].get(stream=self._stream)
        output.set(upscale_bicubic(rgb, self._canvas.scale)[None].astype(output.dtype), stream=self._stream)
        for array in self.outputs:
            array.fill(0)


def _plane_shapes(layout: YuvLayout, height: int, width: int) -> tuple[tuple[int, int], ...]:
    chroma = layout.chroma_shape(height, width)
    return (height, width), chroma, chroma


def count_bytes(canvas: Canvas, layout_in: YuvLayout, layout_out: YuvLayout, state_bytes: int, *, blended: bool) -> int:
    """Return the memory that the buffers take on the GPU, rounded up slightly.

    `state_bytes`: Of all states, for each pixel of the network's plane.
    """
    plane, scale = canvas.height * canvas.width, canvas.scale
    fine = plane * canvas.grid**2
    slot = plane * (4 + state_bytes)
    for layout, factor in ((layout_in, 1), (layout_out, scale)):
        shapes = _plane_shapes(layout, canvas.source_height * factor, canvas.source_width * factor)
        slot += sum(map(prod, shapes)) * (1 if layout.bit_depth == 8 else 2)
    # The flow and zeros, two pyramids, the coarser flows, two lists of patches, and blocks.
    motion = plane * (16 + 11 + 3 + 2 + 1)
    # The frame, the luma and wavelets for the degradation, the result, and where tiles are blended sums and windows.
    pixels = fine * (12 + 4 + 4) + fine * scale**2 * (12 + (16 + 4 if blended else 0))
    return SLOTS * slot + motion + pixels + (1 << 20)
