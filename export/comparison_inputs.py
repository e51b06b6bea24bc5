"""Inputs for the comparison of exported files: random tiles, and tiles of real clips and recordings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from export.onnx_export import Graph, random_inputs
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession

Tile = dict[str, NDArray[np.float32]]
MOST_BYTES = 48_000_000
"""Limit of the frames held of one clip, except for the frames of one window."""
SAMPLE_RATE = 16_000


def graph_tiles(
    graph: Graph, source: Path, count: int, *, clips: Sequence[Path] = (), audios: Sequence[Path] = ()
) -> Iterator[Tile]:
    """Return `count` random tiles of a graph, then as many real ones if there are suitable clips or recordings.

    Args:
        graph: The graph.
        source: Its float32 file, which computes the states of each tile from the previous one.
        count: Of each kind.
        clips: Videos, for graphs with frames.
        audios: Recordings, for graphs with audio.
    """
    tiles = random_tiles(graph.inputs, count, audio=graph.audio)
    if graph.audio is not None and audios:
        tiles = chain(tiles, audio_tiles(graph.inputs, audios, count, audio=graph.audio))
    elif clips and has_frames(graph.inputs):
        tiles = chain(tiles, real_tiles(graph.inputs, clips, count))
    if graph.derive is not None:
        tiles = map(graph.derive, tiles)
    return stream_tiles(source, tiles, graph.states) if graph.states else tiles


def random_tiles(
    shapes: dict[str, tuple[int, ...]], count: int, *, seed: int = 1, audio: str | None = None
) -> Iterator[Tile]:
    """Yield uniform noise in [0, 1], or normal noise of unit level for a waveform."""
    for index in range(count):
        tile = random_inputs(shapes, seed + index)
        if audio is not None:
            tile[audio] = np.random.default_rng(seed + index).standard_normal(shapes[audio], np.float32)
        yield tile


def real_tiles(
    shapes: dict[str, tuple[int, ...]], clips: Sequence[Path], count: int, *, seed: int = 1
) -> Iterator[Tile]:
    """Cut tiles of consecutive frames from each clip in turn, at random positions; other inputs stay noise.

    Raises:
        ValueError: A clip is smaller or shorter than a tile, or no input is a frame.
    """
    frame_inputs = {name: shape for name, shape in shapes.items() if _is_frame(shape)}
    if not frame_inputs:
        raise ValueError(f"got inputs {sorted(shapes)}; none of them has the shape of a frame")
    generator = np.random.default_rng(seed)
    for clip, indices in zip(clips, np.array_split(np.arange(count), len(clips)), strict=True):
        if not indices.size:
            continue
        frames = _decode(clip, sum(_length(shape) for shape in frame_inputs.values()))
        for index in indices:
            yield random_inputs(shapes, seed + int(index)) | _cut(frames, frame_inputs, generator, clip)


def audio_tiles(
    shapes: dict[str, tuple[int, ...]], audios: Sequence[Path], count: int, *, audio: str, seed: int = 1
) -> Iterator[Tile]:
    """Cut consecutive blocks from each recording in turn, mono at 16 kHz, scaled to unit level over the recording.

    Raises:
        ValueError: A recording is shorter than its share of the blocks.
    """
    length = shapes[audio][-1]
    for path, indices in zip(audios, np.array_split(np.arange(count), len(audios)), strict=True):
        if not indices.size:
            continue
        samples = _decode_audio(path)
        if len(samples) < length * len(indices):
            raise ValueError(
                f"{path} has {len(samples)} samples at 16 kHz; {len(indices)} blocks of {length} are needed: use a "
                "longer recording, or more of them"
            )
        for block, index in enumerate(indices):
            cut = samples[block * length : (block + 1) * length].reshape(shapes[audio])
            yield random_inputs(shapes, seed + int(index)) | {audio: cut}


def stream_tiles(path: Path, tiles: Iterator[Tile], states: Mapping[str, str]) -> Iterator[Tile]:
    """Yield tiles with initial states, then with the states that the file computed for the previous tile.

    Args:
        path: A float32 ONNX file of fixed shapes.
        tiles: Its inputs; states in them are replaced.
        states: State inputs, with the output that is their next value.
    """
    with OnnxRuntimeCpuSession(path, dimensions={}, precision="fp32", threads=1) as session:
        shapes = {binding.name: binding.shape for binding in session.inputs}
        carried = {name: np.zeros(shapes[name], np.float32) for name in states}
        for tile in tiles:
            yield tile | carried
            made = session.run(tile | carried)
            carried = {name: made[output] for name, output in states.items()}


def has_frames(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return True if an input has the shape of a frame."""
    return any(_is_frame(shape) for shape in shapes.values())


def _is_frame(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 4 and shape[-3] in (3, 4)


def _length(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 5 else 1


def _cut(
    frames: NDArray[np.uint8], frame_inputs: dict[str, tuple[int, ...]], generator: np.random.Generator, clip: Path
) -> Tile:
    """Cut all frame inputs at one position, each from the frames after those of the previous input."""
    length = sum(_length(shape) for shape in frame_inputs.values())
    height, width = (max(shape[axis] for shape in frame_inputs.values()) for axis in (-2, -1))
    spare = (frames.shape[0] - length, frames.shape[1] - height, frames.shape[2] - width)
    if min(spare) < 0:
        raise ValueError(
            f"{clip} has {frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}; a tile needs {length} of "
            f"{width}x{height}: use a longer or larger clip"
        )
    first, top, left = (int(generator.integers(0, limit + 1)) for limit in spare)
    tile: Tile = {}
    for name, shape in frame_inputs.items():
        last = first + _length(shape)
        cut = frames[first:last, top : top + shape[-2], left : left + shape[-1]].transpose(0, 3, 1, 2)
        frame = cut / np.float32(255)
        if shape[-3] == 4:
            level = np.full((len(frame), 1, *shape[-2:]), 10 / 255, np.float32)
            frame = np.concatenate((frame, level), axis=1)
        tile[name] = np.ascontiguousarray(frame.reshape(shape), np.float32)
        first = last
    return tile


def _decode(clip: Path, least: int, *, most: int = 60) -> NDArray[np.uint8]:
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) >= max(least, min(most, MOST_BYTES // frames[0].nbytes)):
                break
    return np.stack(frames)


def _decode_audio(path: Path) -> NDArray[np.float32]:
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    blocks: list[NDArray[np.float32]] = []
    with av.open(str(path)) as container:
        for frame in chain(container.decode(audio=0), (None,)):
            blocks.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    samples = np.concatenate(blocks)
    return samples / max(float(samples.std()), 1e-6)
