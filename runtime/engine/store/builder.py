"""Builds an engine in a subprocess of low priority, which can be stopped.

The process is `python -m export.build_process`: the part of `export` that builds engines from ONNX files and needs no
torch. It is started by name, since shipped packages do not import build packages. It reads a request on its standard
input, reports its stages in lines of JSON, and locks, builds, tests and publishes by itself.
"""

import json
import os
import selectors
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

import runtime
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.key import EngineRequest
from runtime.engine.store.layout import BuildRequest, FailureKind
from runtime.engine.store.pruning import remove_stale_builds
from runtime.engine.store.store import EngineStore
from runtime.errors import CancelledError, EngineStoreError

EXIT_STOPPED: Final = 143
"""Exit code of a builder that was stopped."""
EXIT_UNABLE: Final = 74
"""Exit code of a builder that could not write, or has no device, which is not a defect of the engine (EX_IOERR)."""
_STOP_S: Final = 10.0
_POLL_S: Final = 0.2
_STDERR_TAIL: Final = 2000


class BuildOutcome(StrEnum):
    """The outcome of a build; `found`: another process had built the engine."""

    READY = "ready"
    FOUND = "found"
    UNVERIFIED = "built, not tested"
    REFUSED = "refused"
    FAILED_TEST = "unsound"

    @property
    def usable(self) -> bool:
        """Return whether there is an engine to run now."""
        return self in (BuildOutcome.READY, BuildOutcome.FOUND)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build: the engine's name, or the reason why there is none."""

    outcome: BuildOutcome
    name: str
    reason: str = ""


def build_in_subprocess(
    store: EngineStore,
    request: EngineRequest,
    *,
    stop: Callable[[], bool],
    again: bool = False,
    capability: str | None = None,
    threads: int = 0,
    on_stage: Callable[[str], None] | None = None,
) -> BuildResult:
    """Build, test and publish one engine, and wait for it.

    Args:
        store: The store.
        request: The engine.
        stop: Called five times a second; a stopped build leaves nothing.
        again: Build it even if there is one, which stays until the new one is validated.
        capability: Such as `sm89`: for another device, so that it cannot be tested here.
        threads: CPU threads of the golden test; 0 takes all.
        on_stage: Called with each stage: waiting, building, testing, publishing.

    Raises:
        CancelledError: It was stopped.
        EngineStoreError: The builder was killed; or the store cannot be used, or the device is missing.
    """
    if find_spec("export") is None:
        raise EngineStoreError("the engine builder is not installed; reinstall Relume, whose package includes it")
    if capability is None:
        store.key(request)  # raises at once if the device is missing
    store.layout.prepare()
    command = [sys.executable, "-m", "export.build_process", "--store", str(store.layout.folder.absolute())]
    command += ["--parent", str(os.getpid()), "--threads", str(threads or len(os.sched_getaffinity(0)))]
    if capability is not None:
        command += ["--for", capability]
    if (ionice := shutil.which("ionice")) is not None:
        command = [ionice, "-c", "3", *command]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(runtime.__file__).parents[1],
        # Ctrl-C is for the waiting process, which then terminates the builder in order.
        start_new_session=True,
    )
    with process:
        try:
            output = _read_output(process, BuildRequest(request=request, again=again), on_stage or _ignore_stage, stop)
        finally:
            if process.poll() is None:
                _terminate(process)
                remove_stale_builds(store)
    if output.is_stopped:
        raise CancelledError(f"the build of an engine for model {request.model} was cancelled; nothing was kept")
    return output.result or _record_crash(store, request, capability, process.returncode, output.stderr_tail)


@dataclass(slots=True)
class _Output:
    """The builder's output so far; `is_stopped` if the caller stopped it early."""

    result: BuildResult | None = None
    stderr_tail: str = ""
    is_stopped: bool = False


def _read_output(
    process: "subprocess.Popen[bytes]",
    request: BuildRequest,
    on_stage: Callable[[str], None],
    stop: Callable[[], bool],
) -> _Output:
    """Send the request and read the builder's output until it ends, or is to be stopped."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output = _Output()
    try:
        process.stdin.write(request.dump())
        process.stdin.close()
    except BrokenPipeError:
        pass  # It ended at once; its standard error says why.
    incomplete = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            if output.result is None and stop():
                output.is_stopped = True
                return output
            for key, _ in selector.select(_POLL_S):
                pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
                content = os.read(pipe.fileno(), 1 << 16)
                if not content:
                    selector.unregister(pipe)
                elif pipe is process.stderr:
                    output.stderr_tail = (output.stderr_tail + content.decode(errors="replace"))[-_STDERR_TAIL:]
                else:
                    *lines, incomplete = (incomplete + content).split(b"\n")
                    for line in lines:
                        output.result = _parse_line(json.loads(line), on_stage) or output.result
    process.wait()
    return output


def _ignore_stage(stage: str) -> None:
    del stage


def _parse_line(line: dict[str, str], on_stage: Callable[[str], None]) -> BuildResult | None:
    if "stage" in line:
        on_stage(line["stage"])
        return None
    return BuildResult(BuildOutcome(line["outcome"]), line["name"], line["reason"])


def _terminate(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _record_crash(
    store: EngineStore, request: EngineRequest, capability: str | None, code: int, stderr_tail: str
) -> BuildResult:
    """Record a builder's crash as a failed build, so that it is not retried forever; a killed one may be retried.

    Raises:
        EngineStoreError: It was killed, could not write, or built for another device, whose engines nobody requests.
    """
    last = next((line for line in reversed(stderr_tail.splitlines()) if line.strip()), "it printed nothing")
    reason = f"the builder exited with code {code}: {last}"
    if code == EXIT_UNABLE:
        raise EngineStoreError(f"the engine of model {request.model} cannot be built: {last}")
    if code in (EXIT_STOPPED, -9, -15):
        raise EngineStoreError(f"{reason}; it may have run out of memory: close other programs and build it again")
    if capability is not None:
        raise EngineStoreError(reason)
    key = store.key(request)
    with BuildDir(store.layout, key, request.source, threading.Event()) as folder:
        folder.quarantine(FailureKind.REFUSED, reason)
    return BuildResult(BuildOutcome.REFUSED, key.name, reason)
