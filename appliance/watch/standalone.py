"""`relume watch`: one folder enhanced without the server, by the same queue and workers in a small data directory."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.enhance_command import describe_progress
from appliance.jobs.job import JobRecord, JobState
from appliance.jobs.queue import JobQueue
from appliance.jobs.supervisor import Supervisor
from appliance.maintenance.logs import log_to_file, rotate
from appliance.store.data_dir import database_path, open_data_directory
from appliance.store.database import Database
from appliance.watch.errors import FolderError
from appliance.watch.folder import FileState, NewFolder, Problem, WatchFolder
from appliance.watch.job_tracker import Patience
from appliance.watch.scan import show_name
from appliance.watch.store import FolderStore
from appliance.watch.watcher import Watcher
from runtime.errors import OutputError
from runtime.progress import Progress

DATA_NAME: Final = ".relume"
_LOOK_S: Final = 0.5
_LINE_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a watch ended: whether it was stopped, what is done, and what could not be."""

    is_stopped: bool
    done: int
    problems: tuple[Problem, ...]


def watch_folder(
    wish: NewFolder,
    *,
    data: Path | None = None,
    once: bool = False,
    cancel: threading.Event,
    say: Callable[[str], None] = print,
    patience: Patience | None = None,
    devices: tuple[str, ...] | None = None,
) -> Outcome:
    """Watch a folder until `cancel` is set or, with `once`, until nothing in it is left to be done.

    Args:
        wish: The folder; what an earlier watch of it has done is not done again.
        data: Keeps the queue and what is known of the files; `.relume` in the destination if None.
        once: End when all is done.
        cancel: Ends the watch; jobs that run go on where they were the next time.
        say: Is given a line for everything that happens.
        patience: How often what failed is tried; one time with `once`.
        devices: What enhances; the best that there is if None.

    Raises:
        FolderError: The folder cannot be watched like that.
        StoreError: Another one works in the data directory.
        OutputError: The destination cannot be made.
    """
    if patience is None and once:
        patience = Patience(tries=1)
    lines = threading.Lock()

    def tell(name: str, text: str) -> None:
        with lines:
            say(f"{show_name(name)}: {text}")

    with ExitStack() as stack:
        if not os.path.isdir(wish.path):
            raise FolderError(f"the folder {wish.path} does not exist; create it first, or mount it")
        place = stack.enter_context(open_data_directory(_data_directory(wish, data)))
        log = stack.enter_context(log_to_file(place))
        database = stack.enter_context(Database(database_path(place)))
        store, queue = FolderStore(database), JobQueue(database)
        folder = _keep(store, wish)
        workers = stack.enter_context(Supervisor(place, devices=devices, log=rotate(log.with_name("workers.log"))))
        watcher = stack.enter_context(
            Watcher(
                store,
                queue,
                patience=patience,
                only={folder.id},
                tell=lambda _, name, text: tell(name, text),
            )
        )
        workers.start()
        tell(str(wish.path), "watched; Ctrl-C stops, and the next start goes on where it was")
        screen = _Screen(queue, store, folder, tell)
        while not cancel.wait(_LOOK_S):
            screen.show()
            if once and watcher.is_idle(folder.id):
                break
        is_stopped = cancel.is_set()
        if is_stopped:
            tell(str(wish.path), "stopping")
        done = len(store.ledger(folder.id).files(FileState.DONE))
        return Outcome(is_stopped, done, tuple(store.problems(folder.id)))


def _data_directory(wish: NewFolder, data: Path | None) -> Path:
    if data is not None:
        return data
    try:
        wish.destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {wish.destination} cannot be made: {error.strerror}; choose another") from error
    return wish.destination / DATA_NAME


def _keep(store: FolderStore, wish: NewFolder) -> WatchFolder:
    """Go on with a folder that was watched before, with the wishes of now."""
    known = next((folder for folder in store.list() if folder.wish.path == wish.path), None)
    return store.add(wish) if known is None else store.update(known.id, wish)


class _Screen:
    """Says now and then how far the jobs are, and at once what is wrong with the folder."""

    def __init__(
        self, queue: JobQueue, store: FolderStore, folder: WatchFolder, tell: Callable[[str, str], None]
    ) -> None:
        self._queue, self._store, self._folder, self._tell = queue, store, folder, tell
        self._revision = queue.revision()
        self._due = 0.0
        self._running = ""
        self._trouble = ""

    def show(self) -> None:
        """Say what is new."""
        trouble = next((problem.reason for problem in self._store.problems(self._folder.id) if not problem.file), "")
        if trouble != self._trouble:
            self._tell(str(self._folder.wish.path), trouble or "watched again")
            self._trouble = trouble
        revision = self._queue.revision()
        if revision == self._revision:
            return
        for job in self._queue.changed_since(self._revision):
            if job.state is JobState.RUNNING and (job.id != self._running or time.monotonic() >= self._due):
                self._running, self._due = job.id, time.monotonic() + _LINE_EVERY_S
                self._tell(job.title, _describe(job))
        self._revision = revision


def _describe(job: JobRecord) -> str:
    facts = describe_progress(Progress(job.stage, job.frames_done, job.frames_total, fps=job.fps, eta_s=job.eta_s))
    return f"{job.stage}, {facts}" if facts else (job.stage or "begun")
