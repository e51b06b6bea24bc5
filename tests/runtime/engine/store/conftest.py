"""A store, a copy of a shipped model that a test may corrupt, and real OpenVINO engines of it."""

import shutil
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.engine.device import EngineType
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.builder import BuildResult
from runtime.engine.store.key import EngineRequest, request_engine
from runtime.engine.store.layout import BuildRequest, GoldenTestResult
from runtime.engine.store.store import EngineStore
from runtime.manifest import zoo_folder

SIZES = {"height": 32, "width": 32}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and find_spec("openvino") is None:
            item.add_marker(pytest.mark.skip(reason="openvino is not installed"))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """Return a copy of light-x4."""
    return Path(shutil.copytree(zoo_folder() / "light-x4", tmp_path / "light-x4"))


@pytest.fixture
def wanted(model_folder: Path) -> EngineRequest:
    """Return a request for a small engine of it."""
    return request_engine(model_folder / "step.onnx", dimensions=SIZES, engine_type=EngineType.OPENVINO)


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


@pytest.fixture
def build() -> Callable[..., BuildResult]:
    """Return a function that does in this process what a builder does in its own."""
    from export.build_for_store import build_for_store

    def run(store: EngineStore, request: EngineRequest, *, again: bool = False) -> BuildResult:
        build_request = BuildRequest(request=request, again=again)
        return build_for_store(store, build_request, capability=None, threads=2, on_stage=lambda _: None, temporary=[])

    return run


@pytest.fixture
def shelve(store: EngineStore) -> Callable[..., str]:
    """Return a function that publishes bytes as if they were a tested engine, for tests of its use."""

    def put(request: EngineRequest, content: bytes = b"engine", *, by: EngineStore = store) -> str:
        key = by.key(request)
        by.layout.prepare()
        with BuildDir(by.layout, key, request.source, threading.Event()) as bench:
            bench.engine.write_bytes(content)
            bench.publish(build_time_s=0.0, golden_test=GoldenTestResult(agreement_db=100.0, time_s=0.0))
        return key.name

    return put
