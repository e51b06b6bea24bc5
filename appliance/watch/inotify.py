"""Inotify on a watch folder, which wakes the folder's thread after a change."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from runtime.closing import Closing

logger = logging.getLogger(__name__)

_STEP_MS: Final = 250
_DEBOUNCE_MS: Final = 500
_RETRY_S: Final = 30.0


class InotifyWatcher(Closing):
    """Inotify watches on the folders of a scan.

    Each folder has its own watch: a recursive watch of the library follows links out of the folder, over the whole
    disk. Changes that are missed (the kernel's limit of watches reached, new folders) are found by the next scan.
    """

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._folders: frozenset[str] = frozenset()
        self._started = 0.0
        self.unavailable = False
        """True if inotify does not work now, so that the folder must be polled."""

    def watch(self, folders: Sequence[str]) -> None:
        """Watch these folders and no others."""
        wanted = frozenset(folders)
        if wanted == self._folders and not (self.unavailable and time.monotonic() - self._started > _RETRY_S):
            return
        self.close()
        self._folders, self._stop = wanted, threading.Event()
        self.unavailable, self._started = False, time.monotonic()
        if wanted:
            self._thread = threading.Thread(
                target=self._run, args=(sorted(wanted), self._stop), name="relume-inotify", daemon=True
            )
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change; return True if there was one."""
        found = self._woken.wait(timeout_s)
        self._woken.clear()
        return found

    def wake(self) -> None:
        """End a wait."""
        self._woken.set()

    def close(self) -> None:
        """Remove all watches."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._folders = frozenset()

    def _run(self, folders: list[str], stop: threading.Event) -> None:
        from watchfiles import watch

        # Changes between the scan and the start of the watches are found by another scan.
        self._woken.set()
        try:
            for _ in watch(
                *folders,
                watch_filter=None,
                recursive=False,
                step=_STEP_MS,
                debounce=_DEBOUNCE_MS,
                stop_event=stop,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._woken.set()
        except (OSError, RuntimeError) as error:
            # Too many watches, a folder that is gone, or a name that is not valid Unicode.
            logger.info("inotify does not work in %s, which is polled for now: %s", folders[0], error)
            self.unavailable = True
            self._woken.set()
