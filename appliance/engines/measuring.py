"""Benchmarks models that have no measurements on this machine, while it is idle.

`python -m appliance.engines.measuring` is the process, and `SpeedKeeper` the server's thread that runs it. A job has
priority: when one starts, the process is ended, and restarted when the machine is idle.
"""

import argparse
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import appliance
from runtime.child_process import end_with_parent, forbid_network, lower_priority
from runtime.closing import Closing
from runtime.errors import RelumeError

logger = logging.getLogger(__name__)

_QUIET_S: Final = 60.0
_POLL_S: Final = 1.0
_END_S: Final = 5.0


class SpeedKeeper(Closing):
    """Runs missing benchmarks: once, and again after `remeasure`; `close` ends it."""

    def __init__(
        self, engines: Path, is_idle: Callable[[], bool], *, own: Path | None = None, quiet_s: float = _QUIET_S
    ) -> None:
        """Create the thread.

        Args:
            engines: The folder of engines and measurements.
            is_idle: Returns True while no job runs.
            own: A folder of the user's own models, which are measured as well.
            quiet_s: Time without a job before it starts.
        """
        self._engines, self._is_idle, self._own, self._quiet_s = engines, is_idle, own, quiet_s
        self._stopping, self._due = threading.Event(), threading.Event()
        self._due.set()
        self._thread = threading.Thread(target=self._run, name="relume-speeds", daemon=True)

    def start(self) -> None:
        """Start waiting for an idle machine."""
        self._thread.start()

    def remeasure(self) -> None:
        """Run missing benchmarks again: a backend that waited for its engine may run now."""
        self._due.set()

    def close(self) -> None:
        """End the thread and its process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        since = time.monotonic()
        while not self._stopping.wait(min(_POLL_S, self._quiet_s)):
            try:
                if not self._is_idle():
                    since = time.monotonic()
                elif self._due.is_set() and time.monotonic() - since >= self._quiet_s:
                    self._due.clear()
                    if not self._measure():
                        self._due.set()
                    since = time.monotonic()
            except Exception:
                logger.exception("the benchmarks failed; `relume doctor` runs them too")
                return

    def _measure(self) -> bool:
        """Run the process; return True if it completed."""
        command = [sys.executable, "-m", "appliance.engines.measuring", "--engines", str(self._engines)]
        command += ["--parent", str(os.getpid())]
        if self._own is not None:
            command += ["--zoo", str(self._own)]
        with subprocess.Popen(command, cwd=Path(appliance.__file__).parents[1], stdin=subprocess.DEVNULL) as process:
            while process.poll() is None:
                if self._stopping.wait(_POLL_S / 4) or not self._is_idle():
                    process.terminate()
                    try:
                        process.wait(_END_S)
                    except subprocess.TimeoutExpired:
                        process.kill()
                    return False
        return True


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks in this process, which ends with the server."""
    parser = argparse.ArgumentParser(prog="python -m appliance.engines.measuring", description=__doc__)
    parser.add_argument("--engines", type=Path, required=True, help="folder of the measurements")
    parser.add_argument("--zoo", type=Path, help="folder of your own models")
    parser.add_argument("--parent", type=int, required=True, help="process id of the server, with which it ends")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s speeds: %(message)s")
    end_with_parent(options.parent)
    lower_priority()
    forbid_network()
    try:
        measure_missing(options.engines, options.zoo)
    except RelumeError as error:
        logger.warning("%s", error)
        return 1
    return 0


def measure_missing(engines: Path, own: Path | None = None) -> None:
    """Benchmark shipped and own models without measurements, and store the results model by model.

    Raises:
        RelumeError: The folder cannot be written, or a model is damaged.
    """
    from runtime.engine.benchmark import list_unmeasured, measure_model
    from runtime.engine.speeds import write_speeds
    from runtime.manifest import list_models

    for model in list_unmeasured(list_models() + ([] if own is None else list_models(own)), engines):
        speeds = measure_model(model, engines=engines)
        write_speeds(engines, speeds)
        for speed in speeds:
            took = speed.problem or f"{speed.ms:g} ms for {speed.size}"
            logger.info("%s on %s in %s: %s", speed.model, speed.backend, speed.precision, took)


if __name__ == "__main__":
    sys.exit(main())
