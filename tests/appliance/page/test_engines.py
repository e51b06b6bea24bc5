"""The engines on the system page, built by the server itself."""

import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from runtime.engine.device import EngineType
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.key import request_engine
from runtime.engine.store.layout import FailureKind
from runtime.engine.store.store import EngineStore
from runtime.manifest import find_model

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture
def failed(furnished: Any) -> str:
    """Add a failed engine to the server's store."""
    store = EngineStore(furnished.box.data / "engines")
    source = find_model("light-x4").file()
    request = request_engine(source, dimensions={"height": 32, "width": 32}, engine_type=EngineType.OPENVINO)
    store.layout.prepare()
    with BuildDir(store.layout, store.key(request), request.source, threading.Event()) as bench:
        bench.quarantine(
            FailureKind.FAILED_TEST, "visible seam: the error where two tiles meet is 9.0 times the error elsewhere"
        )
    return store.key(request).name


@pytest.mark.slow
def test_an_engine_that_failed_is_rebuilt_from_the_page(
    furnished: Any, failed: str, log_in: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    page = log_in(furnished.url, at="system")
    row = page.get_by_role("row").filter(has=page.get_by_role("button", name=failed))
    row.get_by_text("Failed").wait_for()
    assert row.get_by_text("9.0 times the error elsewhere").is_visible()
    assert look(page, "engines-desktop-light", whole=True) == []

    row.get_by_role("button", name="Rebuild").click()
    page.get_by_text("will be rebuilt when no job is running").wait_for()

    # The server's builder builds it; the page checks every ten seconds.
    row.get_by_text("Ready").wait_for(timeout=90_000)


def test_a_viewer_sees_the_engines_but_builds_none(furnished: Any, failed: str, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Guard", "system", width=390, height=844)

    page.locator(f'[title="{failed}"]').wait_for()
    assert page.get_by_role("button", name="Rebuild").count() == 0
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
