"""FP16 files are next to a model's float32 files, and are what the conversion makes of them."""

import shutil

import onnx
import pytest

from export.fp16.convert import Fp16Error, add_fp16
from runtime.engine.choose import offered_precisions
from runtime.manifest import find_model, list_models, zoo_folder

SHIPPED = [
    model.manifest.name for model in list_models() if any(file.precision == "fp16" for file in model.manifest.files)
]


def test_every_video_model_ships_one():
    assert [model.manifest.name for model in list_models() if model.manifest.video is not None] == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_fp16_file_is_what_the_conversion_makes_of_the_float_file(name, tmp_path):
    shutil.copytree(zoo_folder() / name, tmp_path / name)
    model = find_model(name, tmp_path)
    model.file(precision="fp16").unlink()

    made = add_fp16(model, tiles=2)

    assert made["step"].psnr_db >= 50
    again = find_model(name, tmp_path)
    path = again.file(precision="fp16")
    assert path.read_bytes() == find_model(name).file(precision="fp16").read_bytes()
    assert {side for value in onnx.load(path).graph.input for side in _names(value)} >= {"width"}
    assert len(again.manifest.files) == len(model.manifest.files)


def test_a_file_that_misses_the_gate_is_not_entered(tmp_path):
    shutil.copytree(zoo_folder() / "speech-mask", tmp_path / "speech-mask")

    with pytest.raises(Fp16Error, match="expected 500 dB"):
        add_fp16(find_model("speech-mask", tmp_path), tiles=2, gate_db=500)

    assert offered_precisions(find_model("speech-mask", tmp_path)) == ("fp32",)
    assert sorted(path.name for path in (tmp_path / "speech-mask").iterdir()) == ["manifest.json", "step.onnx"]


def _names(value):
    return [side.dim_param for side in value.type.tensor_type.shape.dim if side.dim_param]
