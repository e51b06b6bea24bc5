"""Builders are processes: two of them build one engine, and one that is killed leaves none."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.engine.device import EngineType
from runtime.engine.store.builder import EXIT_STOPPED, BuildOutcome, build_in_subprocess
from runtime.engine.store.inventory import EngineState, list_engines
from runtime.engine.store.key import request_engine
from runtime.engine.store.layout import FAILURE, BuildFailure, BuildRequest, FailureKind
from runtime.engine.store.pruning import prune
from runtime.errors import CancelledError, EngineStoreError
from runtime.file_lock import FileLock
from runtime.manifest import _checked

SLOW = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[4]


def never() -> bool:
    return False


def start_builder(store, request):
    """Start a builder on its own and send it its request."""
    command = [
        sys.executable,
        "-m",
        "export.build_process",
        "--store",
        str(store.layout.folder),
        "--parent",
        str(os.getpid()),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(BuildRequest(request=request).dump())
    process.stdin.close()
    return process


def wait_for(process, stage: str) -> None:
    assert any(json.loads(line).get("stage") == stage for line in process.stdout)


def test_two_processes_that_build_the_same_engine_make_one(store, wanted) -> None:
    results, stages = [], [[], []]

    def run(number: int) -> None:
        results.append(build_in_subprocess(store, wanted, stop=never, threads=1, on_stage=stages[number].append))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(result.outcome for result in results) == [BuildOutcome.FOUND, BuildOutcome.READY]
    assert sorted(stages) == [["waiting"], ["waiting", "building", "testing", "publishing"]]
    assert [engine.state for engine in list_engines(store)] == [EngineState.READY]


@pytest.mark.parametrize(
    "stage",
    ["building", pytest.param("testing", marks=pytest.mark.slow), pytest.param("waiting", marks=pytest.mark.slow)],
)
def test_a_killed_builder_leaves_no_engine_and_the_next_one_succeeds(store, wanted, build, stage: str) -> None:
    with start_builder(store, wanted) as process:
        wait_for(process, stage)
        process.kill()

    assert process.returncode == -signal.SIGKILL
    assert store.find(wanted) is None
    assert list(store.layout.ready.iterdir()) == []
    assert build(store, wanted).outcome is BuildOutcome.READY
    assert list(store.layout.partial.iterdir()) == []
    with store.find(wanted):
        pass


def test_killed_at_any_durable_step_the_store_has_the_old_engine_the_new_one_or_none(store, model_folder) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).parent / "killing.py"),
            str(store.layout.folder),
            str(model_folder / "step.onnx"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]

    split = next(number for number, one in enumerate(lines) if one["ended"] == 0) + 1
    first, second = lines[:split], lines[split:]
    assert len(first) > 8
    assert {one["found"] for one in first} == {None, "first"}
    # A complete engine stays complete: once found, it never disappears.
    appeared = [one["found"] for one in first].index("first")
    assert all(one["found"] == "first" for one in first[appeared:])
    assert {one["found"] for one in second} <= {"first", "second", None}
    assert second[-1] == {"step": len(second), "ended": 0, "found": "second", "set_aside": 0}
    assert not any(one["set_aside"] for one in lines)


def test_a_builder_that_is_declared_to_stop_leaves_nothing(store, wanted) -> None:
    with start_builder(store, wanted) as process:
        wait_for(process, "building")
        process.terminate()

    assert process.returncode == EXIT_STOPPED
    assert list(store.layout.partial.iterdir()) == []
    assert list(store.layout.ready.iterdir()) == []
    # Its lock is free again.
    FileLock.try_exclusive(store.layout.lock(store.key(wanted).name)).close()


def test_a_build_that_is_stopped_ends_soon_while_another_builds(store, wanted) -> None:
    store.layout.prepare()
    stages: list[str] = []
    with FileLock.try_exclusive(store.layout.lock(store.key(wanted).name)):
        began = time.monotonic()
        with pytest.raises(CancelledError, match=r"model light-x4 was cancelled; nothing was kept"):
            build_in_subprocess(store, wanted, stop=lambda: bool(stages), on_stage=stages.append)
    assert time.monotonic() - began < 30
    assert stages == ["waiting"]


@pytest.mark.slow
def test_a_builder_ends_with_the_one_who_started_it(store, wanted) -> None:
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from runtime.engine.store.builder import build_in_subprocess\n"
        "from runtime.engine.store.layout import BuildRequest\n"
        "from runtime.engine.store.store import EngineStore\n"
        "request = BuildRequest.model_validate_json(sys.stdin.read())\n"
        "store, tell = EngineStore(Path(sys.argv[1])), lambda stage: print(stage, flush=True)\n"
        "build_in_subprocess(store, request.request, stop=lambda: False, on_stage=tell)"
    )
    store.layout.prepare()
    lock_path = store.layout.lock(store.key(wanted).name)
    with FileLock.try_exclusive(lock_path):
        starter = subprocess.Popen(
            [sys.executable, "-c", program, str(store.layout.folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        starter.stdin.write(BuildRequest(request=wanted).dump())
        starter.stdin.close()
        assert starter.stdout.readline() == b"waiting\n"
        children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
        starter.kill()
        starter.wait()
        starter.stdout.close()
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert children


def test_a_model_that_the_builder_refuses_is_noted_with_the_reason_and_not_retried(store, wanted, build) -> None:
    wanted.source.write_bytes(wanted.source.read_bytes() + b"\0")

    # A builder is a new process, which has not checked the file before.
    _checked.cache_clear()
    result = build(store, wanted)

    assert result.outcome is BuildOutcome.REFUSED
    assert "does not match its manifest" in result.reason
    assert BuildFailure.read(store.layout.quarantine / result.name / FAILURE).kind is FailureKind.REFUSED
    assert not store.request_build(wanted)


def test_a_builder_that_crashes_is_noted_too(store, wanted, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")

    result = build_in_subprocess(store, wanted, stop=never)

    assert result.outcome is BuildOutcome.REFUSED
    assert result.reason == "the builder exited with code 1: it printed nothing"
    assert store.build_failure(store.key(wanted)) is not None


def test_a_builder_that_is_killed_may_be_retried(store, wanted, tmp_path, monkeypatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    store.request_build(wanted)

    with pytest.raises(EngineStoreError, match=r"exited with code -9: .*it may have run out of memory"):
        build_in_subprocess(store, wanted, stop=never)
    assert len(store.build_requests()) == 1


def test_a_store_that_cannot_be_written_is_no_fault_of_the_engine(store, wanted) -> None:
    store.layout.prepare()
    store.request_build(wanted)
    store.layout.lock(store.key(wanted).name).mkdir()

    with pytest.raises(EngineStoreError, match=r"the engine of model light-x4 cannot be built: .*Is a directory"):
        build_in_subprocess(store, wanted, stop=never)
    assert len(store.build_requests()) == 1
    assert store.build_failure(store.key(wanted)) is None


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_an_engine_for_another_device_is_built_but_never_used(store, model_folder) -> None:
    request = request_engine(
        model_folder / "step.onnx", dimensions={"height": 32, "width": 32}, engine_type=EngineType.RTX
    )

    result = build_in_subprocess(store, request, stop=never, capability="sm86")

    assert result.outcome is BuildOutcome.UNVERIFIED
    (listed,) = list_engines(store)
    assert (listed.state, listed.device, listed.proof) == (EngineState.UNVERIFIED, "any sm86", None)
    assert list(store.layout.ready.iterdir()) == []
    assert prune(store, 10**9).removed == (result.name,)


def test_the_builder_needs_neither_torch_nor_onnx() -> None:
    program = (
        "import sys, export.build_process, export.build_for_store\n"
        "heavy = {'torch', 'onnx', 'models', 'openvino', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
