"""`python -m appliance.jobs --data DIR`: the workers of a data directory without the server, until SIGTERM."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from appliance.jobs.supervisor import Limits, Supervisor
from appliance.jobs.worker import parse_rule
from appliance.signals import SignalEvent
from appliance.store.data_dir import open_data_directory
from runtime.errors import RelumeError


def main() -> int:
    """Run the workers until this process is told to end."""
    parser = argparse.ArgumentParser(prog="python -m appliance.jobs", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the data directory")
    parser.add_argument("--memory-bytes", type=int, help="the most memory that a worker may take")
    parser.add_argument("--rule", type=parse_rule, metavar="LEAST-MOST", help="pictures in a segment, for tests")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s server: %(message)s")
    ends = threading.Event()
    bell = SignalEvent(ends)
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, bell.trigger)
    try:
        with (
            open_data_directory(options.data) as data,
            Supervisor(data, limits=Limits(memory_bytes=options.memory_bytes), rule=options.rule) as supervisor,
        ):
            supervisor.start()
            ends.wait()
    except RelumeError as error:
        print(f"relume: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
