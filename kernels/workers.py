"""Threads that share the work of one kernel: each computes some of the rows, so the result depends on no thread count.

Numba's own threads are not used: its portable layer must not be entered from two threads at once, and the stages of a
pipeline are threads that call kernels side by side.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Self


class Workers:
    """A number of threads, the caller's among them; a context manager.

    Several threads may call `run` at once; the pool's threads then serve all of them.
    """

    def __init__(self, threads: int) -> None:
        self.threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self.threads - 1, "relume-kernel") if self.threads > 1 else None

    def run(self, work: Callable[[int, int], object], count: int, *, least: int = 1) -> None:
        """Call `work(begin, end)` on parts of `range(count)`, at once, and return when all are done.

        Args:
            work: Releases the GIL, and writes to nothing that another part reads or writes.
            count: Of the rows, or whatever the parts consist of.
            least: Length of a part that is worth a thread.
        """
        parts = min(self.threads, count // max(1, least))
        if self._pool is None or parts < 2:
            work(0, count)
            return
        bounds = [count * part // parts for part in range(parts + 1)]
        others = [self._pool.submit(work, *pair) for pair in pairwise(bounds[1:])]
        try:
            work(0, bounds[1])
        finally:
            for other in others:
                other.result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


SINGLE = Workers(1)
"""The caller's thread alone."""
