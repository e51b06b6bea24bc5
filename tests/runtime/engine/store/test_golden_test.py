"""The golden test passes engines that agree with FP32, and no others."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.engine_builders import build_engine
from runtime.engine.device import EngineType
from runtime.engine.store.builder import BuildOutcome
from runtime.engine.store.inventory import EngineState, list_engines
from runtime.engine.store.key import request_engine
from runtime.engine.store.layout import FAILURE, BuildFailure, FailureKind
from runtime.errors import EngineStoreError, ManifestError
from runtime.golden_test import GoldenTestError, NotRunnableError, find_seam, make_clip, validate_engine, verify_engine
from runtime.manifest import find_model, zoo_folder
from runtime.video.tile_plan import plan_canvas

SIZES = {"height": 32, "width": 32}


@pytest.fixture
def prove_spoilt(wanted, tmp_path: Path) -> Callable[..., object]:
    """Return a function that builds an engine of a corrupted copy and runs the original model's golden test on it."""

    def run(corrupt: Callable[[onnx.ModelProto], None]) -> object:
        network = onnx.load(wanted.source)
        corrupt(network)
        onnx.save(network, tmp_path / "spoilt.onnx")
        blob = tmp_path / "engine.blob"
        build_engine(tmp_path / "spoilt.onnx", blob, engine_type=EngineType.OPENVINO, dimensions=SIZES)
        return validate_engine(wanted, blob, threads=2)

    return run


def change_weights(network: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    weights = max(network.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weights.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(weights).copy()), weights.name))


def add_to_output(network: onnx.ModelProto, values: np.ndarray) -> None:
    for node in network.graph.node:
        node.output[:] = ["plain" if name == "output" else name for name in node.output]
    network.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), "added"))
    network.graph.node.append(helper.make_node("Add", ["plain", "added"], ["output"]))


def test_a_true_engine_passes(prove_spoilt) -> None:
    assert prove_spoilt(onnx.checker.check_model).agreement_db > 100


def test_altered_weights_fail(prove_spoilt) -> None:
    with pytest.raises(GoldenTestError, match=r"PSNR against ONNX Runtime in FP32 is [\d.]+ dB, expected 50 dB"):
        prove_spoilt(lambda network: change_weights(network, lambda weights: weights * 1.5))


def test_what_is_not_finite_fails(prove_spoilt) -> None:
    with pytest.raises(GoldenTestError, match=r"^\d+ of its tiles have NaN"):
        prove_spoilt(lambda network: change_weights(network, lambda weights: weights * np.float32(np.nan)))


def test_a_faulty_model_is_distinguished_from_a_faulty_engine(wanted, tmp_path: Path) -> None:
    network = onnx.load(wanted.source)
    change_weights(network, lambda weights: weights * np.float32(1e9))
    onnx.save(network, wanted.source)
    manifest = wanted.source.parent / "manifest.json"
    described = json.loads(manifest.read_text())
    described["files"][0]["sha256"] = hashlib.sha256(wanted.source.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(described))
    blob = tmp_path / "engine.blob"
    build_engine(wanted.source, blob, engine_type=EngineType.OPENVINO, dimensions=SIZES)

    with pytest.raises(GoldenTestError, match=r"in FP32 too: the model itself is at fault"):
        validate_engine(wanted, blob, threads=2)


def test_a_seam_fails_although_the_image_is_close(prove_spoilt) -> None:
    band = np.zeros((1, 1, 128, 128))
    # Just before column 104 of the enlarged tile, where the second tile begins.
    band[..., 88:104] = 0.004

    with pytest.raises(GoldenTestError, match=r"visible seam: the error where two tiles meet is [\d.]+ times"):
        prove_spoilt(lambda network: add_to_output(network, band))


def test_an_even_error_is_no_seam() -> None:
    spec = find_model("light-x4").manifest.video.model_copy(update={"tile_shapes": ((32, 32),)})
    canvas = plan_canvas(32, 52, spec)
    error = np.random.default_rng(0).normal(0, 0.01, (3, 128, 208)).astype(np.float32)

    assert 0.8 < find_seam([error], canvas) < 1.2
    assert find_seam([error * 1e-6], canvas) < 0.01


def test_what_cannot_be_opened_is_reported(wanted, tmp_path: Path) -> None:
    (tmp_path / "engine.blob").write_bytes(b"no engine")

    with pytest.raises(NotRunnableError, match=r"engine\.blob cannot be opened here"):
        validate_engine(wanted, tmp_path / "engine.blob", threads=1)


def test_an_engine_that_fails_goes_into_quarantine(store, wanted, build, monkeypatch) -> None:
    monkeypatch.setattr("runtime.golden_test.MIN_AGREEMENT_DB", {"fp32": 1000.0})
    result = build(store, wanted)

    assert result.outcome is BuildOutcome.FAILED_TEST
    assert store.find(wanted) is None
    (listed,) = list_engines(store)
    assert (listed.state, listed.reason) == (EngineState.QUARANTINED, result.reason)
    assert BuildFailure.read(store.layout.quarantine / result.name / FAILURE).kind is FailureKind.FAILED_TEST
    assert (store.layout.quarantine / result.name / "engine.blob").exists()


def test_verifying_runs_the_golden_test_again(store, wanted, build, monkeypatch) -> None:
    name = build(store, wanted).name

    audio = verify_engine(store, name[:12], threads=2)
    monkeypatch.setattr("runtime.golden_test.MAX_LOSS_DB", -1.0)
    failed = verify_engine(store, name, threads=2)

    assert (audio.defect, audio.golden_test.agreement_db > 100) == ("", True)
    assert "dB, expected at most -1.0 dB" in failed.defect
    assert store.find(wanted) is None
    with pytest.raises(EngineStoreError, match="no ready engines have names that start with"):
        verify_engine(store, name, threads=2)


def test_an_int8_engine_is_judged_by_its_quality(store, build) -> None:
    model = find_model("light-x4")
    if all(file.precision != "int8" for file in model.manifest.files):
        pytest.skip("light-x4 ships no INT8 file")
    path = model.file(precision="int8")

    assert (
        build(store, request_engine(path, dimensions=SIZES, engine_type=EngineType.OPENVINO)).outcome
        is BuildOutcome.READY
    )
    (listed,) = list_engines(store)
    assert 40 < listed.proof.agreement_db < 90
    assert abs(listed.proof.quality_loss_db) < 0.15


@pytest.mark.parametrize("name", ["speech-mask", pytest.param("speech-demucs", marks=pytest.mark.slow)])
def test_speech_models_have_golden_audio(store, build, name: str) -> None:
    source = find_model(name).file()
    request = request_engine(source, dimensions={"samples": 1024}, engine_type=EngineType.OPENVINO)

    assert build(store, request).outcome is BuildOutcome.READY
    (listed,) = list_engines(store)
    assert listed.proof.agreement_db > 80


def test_the_clip_moves_and_its_truth_is_what_it_was_made_of() -> None:
    clip = make_clip(24, 900, scale=4, count=3)

    assert [frame.shape for frame in clip.frames] == [(3, 24, 900)] * 3
    assert [truth.shape for truth in clip.truths] == [(3, 96, 3600)] * 3
    np.testing.assert_array_equal(clip.truths[0][:, 2:, 5:], clip.truths[1][:, :-2, :-5])
    reduced = clip.truths[1].reshape(3, 24, 4, 900, 4).mean(axis=(2, 4))
    assert 0.01 < np.sqrt(np.mean((reduced - clip.frames[1]) ** 2)) < 0.02


def test_the_stored_clip_is_small_and_made_by_the_script(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    from PIL import Image

    from export.golden_clip import make_golden

    stored = zoo_folder() / "golden"
    made = Path(shutil.copytree(stored, tmp_path / "golden"))
    try:
        make_golden(made)
    except (OSError, ValueError) as error:
        pytest.skip(f"a photograph of scikit-image cannot be had here: {error}")

    assert sum(path.stat().st_size for path in stored.iterdir()) < 150_000
    assert (made / "speech.wav").read_bytes() == (stored / "speech.wav").read_bytes()
    frames = [np.asarray(Image.open(folder / "picture.webp"), np.float32) for folder in (made, stored)]
    assert np.abs(frames[0] - frames[1]).mean() < 1


def test_a_model_without_fp32_cannot_be_compared(wanted, tmp_path: Path) -> None:
    manifest = wanted.source.parent / "manifest.json"
    described = json.loads(manifest.read_text())
    described["files"] = [
        {**entry, "precision": "fp16"} for entry in described["files"] if entry["path"] == "step.onnx"
    ]
    manifest.write_text(json.dumps(described))

    with pytest.raises(ManifestError, match="has no step file in fp32"):
        validate_engine(wanted, tmp_path / "engine.blob", threads=1)
