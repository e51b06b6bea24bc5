"""`python -m export.build_process`: the builder process, which builds one engine for the engine store.

Started by `runtime/engine/store/builder.py` on the target machine, at the lowest priority, without torch or onnx. On
SIGTERM, or when its parent ends, it exits and removes unfinished files; after SIGKILL the next builder of the same
engine, or `relume engines prune`, removes them.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Final

_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_NICENESS: Final = 19
_OOM_SCORE: Final = 800


def main() -> int:
    """Build the engine requested on standard input, and report progress as lines of JSON."""
    # Before anything starts a thread: builders spend minutes in native code, where no Python handler would run.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    parser = argparse.ArgumentParser(prog="python -m export.build_process", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="the store's folder")
    parser.add_argument("--parent", type=int, help="exit together with this process")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the golden test")
    parser.add_argument("--for", dest="capability", help="compute capability of another device, such as sm89")
    options = parser.parse_args()
    from runtime.child_process import end_with_parent, forbid_network, lower_priority

    lower_priority(niceness=_NICENESS, oom_score=_OOM_SCORE)
    forbid_network()
    temporary: list[Path] = []
    end_with_parent(options.parent, partial(_stop, temporary))
    threading.Thread(target=_wait_for_signal, args=(temporary,), name="relume-signals", daemon=True).start()

    from export.build_for_store import build_for_store
    from runtime.engine.store.builder import EXIT_UNABLE
    from runtime.engine.store.layout import BuildRequest
    from runtime.engine.store.store import EngineStore
    from runtime.errors import EngineStoreError

    try:
        result = build_for_store(
            EngineStore(options.store),
            BuildRequest.model_validate_json(sys.stdin.buffer.read()),
            capability=options.capability,
            threads=options.threads,
            on_stage=lambda stage: _report(stage=stage),
            temporary=temporary,
        )
    except (OSError, EngineStoreError) as error:
        print(error, file=sys.stderr)
        return EXIT_UNABLE
    _report(outcome=result.outcome, name=result.name, reason=result.reason)
    return 0


def _report(**words: str) -> None:
    print(json.dumps(words), flush=True)


def _wait_for_signal(temporary: list[Path]) -> None:
    signal.sigwait(_SIGNALS)
    _stop(temporary)


def _stop(temporary: list[Path]) -> None:
    """Remove what is half built and end, whatever the builder is doing."""
    from runtime.engine.store.builder import EXIT_STOPPED

    for folder in temporary:
        # Twice, since the builder may have been writing into it.
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(EXIT_STOPPED)


if __name__ == "__main__":
    sys.exit(main())
