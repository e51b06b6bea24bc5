"""Setting a `threading.Event` from a signal handler.

A handler runs in the main thread between any two instructions, even while that thread holds the lock of the event;
setting the event there would then deadlock. This happened to a worker that received two signals in quick succession.
"""

import threading
from queue import SimpleQueue

from runtime.closing import Closing


class SignalEvent(Closing):
    """Sets an event from a thread; `trigger` takes no lock, so a signal handler may call it."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event
        self._triggers: SimpleQueue[bool] = SimpleQueue()
        threading.Thread(target=self._run, name="relume-signal", daemon=True).start()

    def trigger(self, *_: object) -> None:
        """Set the event; the arguments of a signal handler are ignored."""
        # CPython documents put of a SimpleQueue as reentrant.
        self._triggers.put(True)

    def close(self) -> None:
        """Stop the thread; the event does not change."""
        self._triggers.put(False)

    def _run(self) -> None:
        while self._triggers.get():
            self._event.set()
