"""The server's engines through the API: everyone sees them, administrators can rebuild one."""

import threading

import pytest

from runtime.engine.device import EngineDevice, EngineType
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.key import request_engine
from runtime.engine.store.layout import FailureKind, GoldenTestResult
from runtime.engine.store.store import EngineStore
from runtime.manifest import find_model


@pytest.fixture
def store(services, monkeypatch):
    """Return the server's store, for a processor that is the same wherever the test runs."""
    device = EngineDevice("2026.4", "a processor", "e346b97ae311a868")
    monkeypatch.setattr(EngineStore.__init__, "__kwdefaults__", {"detect": lambda _: device})
    return EngineStore(services.settings.engines)


@pytest.fixture
def shelve(store):
    """Return a function that adds an engine of light-x4 to the store, or to quarantine."""

    def put(width, *, reason=""):
        request = request_engine(
            find_model("light-x4").file(), dimensions={"height": 32, "width": width}, engine_type=EngineType.OPENVINO
        )
        store.layout.prepare()
        with BuildDir(store.layout, store.key(request), request.source, threading.Event()) as bench:
            bench.engine.write_bytes(b"engine")
            if reason:
                bench.quarantine(FailureKind.FAILED_TEST, reason)
            else:
                bench.publish(build_time_s=1.0, golden_test=GoldenTestResult(agreement_db=100.0, time_s=1.0))
        return store.key(request).name

    return put


def test_everyone_sees_the_engines_and_what_failed(viewer, shelve):
    assert viewer.get("/api/engines").json() == []
    names = [shelve(32), shelve(64, reason="a seam")]

    shown = {engine["name"]: engine for engine in viewer.get("/api/engines").json()}

    assert set(shown) == set(names)
    assert (shown[names[0]]["state"], shown[names[0]]["size_bytes"]) == ("ready", 6)
    assert (shown[names[1]]["state"], shown[names[1]]["reason"]) == ("quarantined", "a seam")


def test_an_administrator_has_an_engine_rebuilt(admin, operator, services, store, shelve):
    name = shelve(64, reason="a seam")

    assert operator.post(f"/api/engines/{name}/rebuild").status_code == 403
    assert store.build_requests() == []
    assert admin.post(f"/api/engines/{name}/rebuild").status_code == 204

    assert store.build_requests()[0].again
    assert [engine["state"] for engine in admin.get("/api/engines").json()] == ["waiting"]
    assert services.audit.list()[0][0].what == "engine_rebuild"


def test_an_engine_that_is_not_there_is_not_found(admin):
    answer = admin.post("/api/engines/nothing/rebuild")

    assert answer.status_code == 404
    assert "there is no engine nothing" in answer.json()["error"]["message"]
    assert admin.post("/api/engines/..%2f..%2fetc/rebuild").status_code in (404, 422)
