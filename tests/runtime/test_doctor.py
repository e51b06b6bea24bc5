import hashlib
import json
import shutil
from importlib.util import find_spec

import pytest

from runtime import doctor, hardware
from runtime.engine.benchmark import measure_model
from runtime.engine.choose import offered_precisions
from runtime.engine.speeds import digest_files, read_speeds
from runtime.errors import ManifestError
from runtime.manifest import find_model, list_models, zoo_folder


def test_the_machine_is_described():
    box = hardware.detect_hardware()

    assert box.cores >= 1
    assert box.memory_bytes > 10**8
    assert box.cpu


def test_without_the_tool_of_the_driver_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert hardware.detect_hardware().gpus == ()


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 'Orin, 1024 MiB, 580'", ("Orin, 1024 MiB, 580",)),
        ("echo broken; exit 9", ()),
    ],
)
def test_gpus_are_listed_from_the_driver_tool(monkeypatch, tmp_path, script, gpus):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert hardware.detect_hardware().gpus == gpus


def test_the_codecs_of_the_presets_can_be_written():
    codecs = {codec.name: codec for codec in doctor.diagnose(trials=False).codecs}

    for name in ("h264", "hevc", "av1", "prores", "ffv1"):
        assert codecs[name].decoders
        assert codecs[name].encoders


def test_a_missing_library_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "soxr" else find_spec(name))

    diagnosis = doctor.diagnose(trials=False)

    assert "soxr is missing: pip install 'soxr'" in diagnosis.problems
    missing = {entry.name for entry in diagnosis.libraries if entry.version is None}
    assert "soxr" in missing


def test_a_missing_optional_library_is_no_problem():
    diagnosis = doctor.diagnose(trials=False)

    optional = [entry for entry in diagnosis.libraries if entry.optional]
    assert optional
    assert all(entry.remedy.startswith("pip install 'relume[") for entry in optional)
    assert not any(entry.name in line for entry in optional for line in diagnosis.problems)


def test_a_preset_without_its_models_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "list_models", list)

    problems = doctor.diagnose(trials=False).problems

    assert "preset sound-only lacks speech-mask: reinstall Relume" in problems
    assert "preset upscale lacks light-restore, light-x2, light-x4, speech-mask: reinstall Relume" in problems


def test_a_broken_zoo_is_a_problem_and_no_crash(monkeypatch):
    def broken() -> None:
        raise ManifestError("manifest x is not valid")

    monkeypatch.setattr(doctor, "list_models", broken)

    assert "manifest x is not valid" in doctor.diagnose().problems


def test_without_a_measurement_the_default_backend_is_used_with_a_hint(tmp_path):
    diagnosis = doctor.diagnose(trials=False, engines=tmp_path)

    used = [backend for backend in diagnosis.backends if backend.used]
    assert [backend.name for backend in used] == ["cpu"]
    assert used[0].reason
    assert {(choice.backend, choice.precision) for choice in diagnosis.choices} == {("cpu", "fp32")}
    assert all("`relume doctor`" in choice.reason for choice in diagnosis.choices)
    assert not list(tmp_path.iterdir())


def test_every_shipped_model_is_intact_runs_in_every_way_and_its_speeds_are_kept(tmp_path):
    diagnosis = doctor.diagnose(engines=tmp_path, budget_s=0.05)

    assert diagnosis.problems == ()
    for model in list_models():
        name = model.manifest.name
        ways = {(speed.backend, speed.precision) for speed in diagnosis.speeds if speed.model == name}
        assert ("cpu", "fp32") in ways
        assert ways >= {("cpu", precision) for precision in offered_precisions(model) if precision != "fp16"}
    assert all(speed.ms > 0 and speed.runs >= 3 for speed in diagnosis.speeds)
    assert read_speeds(tmp_path) == diagnosis.speeds
    assert all("measured here" in choice.reason for choice in diagnosis.choices)
    assert {choice.model for choice in diagnosis.choices} == {model.manifest.name for model in list_models()}


def test_speeds_that_cannot_be_kept_are_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "list_models", lambda: [find_model("speech-mask")])
    (tmp_path / "file").touch()

    diagnosis = doctor.diagnose(engines=tmp_path / "file", budget_s=0.01)

    assert any("cannot store the benchmarks" in problem for problem in diagnosis.problems)


def test_an_altered_model_is_a_problem_and_is_not_run(monkeypatch, tmp_path):
    name = "light-x4"
    shutil.copytree(zoo_folder() / name, tmp_path / name)
    (tmp_path / name / "step.onnx").write_bytes(b"altered")
    monkeypatch.setattr(doctor, "list_models", lambda: list_models(tmp_path))

    diagnosis = doctor.diagnose()

    assert any("does not match its manifest" in problem for problem in diagnosis.problems)
    assert [state.name for state in diagnosis.models if state.problem] == [name]
    assert diagnosis.speeds == diagnosis.choices == ()


def test_an_owners_own_models_are_examined_and_measured_too(monkeypatch, chain_model, tmp_path):
    own = chain_model(name="mine")
    monkeypatch.setattr(doctor, "list_models", lambda zoo=None: list_models(zoo) if zoo else [])
    monkeypatch.setattr(doctor, "PRESETS", {})

    diagnosis = doctor.diagnose(engines=tmp_path / "engines", own=own.folder.parent, budget_s=0.01)

    assert diagnosis.problems == ()
    assert [state.name for state in diagnosis.models] == ["mine"]
    assert {(speed.model, speed.backend) for speed in diagnosis.speeds} >= {("mine", "cpu")}
    assert all(speed.ms > 0 for speed in diagnosis.speeds)
    assert [choice.model for choice in diagnosis.choices] == ["mine"]


def test_all_parts_of_a_model_are_measured_and_a_change_of_any_is_another_measurement(chain_model):
    model = chain_model()
    (path,) = [file.path for file in model.manifest.files if file.role == "reconstruction"]
    (whole, *_) = measure_model(model, budget_s=0)
    assert whole.sha256 == digest_files(model, "fp32")

    damaged = (model.folder / path).read_bytes()[:-9]
    (model.folder / path).write_bytes(damaged)
    files = tuple(
        file.model_copy(update={"sha256": hashlib.sha256(damaged).hexdigest()} if file.path == path else {})
        for file in model.manifest.files
    )
    changed = model.model_copy(update={"manifest": model.manifest.model_copy(update={"files": files})})

    (speed, *_) = measure_model(changed, budget_s=0)
    assert "reconstruction.onnx" in speed.problem
    assert speed.sha256 != whole.sha256


def test_an_untrained_model_is_a_problem(monkeypatch, tmp_path):
    shutil.copytree(zoo_folder() / "light-x4", tmp_path / "light-x4")
    manifest = tmp_path / "light-x4" / "manifest.json"
    fields = json.loads(manifest.read_text())
    fields["training"]["iterations"] = 0
    manifest.write_text(json.dumps(fields))
    monkeypatch.setattr(doctor, "list_models", lambda: list_models(tmp_path))

    assert "model light-x4 is untrained: reinstall Relume" in doctor.diagnose(trials=False).problems


def test_the_diagnosis_can_be_written_as_json():
    from appliance.console import show_diagnosis

    diagnosis = doctor.diagnose(trials=False)

    shown = json.loads(show_diagnosis(diagnosis, as_json=True))
    assert shown["hardware"]["cores"] == diagnosis.hardware.cores
