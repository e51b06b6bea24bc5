"""Watches all folders of a data directory, each in its own thread, so that a hanging one delays no other."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from appliance.jobs.queue import JobQueue
from appliance.validation_messages import clean_message
from appliance.watch.folder import WatchFolder
from appliance.watch.ingest import FolderIngest
from appliance.watch.inotify import InotifyWatcher
from appliance.watch.integrity_process import Inspector
from appliance.watch.job_tracker import RetryPolicy
from appliance.watch.path_rules import network_mount
from appliance.watch.scan import show_name
from appliance.watch.store import FolderStore
from runtime.closing import Closing

logger = logging.getLogger(__name__)

_RELOAD_S: Final = 2.0
_JOBS_S: Final = 1.0
"""Interval of checking jobs."""
_POLL_S: Final = 10.0
"""Interval of scans of a polled folder."""
_RESCAN_S: Final = 60.0
"""Interval of scans of a folder with inotify, for changes that it missed."""
_RECOVER_S: Final = 5.0
"""Interval of scans of a missing folder."""
_HANGS_AFTER_S: Final = 120.0
_JOIN_S: Final = 5.0


class Watcher(Closing):
    """Watches the folders of a store; a context manager.

    Folders that any process adds, changes or removes in the database are picked up within seconds.
    """

    def __init__(
        self,
        store: FolderStore,
        queue: JobQueue,
        *,
        retry_policy: RetryPolicy | None = None,
        poll_s: float = _POLL_S,
        only: Collection[str] | None = None,
        notify: Callable[[WatchFolder, str, str], None] = lambda *_: None,
        open_inspector: Callable[[], Inspector] = Inspector,
    ) -> None:
        """Start watching.

        Args:
            store: The watch folders.
            queue: The queue for the jobs.
            retry_policy: When failures are retried.
            poll_s: Interval of scans of a polled folder.
            only: Ids of the folders to watch; all of the database if None.
            notify: Is called with a folder, a file's name and a message for every event, from any thread.
            open_inspector: Returns the inspector of one folder.
        """
        self._store, self._queue, self._retry_policy, self._poll_s = store, queue, retry_policy, poll_s
        self._only, self._notify, self._open_inspector = only, notify, open_inspector
        self._stop = threading.Event()
        self._threads: dict[str, FolderThread] = {}
        self._reload = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relume-watcher", daemon=True)
        self._thread.start()

    def is_idle(self, folder_id: str) -> bool:
        """Return True when the folder has been scanned and is idle."""
        thread = self._threads.get(folder_id)
        return thread is not None and thread.is_idle

    def reload(self) -> None:
        """Read the list of folders now rather than within two seconds."""
        self._reload.set()

    def close(self) -> None:
        """Stop watching; queued jobs stay queued."""
        self._stop.set()
        self._reload.set()
        # First: the thread below may wait for the thread of a folder.
        for thread in tuple(self._threads.values()):
            thread.stop()
        self._thread.join()
        for thread in self._threads.values():
            thread.stop()
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._load()
            except Exception:  # the outermost loop of the thread
                logger.exception("the watch folders could not be read; retrying")
            for thread in self._threads.values():
                thread.inspector.end_if_idle()
            self._reload.wait(_RELOAD_S)
            self._reload.clear()

    def _load(self) -> None:
        wanted = {
            folder.id: folder
            for folder in self._store.list()
            if folder.config.enabled and (self._only is None or folder.id in self._only)
        }
        for folder_id, thread in list(self._threads.items()):
            if wanted.get(folder_id) != thread.folder:
                thread.stop()
                if not thread.join(_JOIN_S):
                    continue  # it hangs in a dead file system; another starts when it has ended
                del self._threads[folder_id]
            elif thread.hangs:
                path = show_name(str(thread.folder.config.path))
                trouble = f"the folder {path} does not respond; check that its server or drive is reachable"
                self._store.set_trouble(folder_id, trouble)
        for folder_id, folder in wanted.items():
            if folder_id not in self._threads:
                self._threads[folder_id] = FolderThread(
                    folder,
                    self._store,
                    self._queue,
                    self._open_inspector(),
                    self._retry_policy,
                    self._poll_s,
                    self._notify,
                )


class FolderThread:
    """The thread of one folder."""

    def __init__(
        self,
        folder: WatchFolder,
        store: FolderStore,
        queue: JobQueue,
        inspector: Inspector,
        retry_policy: RetryPolicy | None,
        poll_s: float,
        notify: Callable[[WatchFolder, str, str], None],
    ) -> None:
        self.folder = folder
        self.is_idle = False
        """True if the last scan left nothing to do; for ending when all is done."""
        self.inspector = inspector
        self._store, self._queue = store, queue
        self._retry_policy, self._poll_s, self._notify = retry_policy, poll_s, notify
        self._stop = threading.Event()
        self._inotify = InotifyWatcher()
        self._active_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"relume-watch-{folder.id}", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Return True if a scan has made no progress for a long time."""
        active_at = self._active_at
        return active_at is not None and time.monotonic() - active_at > _HANGS_AFTER_S

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
        self._inotify.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; return True if it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._inotify, self.inspector:
            while not self._stop.is_set():
                try:
                    self._watch()
                except Exception as error:  # the outermost loop of the thread
                    logger.exception("watching %s failed; retrying", self.folder.config.path)
                    self._set_trouble(f"cannot be watched ({clean_message(str(error))}); retrying")
                    self._stop.wait(_RECOVER_S)

    def _set_trouble(self, trouble: str) -> None:
        try:
            self._store.set_trouble(self.folder.id, trouble)
        except Exception:  # the database itself may be what failed
            logger.exception("the problem of %s could not be stored", self.folder.config.path)

    def _watch(self) -> None:
        ingest = FolderIngest(
            self.folder,
            self._store,
            self._queue,
            self.inspector,
            retry_policy=self._retry_policy,
            is_stopped=self._is_stopped,
            notify=lambda name, text: self._notify(self.folder, name, text),
        )
        next_scan = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_scan or ingest.is_retry_due:
                next_scan = now + self._scan(ingest)
            ingest.follow_jobs()
            self.is_idle = not ingest.waiting and not ingest.open_jobs
            busy = ingest.open_jobs or ingest.waiting or ingest.retried
            pause_s = min(_JOBS_S if busy else _RESCAN_S, max(0.0, next_scan - time.monotonic()))
            if self._inotify.wait(pause_s):
                next_scan = 0.0

    def _is_stopped(self) -> bool:
        """Return True if the thread is to end; each call shows that a scan makes progress."""
        self._active_at = time.monotonic()
        return self._stop.is_set()

    def _scan(self, ingest: FolderIngest) -> float:
        """Scan once; return the pause before the next scan."""
        self.is_idle = False
        self._active_at = time.monotonic()
        polled = self.folder.config.polling or network_mount(self.folder.config.path) is not None
        result = ingest.scan()
        self._active_at = None
        if result.missing:
            self._inotify.watch([])
            return _RECOVER_S
        self._inotify.watch([] if polled else result.folders)
        pause_s = self._poll_s if polled or self._inotify.unavailable else _RESCAN_S
        return min(pause_s, ingest.stability.pause_s) if ingest.unstable else pause_s
