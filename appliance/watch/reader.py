"""The process that opens files nobody has vouched for, so that one that crashes a decoder takes nothing else along.

`python -m appliance.watch.reader PARENT` reads a request a line from standard input and answers each with a line: JSON
both. It ends with its input, and with the process PARENT that started it.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final, TextIO

from appliance.jobs.records import options_from_json
from runtime.errors import RelumeError
from runtime.media.source import describe_unreadable
from runtime.media.webp import release_converted
from runtime.process import forbid_network

_MOST_MEMORY_BYTES: Final = 6 * 1024**3
_LOOK_S: Final = 1.0


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Check one file: the suffix of its result, or why it cannot be enhanced."""
    from appliance.watch.complete import check_media

    path = Path(request["path"])
    try:
        options = options_from_json(request["options"])
        suffix = check_media(path, options, is_declared=request["is_declared"])
    except RelumeError as error:
        return {"reason": str(error)}
    except OSError as error:
        return {"reason": describe_unreadable(path, error)}
    except MemoryError:
        return {"reason": f"{path} needs more memory than any film should; it is damaged"}
    finally:
        release_converted()
    return {"suffix": suffix}


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY_BYTES, resource.RLIM_INFINITY))
    forbid_network()
    # Told by the parent: asked for here, it would be another one's if the parent ended while this process began.
    threading.Thread(target=_end_with, args=(int(sys.argv[-1]),), name="relume-leash", daemon=True).start()
    # Libraries may print: what they print must not be taken for an answer.
    answers: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def _end_with(parent: int) -> None:
    """End with the process that asks, in the middle of a file too."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    main()
