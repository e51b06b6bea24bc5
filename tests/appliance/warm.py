"""A process that has imported the command, and runs it in copies of itself: importing takes longer than most runs."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class WarmCommand:
    """Runs `relume` with arguments, each time in a new process; `close` ends the process it is copied from."""

    def __init__(self, folder: Path) -> None:
        """Start the process.

        Args:
            folder: A folder for what the commands print.
        """
        self._out, self._error = folder / "out", folder / "error"
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
            )

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """Run the command and wait for its end."""
        request = [list(arguments), dict(environment), os.getcwd(), str(self._out), str(self._error)]
        self._socket.settimeout(timeout_s)
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        answer = self._socket.recv(64)
        assert answer, "the process that runs commands has ended"
        return subprocess.CompletedProcess(
            arguments, int(answer), self._out.read_text("utf-8"), self._error.read_text("utf-8")
        )

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait(30)


def serve(requests: socket.socket) -> int:
    """Answer each request with the exit code of its command; return in a copy that runs one, and at the end."""
    import runtime.enhance  # noqa: F401

    with requests.makefile("rb") as lines:
        for line in lines:
            child = os.fork()
            if child == 0:
                return run_command(*json.loads(line))
            _, status = os.waitpid(child, 0)
            requests.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    return 0


def run_command(arguments: list[str], environment: dict[str, str], folder: str, out: str, error: str) -> int:
    """Run the command in this process, whose output goes to two files."""
    from appliance.cli import main

    for path, number in ((out, 1), (error, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["relume", *arguments]
    main()
    return 0


if __name__ == "__main__":
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
