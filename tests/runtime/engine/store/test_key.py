"""The key changes with everything that an engine depends on, and only with that."""

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from runtime.engine.device import EngineDevice, EngineType
from runtime.engine.store import key as key_module
from runtime.engine.store.key import EngineRequest, make_key, request_engine
from runtime.errors import ManifestError

REQUEST = EngineRequest(
    "light-x4", Path("/zoo/step.onnx"), "a" * 64, (("height", 180), ("width", 320)), "int8", "c" * 64, EngineType.RTX
)
DEVICE = EngineDevice("11.2", "NVIDIA RTX A2000 12GB", "sm86", 12 << 30, "580.65", "13.0")
OTHER_REQUESTS = {
    "model": "light-x2",
    "sha256": "b" * 64,
    "dimensions": (("height", 180), ("width", 322)),
    "precision": "fp16",
    "calibration": "d" * 64,
    "engine_type": EngineType.TENSORRT,
}
OTHER_DEVICES = {
    "runtime_version": "11.3",
    "product": "NVIDIA RTX A4000",
    "capability": "sm89",
    "memory_bytes": 6 << 30,
    "driver": "581.01",
    "cuda": "13.1",
}


@pytest.mark.parametrize("part", OTHER_REQUESTS)
def test_another_request_is_another_key(part: str) -> None:
    other = replace(REQUEST, **{part: OTHER_REQUESTS[part]})

    assert make_key(other, DEVICE).name != make_key(REQUEST, DEVICE).name


@pytest.mark.parametrize("part", OTHER_DEVICES)
def test_another_device_driver_or_library_is_another_key(part: str) -> None:
    other = replace(DEVICE, **{part: OTHER_DEVICES[part]})

    assert make_key(REQUEST, other).name != make_key(REQUEST, DEVICE).name


def test_nothing_is_left_out_of_the_key() -> None:
    assert OTHER_REQUESTS.keys() | {"source"} == {field.name for field in fields(EngineRequest)}
    assert OTHER_DEVICES.keys() == {field.name for field in fields(EngineDevice)}


def test_another_builder_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_key(REQUEST, DEVICE)
    monkeypatch.setattr(key_module, "BUILDER_VERSION", 2)

    assert make_key(REQUEST, DEVICE).name != before.name


def test_where_the_file_lies_changes_nothing() -> None:
    moved = replace(REQUEST, source=Path("/elsewhere/step.onnx"))

    assert make_key(moved, DEVICE) == make_key(REQUEST, DEVICE)


def test_the_name_can_be_read() -> None:
    name = make_key(REQUEST, DEVICE).name

    assert name.startswith("light-x4-int8-320x180-rtx-11.2-nvidia-rtx-a2000-12gb-")
    assert len(name.rpartition("-")[2]) == 12


def test_a_changed_model_file_or_calibration_is_another_request(model_folder: Path) -> None:
    source, manifest = model_folder / "step.onnx", model_folder / "manifest.json"
    described = json.loads(manifest.read_text())
    entry = next(entry for entry in described["files"] if entry["path"] == "step.onnx")

    def ask() -> EngineRequest:
        manifest.write_text(json.dumps(described))
        return request_engine(
            source, dimensions={"height": 32, "width": 32, "batch": 1}, engine_type=EngineType.OPENVINO
        )

    before = ask()
    ranges = {"path": "ranges.json", "digest": "e" * 64, "method": "minmax", "samples": 8}
    entry["calibration"] = {**ranges, "clips": [], "in_float": [], "loss": []}
    calibrated = ask()
    source.write_bytes(source.read_bytes() + b"\0")
    entry["sha256"] = hashlib.sha256(source.read_bytes()).hexdigest()
    changed = ask()

    assert before.dimensions == (("height", 32), ("width", 32))
    assert calibrated == replace(before, calibration="e" * 64)
    assert changed == replace(calibrated, sha256=entry["sha256"])
    entry["sha256"] = "0" * 64
    with pytest.raises(ManifestError, match="does not match its manifest"):
        ask()


def test_what_a_request_lacks_is_reported(model_folder: Path) -> None:
    with pytest.raises(ManifestError, match="got sizes for height, but an engine of model light-x4 also needs width"):
        request_engine(model_folder / "step.onnx", dimensions={"height": 32}, engine_type=EngineType.OPENVINO)
    with pytest.raises(ManifestError, match=r"other\.onnx is not a file of model light-x4; its files are step\.onnx"):
        request_engine(model_folder / "other.onnx", dimensions={"height": 32}, engine_type=EngineType.OPENVINO)
