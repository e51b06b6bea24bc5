"""Integrity checks in a process of their own, whose crash or hang is a fault of the file and not of Relume."""

import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Final, TextIO

import appliance
from appliance.jobs.job import options_from_json, options_to_json
from appliance.watch.errors import UnreadableError
from runtime.child_process import end_with_parent, forbid_network
from runtime.closing import Closing
from runtime.errors import CancelledError, RelumeError
from runtime.media.demux import describe_unreadable
from runtime.media.webp import release_converted
from runtime.options import EnhanceOptions

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 180.0
_LEAST_SPEED: Final = 5e6
"""Bytes per second of the slowest network drive: files without a declared duration are read completely."""
_POLL_S: Final = 0.2
_IDLE_S: Final = 20.0
_END_S: Final = 2.0
_COMMAND: Final = (sys.executable, "-m", "appliance.watch.integrity_process")


class Inspector(Closing):
    """One reader process, started on demand and ended when idle.

    Each watch folder has its own: a file that takes hours to read delays no other folder.
    """

    def __init__(self, *, timeout_s: float = _TIMEOUT_S, command: tuple[str, ...] = _COMMAND) -> None:
        self._timeout_s, self._command = timeout_s, command
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._used = 0.0

    def inspect(
        self,
        path: str,
        options: EnhanceOptions,
        *,
        is_declared: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> str:
        """Check that a file can be enhanced and is complete.

        Returns:
            The suffix of its result.

        Raises:
            UnreadableError: It is not; the message is for the user.
            CancelledError: `is_cancelled` returned True while waiting.
        """
        request = {"path": path, "options": options_to_json(options), "is_declared": is_declared}
        with self._lock:
            found = self._ask(request, is_cancelled)
        if "reason" in found:
            raise UnreadableError(_shorten(str(found["reason"]), path))
        return str(found["suffix"])

    def end_if_idle(self) -> None:
        """End the process if it has been idle for a while; return at once if it is at work."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._process is not None and time.monotonic() - self._used > _IDLE_S:
                self._end()
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, request: dict[str, Any], is_cancelled: Callable[[], bool]) -> dict[str, Any]:
        process = self._process
        if process is None or process.poll() is not None:
            self._end()
            process = self._process = subprocess.Popen(
                (*self._command, str(os.getpid())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(appliance.__file__).parents[1],
            )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            timeout_s = self._timeout_s + _size(request["path"]) / _LEAST_SPEED
            deadline = time.monotonic() + timeout_s
            while not select.select([process.stdout], [], [], _POLL_S)[0]:
                if is_cancelled():
                    self._end()
                    raise CancelledError("checking the file was cancelled")
                if time.monotonic() > deadline:
                    self._end()
                    return {"reason": f"file is damaged: reading it took longer than {timeout_s:.3g} s; copy it again"}
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        self._used = time.monotonic()
        if not line:
            self._end()
            return {"reason": "file is damaged: the process that read it crashed; copy it again"}
        found: dict[str, Any] = json.loads(line)
        return found

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        try:
            process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            # It hangs in a file system that does not respond, and ends when that does.
            logger.warning("the reader process %d does not end; check the network drives", process.pid)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _shorten(reason: str, path: str) -> str:
    """Remove the path from a reason, which is shown beside the file's name."""
    if reason.startswith(f"{path} "):
        return reason.removeprefix(f"{path} ")
    return reason.replace(path, "it")


_MAX_MEMORY_BYTES: Final = 6 * 1024**3


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Check one file; return the suffix of its result, or the reason why it cannot be enhanced."""
    from appliance.watch.integrity import check_media

    path = Path(request["path"])
    try:
        options = options_from_json(request["options"])
        suffix = check_media(path, options, is_declared=request["is_declared"])
    except RelumeError as error:
        return {"reason": str(error)}
    except OSError as error:
        return {"reason": describe_unreadable(path, error)}
    except MemoryError:
        return {"reason": f"{path} needs too much memory to be read; it is damaged"}
    finally:
        release_converted()
    return {"suffix": suffix}


def main() -> None:
    """Answer requests, a line of JSON each, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY_BYTES, resource.RLIM_INFINITY))
    forbid_network()
    # From the command line: `getppid` may return another process here, if the parent has ended already.
    end_with_parent(int(sys.argv[-1]))
    # Libraries may print: their output must not be mistaken for an answer.
    answers: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
