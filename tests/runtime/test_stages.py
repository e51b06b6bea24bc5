"""Stages keep the order, pass errors on, throttle a fast source and stop together."""

import threading
import time
from queue import Queue

import pytest

from runtime.errors import CancelledError
from runtime.stages import Stage, StageClock, StopSignal


def doubled(items):
    for item in items:
        yield 2 * item


def test_results_come_in_order_through_two_stages():
    stop = StopSignal()
    first = Stage("one", range(100), doubled, depth=2, stop=stop)
    second = Stage("two", first, doubled, depth=2, stop=stop)

    assert list(second) == [4 * item for item in range(100)]


def test_an_error_in_a_stage_is_raised_at_the_end_of_the_chain():
    def fail(items):
        for item in items:
            if item == 3:
                raise ValueError("broken at three")
            yield item

    stop = StopSignal()
    chain = Stage("last", Stage("fails", range(10), fail, depth=1, stop=stop), doubled, depth=1, stop=stop)
    results = []

    with pytest.raises(ValueError, match="broken at three"):
        results.extend(chain)

    assert results == [0, 2, 4]


def test_a_stage_that_cannot_report_its_end_for_want_of_memory_ends_the_chain(monkeypatch):
    def put(*_, **__):
        raise MemoryError("no memory for the last item")

    monkeypatch.setattr(Queue, "put", put)
    stop = StopSignal()
    chain = Stage("last", Stage("first", range(3), doubled, depth=1, stop=stop), doubled, depth=1, stop=stop)
    found = []

    def run():
        try:
            list(chain)
        except BaseException as error:
            found.append(error)

    waiting = threading.Thread(target=run, daemon=True)
    waiting.start()
    waiting.join(5)
    stop.set()

    assert [type(error) for error in found] == [MemoryError]


def test_a_source_never_runs_ahead_of_the_queue():
    taken = []

    def source():
        for item in range(50):
            taken.append(item)
            yield item

    stop = StopSignal()
    stage = Stage("slow", source(), doubled, depth=2, stop=stop)
    results = iter(stage)
    next(results)
    time.sleep(0.1)

    assert len(taken) <= 5
    assert len(list(results)) == 49


def test_stopping_ends_the_thread_and_the_iteration():
    cancel = threading.Event()
    stop = StopSignal(cancel)
    stage = Stage("endless", iter(int, 1), doubled, depth=1, stop=stop)
    results = iter(stage)
    next(results)

    cancel.set()

    with pytest.raises(CancelledError, match="stopped"):
        for _ in results:
            pass
    stage.join()


def test_the_clock_adds_up_what_each_item_took():
    clock = StageClock()

    def slow():
        for item in range(3):
            time.sleep(0.01)
            yield item

    assert list(clock.timed("read", slow())) == [0, 1, 2]
    assert clock.seconds["read"] >= 0.03
