"""Builds an engine in a process of its own, which gives way to everything else on the box and can be stopped.

The process is `python -m export.build_process`: the half of `export` that makes engines of ONNX files and needs no
torch. It is started by name, since what ships imports nothing of what builds. It takes a wish on its standard input,
tells what it does in lines of JSON, and holds the key's lock, builds, tests and publishes all by itself.
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
from runtime.engine.store.build_dir import Bench
from runtime.engine.store.key import EngineRequest
from runtime.engine.store.layout import SetbackKind, Wish
from runtime.engine.store.pruning import clear_litter
from runtime.engine.store.store import EngineStore
from runtime.errors import CancelledError, EngineStoreError

STOPPED: Final = 143
"""The exit code of a builder that was told to stop."""
UNABLE: Final = 74
"""The exit code of a builder that could not write, or lacks its device: that is no fault of the engine (EX_IOERR)."""
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.2
_LAST_WORDS: Final = 2000


class BuildOutcome(StrEnum):
    """How a build ended; `found`: another process had built the engine."""

    READY = "ready"
    FOUND = "found"
    UNPROVEN = "built, not proven"
    REFUSED = "refused"
    UNSOUND = "unsound"

    @property
    def usable(self) -> bool:
        """Return whether there is an engine to run now."""
        return self in (BuildOutcome.READY, BuildOutcome.FOUND)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The end of a build: the engine's name, and why there is none."""

    outcome: BuildOutcome
    name: str
    reason: str = ""


def build_apart(
    store: EngineStore,
    request: EngineRequest,
    *,
    stop: Callable[[], bool],
    again: bool = False,
    capability: str | None = None,
    threads: int = 0,
    tell: Callable[[str], None] | None = None,
) -> BuildResult:
    """Build, prove and publish one engine, and wait for it.

    Args:
        store: Where it goes.
        request: What to build.
        stop: Asked five times a second; a build that is to stop leaves nothing.
        again: Also where there is one already, which stays until the new one is proven.
        capability: `sm89` or the like: for another device than this one's, so that it cannot be proven here.
        threads: Of the processor, in the golden test; 0 takes all.
        tell: Hears of each stage: waiting, building, testing, publishing.

    Raises:
        CancelledError: It was stopped.
        EngineStoreError: The builder was killed; or the store cannot be used, or the device is missing.
    """
    if find_spec("export") is None:
        raise EngineStoreError("what builds engines is not installed; reinstall Relume, whose package has it")
    if capability is None:
        store.key(request)  # Tells at once of a device that is not there.
    store.shelves.prepare()
    command = [sys.executable, "-m", "export.build_process", "--store", str(store.shelves.folder.absolute())]
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
        # Ctrl-C is for the one who waits here, who then ends the builder in order.
        start_new_session=True,
    )
    with process:
        try:
            heard = _listen(process, Wish(request=request, again=again), tell or _say_nothing, stop)
        finally:
            if process.poll() is None:
                _end(process)
                clear_litter(store)
    if heard.stopped:
        raise CancelledError(f"the build of an engine for model {request.model} was stopped; nothing is left of it")
    return heard.result or _bury(store, request, capability, process.returncode, heard.last_words)


@dataclass(slots=True)
class _Heard:
    result: BuildResult | None = None
    last_words: str = ""
    stopped: bool = False


def _listen(
    process: "subprocess.Popen[bytes]", wish: Wish, tell: Callable[[str], None], stop: Callable[[], bool]
) -> _Heard:
    """Hear the builder out, or until it is to stop."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    heard = _Heard()
    try:
        process.stdin.write(wish.dump())
        process.stdin.close()
    except BrokenPipeError:
        pass  # It ended at once; its last words say why.
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            if heard.result is None and stop():
                heard.stopped = True
                return heard
            for key, _ in selector.select(_LOOK_S):
                pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
                content = os.read(pipe.fileno(), 1 << 16)
                if not content:
                    selector.unregister(pipe)
                elif pipe is process.stderr:
                    heard.last_words = (heard.last_words + content.decode(errors="replace"))[-_LAST_WORDS:]
                else:
                    *lines, waiting = (waiting + content).split(b"\n")
                    for line in lines:
                        heard.result = _take(json.loads(line), tell) or heard.result
    process.wait()
    return heard


def _say_nothing(stage: str) -> None:
    del stage


def _take(line: dict[str, str], tell: Callable[[str], None]) -> BuildResult | None:
    if "stage" in line:
        tell(line["stage"])
        return None
    return BuildResult(BuildOutcome(line["outcome"]), line["name"], line["reason"])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _bury(
    store: EngineStore, request: EngineRequest, capability: str | None, code: int, last_words: str
) -> BuildResult:
    """Note a builder's crash as a refusal, so that it is not tried for ever; one that was killed may do better later.

    Raises:
        EngineStoreError: It was killed, could not write, or built for another device, whose engines nobody asks for.
    """
    last = next((line for line in reversed(last_words.splitlines()) if line.strip()), "it said nothing")
    reason = f"the builder ended with code {code}: {last}"
    if code == UNABLE:
        raise EngineStoreError(f"the engine of model {request.model} cannot be built: {last}")
    if code in (STOPPED, -9, -15):
        raise EngineStoreError(f"{reason}; perhaps memory ran out: end other programs and build it again")
    if capability is not None:
        raise EngineStoreError(reason)
    key = store.key(request)
    with Bench(store.shelves, key, request.source, threading.Event()) as bench:
        bench.set_aside(SetbackKind.REFUSED, reason)
    return BuildResult(BuildOutcome.REFUSED, key.name, reason)
