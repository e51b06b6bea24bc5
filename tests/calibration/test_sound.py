"""A speech model's calibration data is what the shipped pipeline passes to its engine."""

from itertools import pairwise

import av
import numpy as np
import pytest

from benchmarks.sample_clip import SAMPLE_RATE, make_audio
from calibration.recording import record_blocks
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.errors import DecodeError
from runtime.manifest import find_model


@pytest.fixture
def recording(tmp_path):
    """One second of very quiet, speech-like audio."""
    path = tmp_path / "quiet.wav"
    audio = (make_audio(SAMPLE_RATE) * 0.01 * 32767).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_blocks_come_at_their_tracked_level_with_the_state_of_the_block_before(recording):
    model = find_model("speech-mask")

    calls = list(record_blocks(model, recording, blocks=12))

    assert len(calls) == 12
    loudest = max(np.abs(call["x"]).max() for call in calls)
    assert loudest > 0.5, "a hundredth of full scale went in; the level tracker brings it up"
    samples = calls[0]["x"].shape[-1]
    with OnnxRuntimeCpuSession(model.file(), dimensions={"samples": samples}, precision="fp32", threads=1) as session:
        for call, following in pairwise(calls):
            made = session.run(call)
            for state in model.manifest.states:
                np.testing.assert_allclose(following[state.input], made[state.output], atol=1e-6)


def test_video_alone_is_refused(tmp_path):
    path = tmp_path / "silent.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv444p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))

    with pytest.raises(DecodeError, match="has no audio stream"):
        list(record_blocks(find_model("speech-mask"), path, blocks=1))
