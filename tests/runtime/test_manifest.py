"""A model is used only if its manifest and files are unchanged since they were shipped."""

import json
import shutil

import pytest

from runtime.errors import ManifestError
from runtime.manifest import find_model, list_models, load_model, zoo_folder


@pytest.fixture
def copied(tmp_path):
    folder = tmp_path / "light-x4"
    shutil.copytree(zoo_folder() / "light-x4", folder)
    return folder


def test_every_shipped_model_is_complete():
    names = {model.manifest.name for model in list_models()}

    assert {"light-x4", "light-x2", "light-restore", "speech-demucs", "speech-mask"} <= names
    for model in list_models():
        assert model.file().is_file()
        assert model.folder.name == model.manifest.name
        assert model.manifest.quality, "a shipped model carries measured figures"


def test_a_flipped_bit_is_found_before_the_file_is_used(copied):
    path = copied / "step.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with pytest.raises(ManifestError, match="does not match its manifest"):
        load_model(copied).file()


def test_a_missing_file_is_named(copied):
    (copied / "step.onnx").unlink()

    with pytest.raises(ManifestError, match=r"step\.onnx cannot be read"):
        load_model(copied).file()


def test_a_precision_that_is_not_there_names_those_that_are():
    with pytest.raises(ManifestError, match="no step file in fp16; it offers step fp32"):
        find_model("speech-mask").file(precision="fp16")


def test_an_unknown_field_is_refused(copied):
    path = copied / "manifest.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "colour": "blue"}))

    with pytest.raises(ManifestError, match="is not valid"):
        load_model(copied)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_multiple": 24}, r"tile_shapes .* must be multiples of 24"),
        ({"look_ahead": 3, "window_overlap": 4}, "window_overlap is 4, expected at most look_ahead 3"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(copied, changes, message):
    path = copied / "manifest.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "video": {**fields["video"], **changes}}))

    with pytest.raises(ManifestError, match=message):
        load_model(copied)


def test_broken_json_is_refused(copied):
    (copied / "manifest.json").write_text("{")

    with pytest.raises(ManifestError, match="is not valid"):
        load_model(copied)


def test_an_unknown_model_names_those_there_are():
    with pytest.raises(ManifestError, match=r"no model named vast; the zoo has: .*light-x4"):
        find_model("vast")
