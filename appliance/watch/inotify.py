"""Wakes a folder's thread when something changes in the folder, where the kernel tells of it."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from runtime.closing import Closing

logger = logging.getLogger(__name__)

_STEP_MS: Final = 250
_GATHER_MS: Final = 500
_AGAIN_S: Final = 30.0


class Notices(Closing):
    """Inotify on folders that a look found.

    Each is watched by itself: a recursive watch of the library would follow links out of the folder, over the whole
    disk if need be. What it misses (the kernel's limit of watches reached, folders made meanwhile) the looks find
    that are made now and then anyway.
    """

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._folders: frozenset[str] = frozenset()
        self._begun = 0.0
        self.is_deaf = False
        """Whether the kernel cannot be asked now, so that the folder has to be polled."""

    def watch(self, folders: Sequence[str]) -> None:
        """Watch these folders from now on, and no others."""
        wanted = frozenset(folders)
        if wanted == self._folders and not (self.is_deaf and time.monotonic() - self._begun > _AGAIN_S):
            return
        self.close()
        self._folders, self._stop = wanted, threading.Event()
        self.is_deaf, self._begun = False, time.monotonic()
        if wanted:
            self._thread = threading.Thread(
                target=self._run, args=(sorted(wanted), self._stop), name="relume-notices", daemon=True
            )
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change; tell whether there was one."""
        found = self._woken.wait(timeout_s)
        self._woken.clear()
        return found

    def wake(self) -> None:
        """End a wait."""
        self._woken.set()

    def close(self) -> None:
        """Watch nothing more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._folders = frozenset()

    def _run(self, folders: list[str], stop: threading.Event) -> None:
        from watchfiles import watch

        # What changed between the look and the start of the watch is found by another look.
        self._woken.set()
        try:
            for _ in watch(
                *folders,
                watch_filter=None,
                recursive=False,
                step=_STEP_MS,
                debounce=_GATHER_MS,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._woken.set()
        except (OSError, RuntimeError) as error:
            # Too many watches, a folder that is gone, or a name that is not valid Unicode.
            logger.info("the kernel does not tell of changes in %s for now: %s", folders[0], error)
            self.is_deaf = True
            self._woken.set()
