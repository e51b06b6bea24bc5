"""The watch folders in the database; their files are in `file_index`."""

import builtins
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from appliance.jobs.job import options_from_json, options_to_json
from appliance.store.database import Database
from appliance.watch.errors import FolderError, FolderNotFoundError
from appliance.watch.file_index import FileTable
from appliance.watch.file_state import FileEvent, FileState, WatchedFile, next_state
from appliance.watch.folder import Activity, FolderConfig, Problem, Schedule, WatchFolder
from appliance.watch.path_rules import check_folder, mount_name
from appliance.watch.scan import show_name

_MAX_NAMES: Final = 50
_WAITING: Final = (FileState.SEEN, FileState.STABLE, FileState.VALIDATED)
_JOBS: Final = "SELECT state, COUNT(*) FROM jobs WHERE folder = ? GROUP BY state"
_FILES: Final = "SELECT state, COUNT(*) FROM watched_files WHERE folder = ? GROUP BY state"
_DONE_SINCE: Final = "SELECT COUNT(*) FROM jobs WHERE folder = ? AND state = 'done' AND finished_at >= ?"
_LAST: Final = (
    "SELECT name, changed_at FROM watched_files WHERE folder = ? AND state NOT IN ('seen', 'stable') "
    "ORDER BY changed_at DESC LIMIT 1"
)


class FolderStore:
    """The watch folders of one data directory."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def data(self) -> Path:
        """The data directory, which cannot be watched."""
        return self.database.path.parent

    def add(self, config: FolderConfig) -> WatchFolder:
        """Add a watch folder; files that are in it already are processed too.

        Raises:
            FolderError: It cannot be watched, or its results would be found as new files.
        """
        config = _absolute(config)
        folder_id, created_at = secrets.token_urlsafe(9), time.time()
        while True:
            # Before the transaction: a share that does not answer must not block the database.
            others = self.list()
            check_folder(config, [folder.config for folder in others], data=self.data)
            columns = {"id": folder_id, "created_at": created_at, **_columns(config), **_mounts(config)}
            marks = ", ".join("?" * len(columns))
            with self.database.transaction() as connection:
                if self.list() != others:
                    continue  # another process changed a folder meanwhile
                query = f"INSERT INTO folders ({', '.join(columns)}) VALUES ({marks})"
                connection.execute(query, tuple(columns.values()))
                return self.get(folder_id)

    def get(self, folder_id: str) -> WatchFolder:
        """Return a folder.

        Raises:
            FolderNotFoundError: No folder has that id.
        """
        with self.database.read() as connection:
            row = connection.execute("SELECT * FROM folders WHERE id = ?", (folder_id,)).fetchone()
        if row is None:
            raise FolderNotFoundError(f"no watch folder has the id {folder_id!r}; reload the list")
        return _folder(row)

    def list(self) -> builtins.list[WatchFolder]:
        """Return all folders, the oldest first."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT * FROM folders ORDER BY created_at, id").fetchall()
        return [_folder(row) for row in rows]

    def update(self, folder_id: str, config: FolderConfig) -> WatchFolder:
        """Change the configuration of a folder; files that were processed before are not processed again.

        Raises:
            FolderNotFoundError: No folder has that id.
            FolderError: It cannot be watched like that; it stays as it was.
        """
        config = _absolute(config)
        while True:
            before, everyone = self.get(folder_id), self.list()
            if replace(before.config, enabled=config.enabled) != config:
                others = [folder.config for folder in everyone if folder.id != folder_id]
                check_folder(config, others, data=self.data)
            columns = {**_columns(config), "trouble": None, "trouble_tries": 0}
            if (config.path, config.destination) != (before.config.path, before.config.destination):
                columns |= _mounts(config)
            settings = ", ".join(f"{name} = ?" for name in columns)
            with self.database.transaction() as connection:
                if self.list() != everyone:
                    continue
                connection.execute(f"UPDATE folders SET {settings} WHERE id = ?", (*columns.values(), folder_id))
                return self.get(folder_id)

    def remove(self, folder_id: str) -> None:
        """Remove a watch folder; its jobs go on, its files and results stay.

        Raises:
            FolderNotFoundError: No folder has that id.
        """
        with self.database.transaction() as connection:
            self.get(folder_id)
            connection.execute("DELETE FROM folders WHERE id = ?", (folder_id,))

    def find(self, text: str) -> WatchFolder:
        """Return the folder with that id or path.

        Raises:
            FolderNotFoundError: There is none, or more than one matches.
        """
        path = Path(os.path.abspath(text))
        matching = [folder for folder in self.list() if folder.id == text or folder.config.path == path]
        if len(matching) != 1:
            raise FolderNotFoundError(f"no watch folder has the id or path {text!r}; see `relume folders list`")
        return matching[0]

    def files(self, folder_id: str) -> FileTable:
        """Return the table of a folder's files."""
        return FileTable(self.database, folder_id)

    def problems(self, folder_id: str) -> builtins.list[Problem]:
        """Return the problems of a folder and its files, as messages for the user."""
        with self.database.read() as connection:
            row = connection.execute("SELECT trouble, trouble_tries FROM folders WHERE id = ?", (folder_id,)).fetchone()
            if row is None:
                raise FolderNotFoundError(f"no watch folder has the id {folder_id!r}")
            own = [Problem("", row["trouble"], row["trouble_tries"])] if row["trouble"] else []
            return own + self.files(folder_id).problems()

    def retry(self, folder_id: str, file: str | None = None) -> None:
        """Retry failures of a folder now.

        Args:
            folder_id: The folder.
            file: The file as `problems` names it; all if None.

        Raises:
            FolderNotFoundError: No folder has that id.
            FolderError: No file of that name failed.
        """
        with self.database.transaction():
            for failed in self._list_failed(folder_id, file, FileState.FAILED, FileState.DONE):
                self.files(folder_id).put(replace(failed, retry_at=time.time()))

    def ignore(self, folder_id: str, file: str) -> None:
        """Dismiss the failure of a file, which is processed again only when it changes.

        Raises:
            FolderNotFoundError: No folder has that id.
            FolderError: No file of that name failed.
        """
        with self.database.transaction():
            for failed in self._list_failed(folder_id, file, FileState.FAILED):
                state = next_state(failed.state, FileEvent.DISMISSED)
                assert state is not None
                dismissed = replace(failed, state=state, retry_at=None, reason="dismissed by an administrator")
                self.files(folder_id).put(dismissed)

    def _list_failed(self, folder_id: str, file: str | None, *states: FileState) -> builtins.list[WatchedFile]:
        """Return failed files, and let the watcher read them again after the transaction."""
        self.get(folder_id)
        failed = [
            found
            for found in self.files(folder_id).files(*states)
            if found.is_file and found.reason and file in (None, show_name(found.name))
        ]
        if file is not None and not failed:
            raise FolderError(f"{file} is not among the files that failed; reload the list", field="file")
        with self.database.transaction() as connection:
            connection.execute("UPDATE folders SET asked = asked + 1 WHERE id = ?", (folder_id,))
        return failed

    def activity(self, folder_id: str, *, now: datetime | None = None) -> Activity:
        """Return counts of a folder's files and jobs.

        Args:
            folder_id: The folder.
            now: The local time, which defines today.

        Raises:
            FolderNotFoundError: No folder has that id.
        """
        midnight = (now or datetime.now()).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        with self.database.read() as connection:
            row = connection.execute("SELECT * FROM folders WHERE id = ?", (folder_id,)).fetchone()
            if row is None:
                raise FolderNotFoundError(f"no watch folder has the id {folder_id!r}")
            jobs = dict(connection.execute(_JOBS, (folder_id,)).fetchall())
            files = dict(connection.execute(_FILES, (folder_id,)).fetchall())
            (done_today,) = connection.execute(_DONE_SINCE, (folder_id, midnight)).fetchone()
            last = connection.execute(_LAST, (folder_id,)).fetchone()
        return Activity(
            waiting=sum(files.get(state, 0) for state in _WAITING) + jobs.get("queued", 0) + jobs.get("paused", 0),
            working=jobs.get("running", 0),
            done_today=done_today,
            failed=files.get("failed", 0),
            last_file=None if last is None else show_name(last["name"]),
            last_at=None if last is None else last["changed_at"],
            passed_over=row["passed_over"],
            passed_over_names=tuple(json.loads(row["passed_over_names"])),
        )

    def set_passed_over(self, folder_id: str, names: Sequence[str]) -> None:
        """Store the files without a media suffix."""
        first = json.dumps([show_name(name) for name in sorted(names)[:_MAX_NAMES]])
        with self.database.read() as connection:
            row = connection.execute(
                "SELECT passed_over, passed_over_names FROM folders WHERE id = ?", (folder_id,)
            ).fetchone()
        if row is None or tuple(row) == (len(names), first):
            return
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE folders SET passed_over = ?, passed_over_names = ? WHERE id = ?", (len(names), first, folder_id)
            )

    def set_trouble(self, folder_id: str, trouble: str | None) -> None:
        """Store the problem of the folder itself, None for none."""
        with self.database.read() as connection:
            row = connection.execute("SELECT trouble FROM folders WHERE id = ?", (folder_id,)).fetchone()
        if row is None or (trouble is None and row["trouble"] is None):
            return
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE folders SET trouble_tries = CASE WHEN ?1 IS NULL THEN 0 WHEN trouble IS ?1 "
                "THEN trouble_tries + 1 ELSE 1 END, trouble = ?1 WHERE id = ?2",
                (trouble, folder_id),
            )


def _absolute(config: FolderConfig) -> FolderConfig:
    """Normalise the paths of a configuration; relative ones stay, and are refused by the checks."""

    def tidy(path: Path) -> Path:
        return Path(os.path.normpath(path))

    return replace(
        config,
        path=tidy(config.path),
        destination=tidy(config.destination),
        done_folder=None if config.done_folder is None else tidy(config.done_folder),
    )


def _columns(config: FolderConfig) -> dict[str, object]:
    begin, end = (None, None) if config.schedule is None else config.schedule.to_text()
    return {
        "path": str(config.path),
        "destination": str(config.destination),
        "options": options_to_json(config.options),
        "schedule_begin": begin,
        "schedule_end": end,
        "hold_s": config.hold_s,
        "include": json.dumps(config.include),
        "exclude": json.dumps(config.exclude),
        "polling": int(config.polling),
        "done_folder": None if config.done_folder is None else str(config.done_folder),
        "enabled": int(config.enabled),
    }


def _mounts(config: FolderConfig) -> dict[str, object]:
    return {"mount": mount_name(config.path), "destination_mount": mount_name(config.destination)}


def _folder(row: sqlite3.Row) -> WatchFolder:
    begin, end = row["schedule_begin"], row["schedule_end"]
    config = FolderConfig(
        path=Path(row["path"]),
        destination=Path(row["destination"]),
        options=options_from_json(row["options"]),
        schedule=None if begin is None else Schedule.parse(begin, end),
        hold_s=row["hold_s"],
        include=tuple(json.loads(row["include"])),
        exclude=tuple(json.loads(row["exclude"])),
        polling=bool(row["polling"]),
        done_folder=None if row["done_folder"] is None else Path(row["done_folder"]),
        enabled=bool(row["enabled"]),
    )
    return WatchFolder(row["id"], row["created_at"], config, row["mount"], row["destination_mount"], row["asked"])
