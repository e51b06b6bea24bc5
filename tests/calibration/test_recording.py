"""Calibration data is what the shipped pipeline passes to its engine."""

import av
import numpy as np
import pytest

from calibration.recording import read_frames, record_calls
from kernels.warp import warp
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.errors import DecodeError
from runtime.manifest import find_model
from runtime.video.motion import MotionEstimator
from runtime.video.tile_plan import plan_canvas
from tests.media import write_clip

HEIGHT, WIDTH = 40, 52


@pytest.fixture
def clip(tmp_path):
    """A texture that moves by two columns a frame."""
    path = tmp_path / "moving.mkv"
    texture = np.kron(np.random.default_rng(5).integers(40, 215, (12, 20, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = [texture[:HEIGHT, 2 * shift : 2 * shift + WIDTH] for shift in range(4)]
    return write_clip(path, frames, codec="ffv1", pixel_format="yuv444p")


def test_the_engine_gets_the_frame_and_the_warped_state_tile_by_tile(clip):
    model = find_model("light-x4")
    frames = list(read_frames(clip, frames=3))
    canvas = plan_canvas(HEIGHT, WIDTH, model.manifest.video)
    assert len(canvas.tiles) > 1

    calls = list(record_calls(model, frames))

    assert len(calls) == 3 * len(canvas.tiles)
    first = calls[: len(canvas.tiles)]
    assert not any(call["hidden"].any() or call["previous"].any() for call in first)
    window = MotionEstimator(canvas, aligned=True)
    flows = [window.push(frame, pts=0, duration=1).flow for frame in frames]
    for number, tile in enumerate(canvas.tiles):
        place = (slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width))
        call = calls[len(canvas.tiles) + number]
        np.testing.assert_array_equal(call["frame"][0], frames[1][:, *place])
        moved = warp(frames[0], np.ascontiguousarray(flows[1][:, *place]), top=tile.top, left=tile.left)
        np.testing.assert_allclose(call["previous"][0], moved, atol=1e-6)
        assert call["hidden"].any()
        assert call["strength"] == [1]


def test_recorded_inputs_run_in_the_model(clip):
    model = find_model("light-x2")
    call = next(record_calls(model, read_frames(clip, frames=1)))
    height, width = call["hidden"].shape[2:]

    with OnnxRuntimeCpuSession(
        model.file(), dimensions={"height": height, "width": width}, precision="fp32", threads=1
    ) as session:
        assert {binding.name for binding in session.inputs} == set(call)
        assert np.isfinite(session.run(call)["output"]).all()


def test_larger_clips_are_brought_down(clip):
    frames = list(read_frames(clip, frames=9, side=20))

    assert [frame.shape for frame in frames] == [(3, 20, 24)] * 4
    assert all(frame.min() >= 0 and frame.max() <= 1 for frame in frames)


def test_audio_only_is_refused(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    with pytest.raises(DecodeError, match="has no video stream"):
        list(read_frames(path, frames=1))
