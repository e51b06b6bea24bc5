"""Signals that set an event.

A handler runs in the main thread between any two of its steps, also while that thread has the event's own lock: if it
set the event there it would wait for itself for ever. A worker that was told to end twice within a moment did.
"""

import threading
from queue import SimpleQueue

from runtime.closing import Closing


class SignalEvent(Closing):
    """Sets an event from a thread when it is rung; `trigger` takes no lock, so that a handler may call it."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event
        self._rings: SimpleQueue[bool] = SimpleQueue()
        threading.Thread(target=self._listen, name="relume-bell", daemon=True).start()

    def trigger(self, *_: object) -> None:
        """Have the event set; a signal's number and frame are passed over."""
        # CPython documents put of a SimpleQueue as reentrant.
        self._rings.put(True)

    def close(self) -> None:
        """End the thread; the event stays as it is."""
        self._rings.put(False)

    def _listen(self) -> None:
        while self._rings.get():
            self._event.set()
