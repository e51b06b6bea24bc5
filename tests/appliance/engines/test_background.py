"""The server builds requested engines while no job runs."""

import threading
import time
from dataclasses import replace

import pytest

from appliance.engines import background
from appliance.engines.background import EngineKeeper
from runtime.engine.device import EngineType, detect_device
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.inventory import EngineState, list_engines
from runtime.engine.store.key import request_engine
from runtime.engine.store.layout import GoldenTestResult
from runtime.engine.store.store import EngineStore
from runtime.manifest import find_model

DEADLINE_S = 60.0


@pytest.fixture
def wanted():
    source = find_model("light-x4").file()
    return request_engine(source, dimensions={"height": 32, "width": 32}, engine_type=EngineType.OPENVINO)


@pytest.fixture
def store(tmp_path):
    return EngineStore(tmp_path / "engines")


def wait_until(look):
    deadline = time.monotonic() + DEADLINE_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def states(store):
    return [engine.state for engine in list_engines(store)]


def test_nothing_is_started_while_a_job_runs(store, wanted, caplog):
    caplog.set_level("INFO")
    store.request_build(wanted)
    with EngineKeeper(store, lambda: False, budget_bytes=10**9, poll_s=0.05) as keeper:
        keeper.start()
        time.sleep(0.5)

    assert states(store) == [EngineState.WAITING]
    assert "is being built" not in caplog.text


@pytest.mark.slow  # The tests of the page do this with a server, too.
def test_a_requested_engine_is_built_once_no_job_runs(store, wanted):
    idle = threading.Event()
    store.request_build(wanted)
    with EngineKeeper(store, idle.is_set, budget_bytes=10**9, poll_s=0.05) as keeper:
        keeper.start()
        time.sleep(0.5)
        assert states(store) == [EngineState.WAITING]
        idle.set()
        wait_until(lambda: states(store) == [EngineState.READY])


def test_a_job_stops_a_build_which_is_restarted_later(store, wanted):
    idle = threading.Event()
    idle.set()
    store.request_build(wanted)
    with EngineKeeper(store, idle.is_set, budget_bytes=10**9, poll_s=0.05) as keeper:
        keeper.start()
        wait_until(lambda: states(store) == [EngineState.BUILDING])
        idle.clear()
        wait_until(lambda: states(store) == [EngineState.WAITING])
        assert list(store.layout.partial.iterdir()) == []
    assert states(store) == [EngineState.WAITING]


def test_an_outdated_engine_is_requested_again_at_the_start(store, wanted):
    store.layout.prepare()
    with BuildDir(store.layout, store.key(wanted), wanted.source, threading.Event()) as bench:
        bench.engine.write_bytes(b"engine")
        bench.publish(build_time_s=1.0, golden_test=GoldenTestResult(agreement_db=100.0, time_s=1.0))
    later = EngineStore(
        store.layout.folder, detect=lambda engine_type: replace(detect_device(engine_type), runtime_version="2030.1")
    )
    with EngineKeeper(later, lambda: False, budget_bytes=10**9, poll_s=0.05) as keeper:
        keeper.start()
        wait_until(lambda: EngineState.WAITING in states(later))


def test_a_failed_build_does_not_stop_the_keeper(store, wanted, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    store.request_build(wanted)
    with EngineKeeper(store, lambda: True, budget_bytes=10**9, poll_s=0.05) as keeper:
        keeper.start()
        wait_until(lambda: states(store) == [EngineState.QUARANTINED])
        assert store.build_requests() == []


def test_a_machine_with_a_gpu_and_an_empty_store_requests_engines_for_common_sources(store, monkeypatch):
    monkeypatch.setattr(background, "default_engine_type", lambda: EngineType.RTX)
    monkeypatch.setattr(store, "_detect", lambda _: detect_device(EngineType.OPENVINO))
    with EngineKeeper(store, lambda: False, budget_bytes=10**9, poll_s=0.02) as keeper:
        keeper.start()
        wait_until(lambda: len(store.build_requests()) > 5)
        time.sleep(0.2)
        wanted = {
            (build_request.request.model, build_request.request.precision) for build_request in store.build_requests()
        }

    assert {("light-x2", "fp16"), ("light-restore", "fp16"), ("light-x4", "fp16")} <= wanted


def test_a_machine_without_a_gpu_requests_nothing_automatically(store):
    with EngineKeeper(store, lambda: False, budget_bytes=10**9, poll_s=0.02) as keeper:
        keeper.start()
        time.sleep(0.3)

    assert store.build_requests() == []


def test_on_ready_is_called_when_an_engine_is_built(store, wanted, monkeypatch):
    ready = []
    outcome = type("Outcome", (), {"usable": True, "__str__": lambda _: "built"})()
    result = type("Result", (), {"outcome": outcome, "reason": ""})()
    monkeypatch.setattr(background, "build_in_subprocess", lambda *_, **__: result)
    store.request_build(wanted)
    with EngineKeeper(store, lambda: True, budget_bytes=10**9, poll_s=0.02, on_ready=lambda: ready.append(1)) as keeper:
        keeper.start()
        wait_until(lambda: ready)
