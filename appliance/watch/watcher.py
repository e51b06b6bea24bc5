"""Watches all folders of a data directory, each in a thread of its own, so that one that hangs holds up no other."""

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from appliance.jobs.queue import JobQueue
from appliance.validation_messages import clean_message
from appliance.watch.folder import WatchFolder
from appliance.watch.ingest import Taking
from appliance.watch.inotify import Notices
from appliance.watch.integrity_process import Inspector
from appliance.watch.job_tracker import Patience
from appliance.watch.path_rules import network_mount
from appliance.watch.scan import show_name
from appliance.watch.store import FolderStore
from runtime.closing import Closing

logger = logging.getLogger(__name__)

_RELOAD_S: Final = 2.0
_FOLLOW_S: Final = 1.0
_POLL_S: Final = 10.0
"""Between looks at a polled folder."""
_SAFETY_S: Final = 60.0
"""Between looks at a folder of which the kernel tells: what it missed is found then."""
_RECOVER_S: Final = 5.0
"""Between looks at a folder that is missing."""
_HANGS_AFTER_S: Final = 120.0
_JOIN_S: Final = 5.0


class Watcher(Closing):
    """The watch folders at work; a context manager.

    Folders that are added, changed or removed in the database, by any process, are noticed within seconds.
    """

    def __init__(
        self,
        store: FolderStore,
        queue: JobQueue,
        *,
        patience: Patience | None = None,
        poll_s: float = _POLL_S,
        only: Collection[str] | None = None,
        tell: Callable[[WatchFolder, str, str], None] = lambda *_: None,
        open_inspector: Callable[[], Inspector] = Inspector,
    ) -> None:
        """Begin to watch.

        Args:
            store: The folders.
            queue: Where the jobs go.
            patience: How often what failed is tried.
            poll_s: Seconds between looks at a polled folder.
            only: Ids of the folders to watch; all of the database if None.
            tell: Is told of what happens to a file, from any thread.
            open_inspector: Makes what looks into the files of one folder.
        """
        self._store, self._queue, self._patience, self._poll_s = store, queue, patience, poll_s
        self._only, self._tell, self._open_inspector = only, tell, open_inspector
        self._stop = threading.Event()
        self._threads: dict[str, FolderThread] = {}
        self._reload = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relume-watcher", daemon=True)
        self._thread.start()

    def is_idle(self, folder_id: str) -> bool:
        """Return whether a folder was looked at, and nothing in it is left to be done."""
        thread = self._threads.get(folder_id)
        return thread is not None and thread.is_idle

    def reload(self) -> None:
        """Look at the list of folders now rather than within two seconds."""
        self._reload.set()

    def close(self) -> None:
        """Stop watching; jobs that are queued stay queued."""
        self._stop.set()
        self._reload.set()
        # First of all: whoever waits for a folder, as the thread below may, waits for a short time only.
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
                logger.exception("the watch folders could not be read; they are read again soon")
            for thread in self._threads.values():
                thread.inspector.rest()
            self._reload.wait(_RELOAD_S)
            self._reload.clear()

    def _load(self) -> None:
        wanted = {
            folder.id: folder
            for folder in self._store.list()
            if folder.wish.enabled and (self._only is None or folder.id in self._only)
        }
        for folder_id, thread in list(self._threads.items()):
            if wanted.get(folder_id) != thread.folder:
                thread.stop()
                if not thread.join(_JOIN_S):
                    continue  # it hangs in a dead file system; its place is taken when it has ended
                del self._threads[folder_id]
            elif thread.hangs:
                where = show_name(str(thread.folder.wish.path))
                trouble = f"the folder {where} does not answer; is the machine that it is on reachable?"
                self._store.set_trouble(folder_id, trouble)
        for folder_id, folder in wanted.items():
            if folder_id not in self._threads:
                self._threads[folder_id] = FolderThread(
                    folder, self._store, self._queue, self._open_inspector(), self._patience, self._poll_s, self._tell
                )


class FolderThread:
    """One folder at work, until it is stopped."""

    def __init__(
        self,
        folder: WatchFolder,
        store: FolderStore,
        queue: JobQueue,
        inspector: Inspector,
        patience: Patience | None,
        poll_s: float,
        tell: Callable[[WatchFolder, str, str], None],
    ) -> None:
        self.folder = folder
        self.is_idle = False
        """Whether the last look left nothing to be done; for ending when all is done."""
        self.inspector = inspector
        self._store, self._queue = store, queue
        self._patience, self._poll_s, self._tell = patience, poll_s, tell
        self._stop = threading.Event()
        self._notices = Notices()
        self._beat: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"relume-watch-{folder.id}", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Return whether a look at the folder has not got on for a long time."""
        beat = self._beat
        return beat is not None and time.monotonic() - beat > _HANGS_AFTER_S

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()
        self._notices.wake()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, and tell whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with self._notices, self.inspector:
            while not self._stop.is_set():
                try:
                    self._watch()
                except Exception as error:  # the outermost loop of the thread
                    logger.exception("watching %s failed; it is begun again", self.folder.wish.path)
                    self._note(f"cannot be watched ({clean_message(str(error))}); retrying")
                    self._stop.wait(_RECOVER_S)

    def _note(self, trouble: str) -> None:
        try:
            self._store.set_trouble(self.folder.id, trouble)
        except Exception:  # the database itself may be what failed
            logger.exception("the trouble of %s could not be noted", self.folder.wish.path)

    def _watch(self) -> None:
        taking = Taking(
            self.folder,
            self._store,
            self._queue,
            self.inspector,
            patience=self._patience,
            is_stopped=self._is_stopped,
            tell=lambda name, text: self._tell(self.folder, name, text),
        )
        next_look = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= next_look or taking.is_retry_due:
                next_look = now + self._look(taking)
            taking.follow()
            self.is_idle = not taking.waiting and not taking.open_jobs
            busy = taking.open_jobs or taking.waiting or taking.retried
            pause_s = min(_FOLLOW_S if busy else _SAFETY_S, max(0.0, next_look - time.monotonic()))
            if self._notices.wait(pause_s):
                next_look = 0.0

    def _is_stopped(self) -> bool:
        """Answer a look that asks, which shows that it gets on."""
        self._beat = time.monotonic()
        return self._stop.is_set()

    def _look(self, taking: Taking) -> float:
        """Look once; say after how long to look again."""
        self.is_idle = False
        self._beat = time.monotonic()
        polled = self.folder.wish.polling or network_mount(self.folder.wish.path) is not None
        look = taking.look()
        self._beat = None
        if look.missing:
            self._notices.watch([])
            return _RECOVER_S
        self._notices.watch([] if polled else look.folders)
        pause_s = self._poll_s if polled or self._notices.is_deaf else _SAFETY_S
        return min(pause_s, taking.settling.pause_s) if taking.settling.waiting else pause_s
