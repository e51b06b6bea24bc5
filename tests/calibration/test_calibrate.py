"""A shipped model is converted to INT8 with its ranges, its figures, and the layers that stay in float32."""

import io
import shutil
from functools import partial

import numpy as np
import onnx
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.sample_clip import render_frames
from calibration.calibrate import calibrate
from calibration.cli import app
from calibration.material import CalibrationRequest, score_with, split_clips
from calibration.quality import TestClip, measure_psnr
from export.int8.convert import write_int8
from export.int8.ranges import CalibrationError, file_digest, load_ranges
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import QuantScheme, find_model, list_models, zoo_folder

INT8 = [
    (model.manifest.name, file)
    for model in list_models()
    for file in model.manifest.files
    if file.calibration is not None
]


@pytest.fixture(scope="module")
def tested():
    """Two frames of the sample's first scene, a quarter as large for the network."""
    pytest.importorskip("skimage", reason="the sample's photographs come with scikit-image")
    gt = tuple(np.ascontiguousarray(frame[:176, :256]) for frame, _ in zip(render_frames(2), range(2), strict=False))
    small = (Image.fromarray(frame).resize((64, 44), Image.Resampling.BICUBIC) for frame in gt)
    return TestClip("sample", gt, tuple(np.asarray(frame) for frame in small))


@pytest.mark.parametrize(("name", "file"), INT8, ids=[f"{name} {file.form}" for name, file in INT8])
def test_a_shipped_int8_file_is_what_its_ranges_make_of_the_float_file(name, file, tmp_path):
    model = find_model(name)
    path = model.folder / file.calibration.path
    ranges = load_ranges(path)
    assert file_digest(path) == ranges.digest == file.calibration.digest
    shipped = model.file(precision="int8", form=file.form)
    written = onnx.load(shipped)
    layers = [node.name for node in written.graph.node if any(read.endswith("_dequantised") for read in node.input)]

    write_int8(model.file(), tmp_path / "again.onnx", ranges, layers=layers, scheme=QuantScheme(file.form))

    assert (tmp_path / "again.onnx").read_bytes() == shipped.read_bytes()
    assert not set(layers) & set(file.calibration.in_float)
    assert all(figure.before - figure.after <= 0.15 for figure in file.calibration.loss)
    assert file.calibration.loss
    assert not set(file.calibration.clips) & set(model.manifest.training.held_out)


def test_light_x4_in_int8_is_within_the_gate_on_the_sample_in_every_backend(tested):
    model = find_model("light-x4")
    score = score_with(partial(measure_psnr, model, [tested]))

    assert score({}) - score({"step": model.file(precision="int8")}) <= 0.15


def test_a_file_that_blows_up_scores_below_every_gate(tested, tmp_path):
    model = find_model("light-x4")
    broken = onnx.load(model.file())
    bias = next(tensor for tensor in broken.graph.initializer if tensor.name == "network.last.bias")
    bias.raw_data = np.full(48, np.nan, np.float32).tobytes()
    onnx.save(broken, tmp_path / "broken.onnx")

    assert score_with(partial(measure_psnr, model, [tested]))({"step": tmp_path / "broken.onnx"}) == float("-inf")


def test_psnr_is_that_of_the_shipped_pipeline(tested):
    model = find_model("light-x4")
    backend = ModelBackend(find_backend("cpu"))

    exact = measure_psnr(model, [tested], backend)

    worse = TestClip("other", tuple(255 - frame for frame in tested.gt), tested.lq)
    assert exact > 20
    assert measure_psnr(model, [worse], backend) < 12
    assert measure_psnr(model, [tested, worse], backend) == pytest.approx(
        (exact + measure_psnr(model, [worse], backend)) / 2
    )


def test_held_out_clips_are_measured_on_and_all_others_calibrated_with(tmp_path):
    model = find_model("light-x4")
    held_out = model.manifest.training.held_out[0]
    for name in ("a.mp4", held_out, "b.mp4"):
        (tmp_path / name).touch()

    names = model.manifest.training.held_out

    assert split_clips([tmp_path], names) == ([tmp_path / "a.mp4", tmp_path / "b.mp4"], [tmp_path / held_out])
    assert split_clips([tmp_path / "a.mp4"], names) == ([tmp_path / "a.mp4"], [tmp_path / "a.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="there are no clips in"):
        split_clips([tmp_path / "empty"], names)


@pytest.mark.slow
def test_calibrating_puts_file_ranges_and_figures_into_the_zoo(tmp_path):
    shutil.copytree(zoo_folder() / "light-x4", tmp_path / "zoo" / "light-x4")
    console = Console(file=io.StringIO(), width=120)
    request = CalibrationRequest("light-x4", frames=2, test_frames=2, ship=True, output=tmp_path / "out")

    made = calibrate(request, console=console, zoo=tmp_path / "zoo")

    model = find_model("light-x4", tmp_path / "zoo")
    file, signed = (file for file in model.manifest.files if file.precision == "int8")
    assert (file.form, signed.form) == ("cpu", "tensorrt")
    assert model.file(precision="int8", form="tensorrt").name == "step.int8-tensorrt.onnx"
    assert made.paths == {"step": model.file(precision="int8")}
    assert file.calibration.digest == made.ranges["step"].digest
    assert file.calibration.clips == ("sample.mp4",)
    assert "network.skip.weight" in {cost.weight for cost in made.costs if cost.layer in file.calibration.in_float}
    assert file.calibration.loss[0].before - file.calibration.loss[0].after <= 0.15
    assert (tmp_path / "out" / "light-x4.int8.json").exists()
    assert not list((tmp_path / "zoo" / "light-x4").glob(".*"))


def test_a_speech_model_without_speech_is_refused_with_a_message(tmp_path):
    result = CliRunner().invoke(app, ["calibrate", "speech-mask"])
    empty = CliRunner().invoke(app, ["calibrate", "speech-mask", "--clips", str(tmp_path)])

    assert (result.exit_code, empty.exit_code) == (1, 1)
    assert "one folder with speech/ and noise/; set it with --clips" in result.output
    assert "0 speech and 0 noise files" in empty.output
