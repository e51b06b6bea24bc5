"""What exported files are compared on: random tiles, and tiles cut out of real clips and recordings."""

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
"""Of frames that are held of one clip; a window is held whole, however large its frames are."""
SAMPLE_RATE = 16_000


def graph_tiles(
    graph: Graph, source: Path, count: int, *, clips: Sequence[Path] = (), sounds: Sequence[Path] = ()
) -> Iterator[Tile]:
    """Return `count` random tiles of a graph, then as many real ones where there are clips or recordings that fit.

    Args:
        graph: What is compared.
        source: Its float32 file, which makes the states of each tile of the one before it.
        count: Of either kind.
        clips: Videos, for graphs that see pictures.
        sounds: Recordings, for graphs that hear.
    """
    tiles = random_tiles(graph.inputs, count, sound=graph.sound)
    if graph.sound is not None and sounds:
        tiles = chain(tiles, sound_tiles(graph.inputs, sounds, count, sound=graph.sound))
    elif clips and has_pictures(graph.inputs):
        tiles = chain(tiles, real_tiles(graph.inputs, clips, count))
    if graph.derive is not None:
        tiles = map(graph.derive, tiles)
    return stream_tiles(source, tiles, graph.states) if graph.states else tiles


def random_tiles(
    shapes: dict[str, tuple[int, ...]], count: int, *, seed: int = 1, sound: str | None = None
) -> Iterator[Tile]:
    """Yield noise in [0, 1]; for a waveform noise of unit level around 0."""
    for index in range(count):
        tile = random_inputs(shapes, seed + index)
        if sound is not None:
            tile[sound] = np.random.default_rng(seed + index).standard_normal(shapes[sound], np.float32)
        yield tile


def real_tiles(
    shapes: dict[str, tuple[int, ...]], clips: Sequence[Path], count: int, *, seed: int = 1
) -> Iterator[Tile]:
    """Cut tiles of consecutive frames out of clips in turn, at random places; inputs that are no pictures stay noise.

    Raises:
        ValueError: A clip is smaller or shorter than a tile, or no input is a picture.
    """
    pictures = {name: shape for name, shape in shapes.items() if _is_picture(shape)}
    if not pictures:
        raise ValueError(f"got inputs {sorted(shapes)}; none of them is a picture to cut out of a clip")
    generator = np.random.default_rng(seed)
    for clip, indices in zip(clips, np.array_split(np.arange(count), len(clips)), strict=True):
        if not indices.size:
            continue
        frames = _decode(clip, sum(_length(shape) for shape in pictures.values()))
        for index in indices:
            yield random_inputs(shapes, seed + int(index)) | _cut(frames, pictures, generator, clip)


def sound_tiles(
    shapes: dict[str, tuple[int, ...]], sounds: Sequence[Path], count: int, *, sound: str, seed: int = 1
) -> Iterator[Tile]:
    """Cut consecutive blocks out of recordings in turn, mono at 16 kHz and of unit level over the whole recording.

    Raises:
        ValueError: A recording is shorter than its share of the blocks.
    """
    length = shapes[sound][-1]
    for path, indices in zip(sounds, np.array_split(np.arange(count), len(sounds)), strict=True):
        if not indices.size:
            continue
        samples = _listen(path)
        if len(samples) < length * len(indices):
            raise ValueError(
                f"{path} has {len(samples)} samples at 16 kHz; {len(indices)} blocks of {length} are needed: give a "
                "longer recording, or more of them"
            )
        for block, index in enumerate(indices):
            cut = samples[block * length : (block + 1) * length].reshape(shapes[sound])
            yield random_inputs(shapes, seed + int(index)) | {sound: cut}


def stream_tiles(path: Path, tiles: Iterator[Tile], states: Mapping[str, str]) -> Iterator[Tile]:
    """Yield tiles with the states as they are where a stream begins, then as the file made them of the tile before.

    Args:
        path: A float32 ONNX file of fixed shapes.
        tiles: Its inputs; what they hold for states is replaced.
        states: Inputs, each with the output that it is in the next step.
    """
    with OnnxRuntimeCpuSession(path, dimensions={}, precision="fp32", threads=1) as session:
        shapes = {binding.name: binding.shape for binding in session.inputs}
        carried = {name: np.zeros(shapes[name], np.float32) for name in states}
        for tile in tiles:
            yield tile | carried
            made = session.run(tile | carried)
            carried = {name: made[output] for name, output in states.items()}


def has_pictures(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether an input is a picture."""
    return any(_is_picture(shape) for shape in shapes.values())


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 4 and shape[-3] in (3, 4)


def _length(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 5 else 1


def _cut(
    frames: NDArray[np.uint8], pictures: dict[str, tuple[int, ...]], generator: np.random.Generator, clip: Path
) -> Tile:
    """Cut all pictures at one place, each of the frames that follow those of the one before."""
    length = sum(_length(shape) for shape in pictures.values())
    height, width = (max(shape[axis] for shape in pictures.values()) for axis in (-2, -1))
    spare = (frames.shape[0] - length, frames.shape[1] - height, frames.shape[2] - width)
    if min(spare) < 0:
        raise ValueError(
            f"{clip} has {frames.shape[0]} frames of {frames.shape[2]}x{frames.shape[1]}; a tile needs {length} of "
            f"{width}x{height}: give a longer or larger clip"
        )
    first, top, left = (int(generator.integers(0, limit + 1)) for limit in spare)
    tile: Tile = {}
    for name, shape in pictures.items():
        last = first + _length(shape)
        cut = frames[first:last, top : top + shape[-2], left : left + shape[-1]].transpose(0, 3, 1, 2)
        picture = cut / np.float32(255)
        if shape[-3] == 4:
            level = np.full((len(picture), 1, *shape[-2:]), 10 / 255, np.float32)
            picture = np.concatenate((picture, level), axis=1)
        tile[name] = np.ascontiguousarray(picture.reshape(shape), np.float32)
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


def _listen(path: Path) -> NDArray[np.float32]:
    resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
    blocks: list[NDArray[np.float32]] = []
    with av.open(str(path)) as container:
        for frame in chain(container.decode(audio=0), (None,)):
            blocks.extend(part.to_ndarray()[0] for part in resampler.resample(frame))
    samples = np.concatenate(blocks)
    return samples / max(float(samples.std()), 1e-6)
