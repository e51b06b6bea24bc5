"""Files are compared on realistic inputs: consecutive frames, audio at unit level, states as they occur."""

from pathlib import Path

import av
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.comparison_inputs import audio_tiles, graph_tiles, random_tiles, real_tiles, stream_tiles
from export.onnx_export import Graph
from tests import media


def write_clip(path: Path, *, first: int, count: int = 4) -> Path:
    """Write frames whose grey level is their number."""
    frames = [np.full((12, 16, 3), index, np.uint8) for index in range(first, first + count)]
    return media.write_clip(path, frames, codec="ffv1", pixel_format="bgr0")


def write_audio(path: Path, samples: int) -> Path:
    tone = (8000 * np.sin(np.arange(samples) / 20)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_the_frames_of_a_tile_are_consecutive(tmp_path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", first=10)
    for tile in real_tiles({"one": (1, 3, 8, 8), "two": (1, 2, 3, 8, 8), "not": (1, 5)}, [clip], 5):
        levels = [round(float(level) * 255) for level in (*tile["one"][:, 0, 0, 0], *tile["two"][0, :, 0, 0, 0])]
        assert levels in ([10, 11, 12], [11, 12, 13])
        assert tile["not"].shape == (1, 5)


def test_every_clip_gives_its_share(tmp_path) -> None:
    clips = [write_clip(tmp_path / f"{first}.mkv", first=first) for first in (10, 100)]
    tiles = list(real_tiles({"frame": (1, 3, 8, 8)}, clips, 5))
    assert [tile["frame"][0, 0, 0, 0] * 255 < 50 for tile in tiles] == [True, True, True, False, False]


def test_blocks_of_a_recording_follow_each_other_at_unit_level(tmp_path) -> None:
    audio = write_audio(tmp_path / "tone.wav", 4000)
    blocks = [tile["x"] for tile in audio_tiles({"x": (1, 1, 1000)}, [audio], 4, audio="x")]
    joined = np.concatenate(blocks, axis=-1)[0, 0]
    assert joined.std() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(joined, np.sqrt(2) * np.sin(np.arange(4000) / 20), atol=0.02)


def test_a_recording_that_is_too_short_is_refused(tmp_path) -> None:
    audio = write_audio(tmp_path / "tone.wav", 3000)
    with pytest.raises(ValueError, match="has 3000 samples at 16 kHz; 4 blocks of 1000 are needed: use a longer"):
        list(audio_tiles({"x": (1, 1, 1000)}, [audio], 4, audio="x"))


def test_noise_for_ears_has_no_mean() -> None:
    (tile,) = random_tiles({"x": (1, 1, 4096), "other": (1, 4096)}, 1, audio="x")
    assert abs(tile["x"].mean()) < 0.1
    assert tile["other"].min() >= 0


def counter(path: Path) -> Path:
    """Write a graph whose state is the sum of its inputs."""
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 1, 4)) for name in ("x", "s", "t")}
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "s"], ["t"])], "sum", [values["x"], values["s"]], [values["t"]]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_states_are_what_the_file_made_of_the_tile_before(tmp_path) -> None:
    given = [
        {"x": np.full((1, 1, 4), level, np.float32), "s": np.full((1, 1, 4), 9, np.float32)} for level in (1, 2, 4)
    ]
    tiles = stream_tiles(counter(tmp_path / "sum.onnx"), iter(given), {"s": "t"})
    assert [float(tile["s"][0, 0, 0]) for tile in tiles] == [0, 1, 3]


def test_a_graph_gets_random_tiles_then_real_ones_with_what_follows_from_them(tmp_path) -> None:
    graph = Graph(
        "step",
        None,
        {"x": (1, 1, 4), "s": (1, 1, 4)},
        ("t",),
        states={"s": "t"},
        audio="x",
        derive=lambda tile: tile | {"x": 2 * tile["x"]},
    )
    source = counter(tmp_path / "sum.onnx")
    audio = write_audio(tmp_path / "tone.wav", 4000)

    tiles = list(graph_tiles(graph, source, 2, audios=[audio]))

    assert len(tiles) == 4
    np.testing.assert_allclose(tiles[2]["x"][0, 0], 2 * np.sqrt(2) * np.sin(np.arange(4) / 20), atol=0.02)
    np.testing.assert_allclose(tiles[3]["s"], sum(tile["x"] for tile in tiles[:3]), rtol=1e-5)
