"""Builds that kill themselves as `kill -9` would, just before the n-th durable step; run by `test_builder.py`.

`killing.py STORE SOURCE`: the engine's bytes are given, so that each build takes no time but performs all the steps of
a real one: build folder, digest, manifest, publication. One line of JSON per build reports what is left; the last build
succeeds.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from runtime.engine.device import EngineType
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.key import EngineRequest, request_engine
from runtime.engine.store.layout import GoldenTestResult
from runtime.engine.store.store import EngineStore
from tests.killing import StepCounter

STEPS = ("fsync", "replace", "rename", "unlink")


def build(store: EngineStore, request: EngineRequest, content: bytes) -> None:
    """Perform the steps of a build."""
    with BuildDir(store.layout, store.key(request), request.source, threading.Event()) as bench:
        bench.engine.write_bytes(content)
        bench.publish(build_time_s=0.0, golden_test=GoldenTestResult(agreement_db=100.0, time_s=0.0))


def found(store: EngineStore, request: EngineRequest) -> bytes | None:
    """Return the engine's bytes, as a job would get them."""
    engine = store.find(request)
    if engine is None:
        return None
    with engine:
        return engine.path.read_bytes()


def main() -> None:
    """Kill a first build, and one that replaces it, before each of their steps."""
    store, source = EngineStore(Path(sys.argv[1])), Path(sys.argv[2])
    request = request_engine(source, dimensions={"height": 32, "width": 32}, engine_type=EngineType.OPENVINO)
    store.layout.prepare()
    for content in (b"first", b"second"):
        step, ended = 0, signal.SIGKILL
        while ended:
            step += 1
            assert step < 100, "the build never succeeds"
            child = os.fork()
            if child == 0:
                StepCounter(STEPS, step)
                build(store, request, content)
                os._exit(0)
            ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            after = found(store, request)
            quarantine = len(list(store.layout.quarantine.iterdir()))
            print(
                json.dumps({"step": step, "ended": ended, "found": after and after.decode(), "set_aside": quarantine})
            )


if __name__ == "__main__":
    main()
