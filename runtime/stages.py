"""Threads with bounded queues between them: the stages of a pipeline, constant in memory, stopped together."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import Final, Generic, TypeVar

from runtime.errors import CancelledError

In = TypeVar("In")
Out = TypeVar("Out")
_POLL_S = 0.1


class StageClock:
    """Seconds that each stage was busy, added up across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Generator[None]:
        """Add the time of a `with` block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + elapsed

    def timed(self, stage: str, items: Iterable[In]) -> Iterator[In]:
        """Pass items on, adding the time that each took to come."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


class StopSignal:
    """Stops the stages of a part of a job: set by the part itself, or by the caller's `cancel`."""

    def __init__(self, cancel: threading.Event | None = None) -> None:
        self._own = threading.Event()
        self._cancel = cancel

    def set(self) -> None:
        """Stop the stages."""
        self._own.set()

    def is_set(self) -> bool:
        """Return whether the stages are to stop."""
        return self._own.is_set() or (self._cancel is not None and self._cancel.is_set())

    def check(self) -> None:
        """Return unless the stages are to stop.

        Raises:
            CancelledError: The signal was set.
        """
        if self.is_set():
            raise CancelledError("the job was stopped")

    def take(self, queue: "Queue[Out]") -> Out:
        """Wait for the next item of a queue and return it.

        Raises:
            CancelledError: The signal was set while waiting.
        """
        while True:
            try:
                return queue.get(timeout=_POLL_S)
            except Empty:
                pass
            self.check()


class _End:
    """The last item of a queue."""


_END: Final = _End()


class Stage(Generic[In, Out]):
    """Run one step of a pipeline in a thread of its own.

    Iterating yields the results in order and raises an error of the thread. When `stop` is set the thread
    ends and iterating raises `CancelledError`. A thread that cannot even report its end, because memory has run out,
    ends the iteration all the same.
    """

    def __init__(
        self,
        name: str,
        source: Iterable[In],
        work: Callable[[Iterator[In]], Iterator[Out]],
        *,
        depth: int,
        stop: StopSignal,
    ) -> None:
        self._source, self._work, self._stop = source, work, stop
        self._queue: Queue[Out | _End] = Queue(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"relume-{name}", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Out]:
        while True:
            item = self._next()
            if isinstance(item, _End):
                self._thread.join()
                if self._error is not None:
                    raise self._error
                return
            yield item
            del item  # while the next one is awaited, this one may be freed

    def join(self) -> None:
        """Wait until the thread has ended; `stop` must be set, or the results taken."""
        self._thread.join()

    def _next(self) -> Out | _End:
        """Wait for the next item, also of a thread that ended without its last one."""
        while True:
            ended = not self._thread.is_alive()
            with suppress(Empty):
                return self._queue.get(timeout=_POLL_S)
            self._stop.check()
            if ended:
                return _END

    def _run(self) -> None:
        try:
            for item in self._work(iter(self._source)):
                self._put(item)
                del item
        except BaseException as error:  # raised by the thread that iterates
            self._error = error
        # Where this fails too, `_next` finds that the thread has ended.
        with suppress(CancelledError, MemoryError):
            self._put(_END)

    def _put(self, item: Out | _End) -> None:
        while True:
            self._stop.check()
            try:
                self._queue.put(item, timeout=_POLL_S)
            except Full:
                continue
            return
