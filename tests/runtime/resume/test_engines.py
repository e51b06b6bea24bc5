"""A durable job continues with the engine that it started with, whatever was measured in between, or starts over."""

import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from runtime.engine import backends
from runtime.enhance import enhance
from runtime.errors import CancelledError, OpenError
from runtime.manifest import find_model
from runtime.options import AudioMode, EnhanceOptions
from runtime.report import Report
from runtime.resume.writer import SegmentRule

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

OPTIONS = EnhanceOptions(scale=4, threads=2, audio=AudioMode.OFF)
SAFE, FAST = ("cpu", "fp32"), ("openvino", "int8")


def run(
    source: Path, target: Path, engines: Path, *, stop_at: int | None = None, options: EnhanceOptions = OPTIONS
) -> Report | None:
    """Run an attempt in a workspace beside the target; return None for one that is stopped."""
    cancel = threading.Event()

    def watch(progress: Any) -> None:
        if stop_at is not None and progress.frames_done >= stop_at:
            cancel.set()

    rule = SegmentRule(5, 10)
    try:
        return enhance(
            source, target, options, workspace=target.with_suffix(""), rule=rule, engines=engines, cancel=cancel,
            on_progress=watch,
        )  # fmt: skip
    except CancelledError:
        return None


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [({SAFE: 10.0, FAST: 20.0}, {SAFE: 20.0, FAST: 10.0}, "onnxruntime-cpu"),
     ({SAFE: 20.0, FAST: 10.0}, {SAFE: 10.0, FAST: 20.0}, "openvino-cpu")],
)  # fmt: skip
def test_a_measurement_in_between_changes_nothing(
    tmp_path: Path, clip: Callable[..., Path], keep_speeds: Callable[..., Path], before: Any, after: Any, name: str
) -> None:
    source, model = clip(scenes=(8, 9), audio=False), find_model("light-x4")
    engines = keep_speeds(model, before)
    alone = run(source, tmp_path / "alone.mp4", engines)

    assert run(source, tmp_path / "stopped.mp4", engines, stop_at=11) is None
    keep_speeds(model, after)
    stopped = run(source, tmp_path / "stopped.mp4", engines)

    assert alone is not None
    assert stopped is not None
    assert alone.engines[0].backend == stopped.engines[0].backend == name
    assert stopped.engines[0].reason == "the job started with it"
    assert stopped.resumes == 1
    assert stopped.warnings == ()
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "stopped.mp4").read_bytes()


def test_another_version_of_the_library_starts_over_with_a_warning(
    tmp_path: Path, clip: Callable[..., Path], keep_speeds: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(scenes=(8, 9), audio=False)
    engines = keep_speeds(find_model("light-x4"), {SAFE: 20.0, FAST: 10.0})
    assert run(source, tmp_path / "out.mp4", engines, stop_at=11) is None

    installed = backends.version
    monkeypatch.setattr(backends, "version", lambda name: "2031.1" if name == "openvino" else installed(name))
    report = run(source, tmp_path / "out.mp4", engines)

    assert report is not None
    assert report.warnings == ("the stored progress was made with a different engine; started over",)


def test_a_job_that_started_without_its_requested_engine_continues_without_it(
    tmp_path: Path, clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = clip(scenes=(8, 9), audio=False), tmp_path / "out.mp4"
    options = replace(OPTIONS, backend="openvino")

    def miss(*arguments: Any, **dimensions: Any) -> Any:
        """Open as a backend that runs only engines does when there is none."""
        del arguments, dimensions
        raise OpenError("not built yet", model="light-x4", backend="openvino", waits=True)

    openers = dict(backends._OPENERS)
    with monkeypatch.context() as unbuilt:
        unbuilt.setattr(backends, "_OPENERS", openers | {"openvino": miss})
        assert run(source, target, tmp_path, stop_at=11, options=options) is None
    report = run(source, target, tmp_path, options=options)

    assert report is not None
    assert (report.engines[0].backend, report.engines[0].reason) == ("onnxruntime-cpu", "the job started with it")
    assert (report.resumes, report.warnings) == (1, ())
