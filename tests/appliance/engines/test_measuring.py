"""A server measures its backends once while it is idle, stops for a job, and repeats no valid measurement."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from appliance.engines.measuring import SpeedKeeper, measure_missing
from runtime import manifest
from runtime.closing import Closing
from runtime.engine import backends, benchmark, choose
from runtime.engine.backends import BackendInfo, find_backend, list_backends
from runtime.engine.benchmark import list_unmeasured, measure_model
from runtime.engine.choose import BackendPreference, candidates_for, choose_engine
from runtime.engine.device import EngineType, detect_device
from runtime.engine.speeds import Speed, describe_device, read_speeds, write_speeds
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.layout import GoldenTestResult
from runtime.engine.store.store import EngineStore
from runtime.errors import OutputError
from runtime.hardware import detect_hardware
from runtime.manifest import find_model, list_models


@pytest.fixture
def measured_quickly(monkeypatch):
    """Measure one model, for a moment."""
    monkeypatch.setattr(manifest, "list_models", lambda: [find_model("speech-mask")])
    monkeypatch.setattr(
        benchmark, "measure_model", lambda model, engines: measure_model(model, engines=engines, budget_s=0)
    )


def wait_for(condition, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.usefixtures("measured_quickly")
def test_what_was_not_measured_is_measured_and_kept(tmp_path):
    measure_missing(tmp_path)

    speeds = read_speeds(tmp_path)
    assert {speed.model for speed in speeds} == {"speech-mask"}
    assert list_unmeasured([find_model("speech-mask")], tmp_path) == []
    assert len(list_unmeasured(list_models(), tmp_path)) == len(list_models()) - 1


@pytest.mark.usefixtures("measured_quickly")
def test_what_was_measured_is_left_unchanged(tmp_path):
    speeds = measure_model(find_model("speech-mask"), budget_s=0)
    write_speeds(tmp_path, speeds)
    before = (tmp_path / "speeds.json").stat().st_mtime_ns

    measure_missing(tmp_path)

    assert (tmp_path / "speeds.json").stat().st_mtime_ns == before


def test_own_models_are_measured_too(monkeypatch, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine").symlink_to(find_model("speech-mask").folder)
    monkeypatch.setattr(manifest, "list_models", lambda zoo=None: list_models(zoo) if zoo else [])

    measure_missing(tmp_path / "engines", tmp_path / "own")

    assert {speed.model for speed in read_speeds(tmp_path / "engines")} == {"speech-mask"}


@pytest.mark.usefixtures("measured_quickly")
def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match="file cannot be used"):
        measure_missing(tmp_path / "file")


def test_a_quiet_machine_is_measured_in_a_process_of_its_own(tmp_path):
    for model in list_models():
        if model.manifest.name != "speech-mask":
            write_speeds(tmp_path, pretend(model))

    with SpeedKeeper(tmp_path, lambda: True, quiet_s=0.05) as keeper:
        keeper.start()
        assert wait_for(lambda: any(speed.model == "speech-mask" for speed in read_speeds(tmp_path)))

    assert list_unmeasured(list_models(), tmp_path) == []
    assert children() == []


def test_a_busy_machine_is_not_measured_and_a_job_ends_the_measuring(tmp_path):
    busy = [True]
    with SpeedKeeper(tmp_path, lambda: not busy[0], quiet_s=0.05) as keeper:
        keeper.start()
        time.sleep(0.4)
        assert children() == []
        busy[0] = False
        assert wait_for(children)
        busy[0] = True
        assert wait_for(lambda: not children())

    assert read_speeds(tmp_path) == ()


def pretend(model):
    """Return made-up speeds of a model."""
    digests = {file.precision: file.sha256 for file in model.manifest.files}
    return tuple(
        Speed(
            model=model.manifest.name,
            sha256=digests[precision],
            backend=backend.name,
            precision=precision,
            library=backend.library_version,
            device=describe_device(detect_hardware(), backend),
            threads=1,
            size="1x1",
            runs=3,
            ms=1.0,
            measured="2026-11-21",
        )
        for backend, precision in candidates_for(model, [one for one in list_backends() if one.available])
    )


def children():
    """Return this process's measuring processes; servers of other tests may run at the same time."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children") as file:
                found += [child for child in file.read().split() if is_measuring(child)]
        except FileNotFoundError:
            continue
    return found


def is_measuring(child):
    try:
        return b"appliance.engines.measuring" in Path(f"/proc/{child}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


@pytest.fixture
def gpu_box(monkeypatch):
    """A server whose `rtx` backend uses engines of the store; there is one only once `built` is set."""
    backend = BackendInfo("rtx", True, "made up", ("fp32",), ("onnxruntime",), True, EngineType.RTX)
    cpu = next(backend for backend in list_backends() if backend.name == "cpu")
    built = threading.Event()

    def configure(info, precision, threads, engines):
        if info.name == "rtx" and built.is_set():
            return choose.ModelBackend(cpu, precision, threads)
        return choose.ModelBackend(info, precision, threads, engines)

    monkeypatch.setattr(benchmark, "ModelBackend", configure)
    for module in (benchmark, choose):
        monkeypatch.setattr(module, "list_backends", lambda: (cpu, backend))
    return built


def test_a_backend_that_waits_for_its_engine_is_benchmarked_once_there_is_one(gpu_box, tmp_path, monkeypatch):
    model = find_model("speech-mask")
    monkeypatch.setattr(manifest, "list_models", lambda: [model])

    measure_missing(tmp_path)
    first = choose_engine(model, BackendPreference(), threads=1, engines=tmp_path)
    assert [speed.backend for speed in read_speeds(tmp_path)] == ["cpu"]
    assert list_unmeasured([model], tmp_path) == [model]

    gpu_box.set()
    measure_missing(tmp_path)

    assert first.backend.name == "cpu"
    assert {speed.backend: speed.problem for speed in read_speeds(tmp_path)} == {"cpu": "", "rtx": ""}
    assert list_unmeasured([model], tmp_path) == []


class InstantSession(Closing):
    """An engine that takes no time."""

    backend, precision = "rtx-gpu", "fp32"

    def __init__(self, model):
        with find_backend("cpu").open_file(model.file(), {"samples": 1024}, precision="fp32", threads=1) as real:
            self.inputs, self.outputs = real.inputs, real.outputs

    def run(self, tensors, _out=None):
        return {one.name: np.zeros(one.shape, one.dtype) for one in self.outputs} if tensors else {}

    def close(self):
        pass


def test_an_engine_is_requested_built_benchmarked_and_chosen(monkeypatch, tmp_path):
    """On a server with a GPU whose library is fake: it is this processor, and its engines do nothing."""
    model = find_model("speech-mask")
    cpu = find_backend("cpu")
    rtx = BackendInfo("rtx", True, "made up", ("fp32",), ("onnxruntime",), True, EngineType.RTX)
    opened = []
    monkeypatch.setitem(backends._OPENERS, "rtx", lambda path, *_: opened.append(path) or InstantSession(model))
    monkeypatch.setitem(EngineStore.__init__.__kwdefaults__, "detect", lambda _: detect_device(EngineType.OPENVINO))
    monkeypatch.setattr(manifest, "list_models", lambda: [model])
    for module in (benchmark, choose):
        monkeypatch.setattr(module, "list_backends", lambda: (cpu, rtx))
    store = EngineStore(tmp_path)

    measure_missing(tmp_path)
    assert choose_engine(model, BackendPreference(), threads=1, engines=tmp_path).backend.name == "cpu"
    (entry,) = store.build_requests()
    assert (entry.request.model, entry.request.engine_type) == ("speech-mask", EngineType.RTX)

    with BuildDir(store.layout, store.key(entry.request), entry.request.source, threading.Event()) as build:
        build.engine.write_bytes(b"engine")
        build.publish(build_time_s=1.0, golden_test=GoldenTestResult(agreement_db=100.0, time_s=1.0))
    measure_missing(tmp_path)

    choice = choose_engine(model, BackendPreference(), threads=1, engines=tmp_path)
    assert choice.backend.name == "rtx"
    assert choice.reason.startswith("measured here: ")
    with choice.backend.open(model, "step", dict(entry.request.dimensions)):
        assert opened[-1].read_bytes() == b"engine"


def test_a_machine_is_benchmarked_again_after_an_engine_was_built(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(SpeedKeeper, "_measure", lambda self: measured.append(self) or True)
    with SpeedKeeper(tmp_path, lambda: True, quiet_s=0.02) as keeper:
        keeper.start()
        assert wait_for(lambda: len(measured) == 1)
        keeper.remeasure()
        assert wait_for(lambda: len(measured) == 2)
        time.sleep(0.2)
    assert len(measured) == 2
