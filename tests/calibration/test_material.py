"""The material that a model is calibrated with and measured on."""

import numpy as np
import pytest
import soundfile

from benchmarks.sample_clip import make_audio
from calibration.material import RECIPE, CalibrationRequest, read_material, score_with
from export.int8.ranges import CalibrationError
from runtime.manifest import find_model
from training.loop import load_recipe
from training.speech import SpeechSettings
from training.speech_data import SAMPLE_RATE


@pytest.fixture
def media(tmp_path):
    """Speakers and noises, one more of each than are held out."""
    settings = SpeechSettings.model_validate(load_recipe(RECIPE).task)
    generator = np.random.default_rng(1)
    speakers = [f"speech/{index}.wav" for index in range(settings.held_out_speakers + 1)]
    for name in (*speakers, *(f"noise/{name}.wav" for name in (*settings.held_out_noise, "own/hum"))):
        path = tmp_path / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = generator.normal(0, 0.1, SAMPLE_RATE)
        soundfile.write(path, make_audio(SAMPLE_RATE) if name in speakers else noise, SAMPLE_RATE)
    return tmp_path / "media"


def test_speech_is_calibrated_with_what_training_heard_and_measured_on_what_it_did_not(media, tmp_path):
    model = find_model("speech-mask")
    request = CalibrationRequest("speech-mask", clips=(media,), frames=2, test_frames=1)

    material = read_material(model, request, tmp_path)

    assert [name.partition(" with ")[2] for name in material.calibrated] == ["own/hum"]
    assert len(list(material.samples("step"))) == 2
    assert "5 mixtures" in material.data
    assert material.title.startswith("SI-SDR")
    score = score_with(material.measure, backends=("cpu",))
    assert np.isfinite(score({}))


def test_a_clip_to_measure_on_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "a.mp4").touch()
    request = CalibrationRequest("light-x4", clips=(tmp_path,), test_clips=("b.mp4",))

    with pytest.raises(CalibrationError, match=r"no clip of --clips is named b\.mp4"):
        read_material(find_model("light-x4"), request, tmp_path)
