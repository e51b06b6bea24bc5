import subprocess
import sys
import threading

import pytest

from appliance.signals import SignalEvent

SCRIPT = """
import os, signal, threading
from appliance.signals import SignalEvent
event = threading.Event()
bell = SignalEvent(event)
signal.signal(signal.SIGTERM, {handler})
with event._cond:  # as Event.wait has it for a moment
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
assert event.wait(10)
"""


def run(handler: str, *, timeout_s: float) -> None:
    subprocess.run([sys.executable, "-c", SCRIPT.format(handler=handler)], check=True, timeout=timeout_s)


def test_a_signal_may_come_while_the_event_is_being_waited_for():
    run("bell.trigger", timeout_s=60)


def test_a_handler_that_sets_the_event_itself_waits_forever():
    with pytest.raises(subprocess.TimeoutExpired):
        run("lambda *_: event.set()", timeout_s=3)


def test_a_closed_bell_sets_nothing_more():
    event = threading.Event()
    with SignalEvent(event) as bell:
        pass

    bell.trigger()

    assert not event.wait(0.2)
