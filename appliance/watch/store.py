"""The watch folders in the database. What became of their files is in `ledger`."""

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
from appliance.watch.file_index import Ledger
from appliance.watch.folder import Activity, NewFolder, Problem, Schedule, WatchFolder
from appliance.watch.path_rules import check_folder, mount_name
from appliance.watch.scan import show_name

_MOST_NAMES: Final = 50
_JOBS: Final = "SELECT state, COUNT(*) FROM jobs WHERE folder = ? GROUP BY state"
_FILES: Final = "SELECT state, COUNT(*) FROM watched_files WHERE folder = ? GROUP BY state"
_DONE_SINCE: Final = "SELECT COUNT(*) FROM jobs WHERE folder = ? AND state = 'done' AND finished_at >= ?"
_LAST: Final = "SELECT name, changed_at FROM watched_files WHERE folder = ? ORDER BY changed_at DESC LIMIT 1"


class FolderStore:
    """The watch folders of one data directory."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def data(self) -> Path:
        """The data directory, in which nothing is watched."""
        return self.database.path.parent

    def add(self, wish: NewFolder) -> WatchFolder:
        """Watch a folder from now on; what is in it already is taken too.

        Raises:
            FolderError: It cannot be watched, or its results would be taken as new files.
        """
        wish = _absolute(wish)
        folder_id, created_at = secrets.token_urlsafe(9), time.time()
        while True:
            # A share that does not answer must not hold up the database, so that is asked before.
            others = self.list()
            check_folder(wish, [folder.wish for folder in others], data=self.data)
            columns = {"id": folder_id, "created_at": created_at, **_columns(wish), **_mounts(wish)}
            marks = ", ".join("?" * len(columns))
            with self.database.transaction() as connection:
                if self.list() != others:
                    continue  # somebody else changed a folder meanwhile
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
            raise FolderNotFoundError(f"no watch folder has the id {folder_id!r}; list them to see those that are")
        return _folder(row)

    def list(self) -> builtins.list[WatchFolder]:
        """Return all folders, the oldest first."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT * FROM folders ORDER BY created_at, id").fetchall()
        return [_folder(row) for row in rows]

    def update(self, folder_id: str, wish: NewFolder) -> WatchFolder:
        """Change a folder; files that were dealt with before are not done again.

        Raises:
            FolderNotFoundError: No folder has that id.
            FolderError: It cannot be watched like that; it stays as it was.
        """
        wish = _absolute(wish)
        while True:
            before, everyone = self.get(folder_id), self.list()
            if replace(before.wish, enabled=wish.enabled) != wish:
                others = [folder.wish for folder in everyone if folder.id != folder_id]
                check_folder(wish, others, data=self.data)
            columns = {**_columns(wish), "trouble": None, "trouble_tries": 0}
            if (wish.path, wish.destination) != (before.wish.path, before.wish.destination):
                columns |= _mounts(wish)
            settings = ", ".join(f"{name} = ?" for name in columns)
            with self.database.transaction() as connection:
                if self.list() != everyone:
                    continue
                connection.execute(f"UPDATE folders SET {settings} WHERE id = ?", (*columns.values(), folder_id))
                return self.get(folder_id)

    def remove(self, folder_id: str) -> None:
        """Watch a folder no more; its jobs go on, its files and results stay.

        Raises:
            FolderNotFoundError: No folder has that id.
        """
        with self.database.transaction() as connection:
            self.get(folder_id)
            connection.execute("DELETE FROM folders WHERE id = ?", (folder_id,))

    def find(self, text: str) -> WatchFolder:
        """Return the folder with that id or path.

        Raises:
            FolderNotFoundError: There is none, or more than one fits.
        """
        path = Path(os.path.abspath(text))
        fitting = [folder for folder in self.list() if folder.id == text or folder.wish.path == path]
        if len(fitting) != 1:
            raise FolderNotFoundError(f"no watch folder has the id or path {text!r}; `relume folders list` shows them")
        return fitting[0]

    def ledger(self, folder_id: str) -> Ledger:
        """Return the record of a folder's files."""
        return Ledger(self.database, folder_id)

    def problems(self, folder_id: str) -> builtins.list[Problem]:
        """List what is wrong with a folder and its files, in plain words."""
        with self.database.read() as connection:
            row = connection.execute("SELECT trouble, trouble_tries FROM folders WHERE id = ?", (folder_id,)).fetchone()
            if row is None:
                raise FolderNotFoundError(f"no watch folder has the id {folder_id!r}")
            own = [Problem("", row["trouble"], row["trouble_tries"])] if row["trouble"] else []
            return own + self.ledger(folder_id).problems()

    def retry(self, folder_id: str, file: str | None = None) -> None:
        """Try again now what failed in a folder.

        Args:
            folder_id: The folder.
            file: The file as `problems` names it; every one if None.

        Raises:
            FolderNotFoundError: No folder has that id.
            FolderError: Nothing of that name failed in it.
        """
        change = "retry_at = ?"
        self._settle(
            folder_id, file, change, time.time(), where="(state = 'broken' OR (state = 'done' AND reason <> ''))"
        )

    def ignore(self, folder_id: str, file: str) -> None:
        """List a file that failed no longer, and try it again only when it changes.

        Raises:
            FolderNotFoundError: No folder has that id.
            FolderError: Nothing of that name failed in it.
        """
        change = "state = 'cancelled', retry_at = NULL, reason = ?"
        self._settle(folder_id, file, change, "ignored by an administrator", where="state = 'broken' AND size >= 0")

    def _settle(self, folder_id: str, file: str | None, change: str, value: object, *, where: str) -> None:
        with self.database.transaction() as connection:
            self.get(folder_id)
            query = f"SELECT name FROM watched_files WHERE folder = ? AND {where}"
            names = [row["name"] for row in connection.execute(query, (folder_id,))]
            chosen = [name for name in names if file in (None, show_name(name))]
            if file is not None and not chosen:
                raise FolderError(f"{file} is not among the files that failed here; load the list again", field="file")
            connection.executemany(
                f"UPDATE watched_files SET {change} WHERE folder = ? AND name = ?",
                [(value, folder_id, name) for name in chosen],
            )
            connection.execute("UPDATE folders SET asked = asked + 1 WHERE id = ?", (folder_id,))

    def activity(self, folder_id: str, *, now: datetime | None = None) -> Activity:
        """Count what goes on in a folder.

        Args:
            folder_id: The folder.
            now: The local time, for what counts as today.

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
            waiting=row["settling"] + files.get("waiting", 0) + jobs.get("queued", 0) + jobs.get("paused", 0),
            working=jobs.get("running", 0),
            done_today=done_today,
            failed=files.get("broken", 0),
            last_file=None if last is None else show_name(last["name"]),
            last_at=None if last is None else last["changed_at"],
            passed_over=row["passed_over"],
            passed_over_names=tuple(json.loads(row["passed_over_names"])),
        )

    def set_seen(self, folder_id: str, *, settling: int, passed_over: Sequence[str]) -> None:
        """Note how many files are not left alone yet, and which are no media by their names."""
        names = json.dumps([show_name(name) for name in sorted(passed_over)[:_MOST_NAMES]])
        seen = (settling, len(passed_over), names)
        with self.database.read() as connection:
            row = connection.execute(
                "SELECT settling, passed_over, passed_over_names FROM folders WHERE id = ?", (folder_id,)
            ).fetchone()
        if row is None or tuple(row) == seen:
            return
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE folders SET settling = ?, passed_over = ?, passed_over_names = ? WHERE id = ?",
                (*seen, folder_id),
            )

    def set_trouble(self, folder_id: str, trouble: str | None) -> None:
        """Note what is wrong with the folder itself, None where nothing is."""
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


def _absolute(wish: NewFolder) -> NewFolder:
    """Write the paths of a folder without detours; what is not from the root stays and is refused by the checks."""

    def tidy(path: Path) -> Path:
        return Path(os.path.normpath(path))

    return replace(
        wish,
        path=tidy(wish.path),
        destination=tidy(wish.destination),
        done_folder=None if wish.done_folder is None else tidy(wish.done_folder),
    )


def _columns(wish: NewFolder) -> dict[str, object]:
    begin, end = (None, None) if wish.schedule is None else wish.schedule.to_text()
    return {
        "path": str(wish.path),
        "destination": str(wish.destination),
        "options": options_to_json(wish.options),
        "schedule_begin": begin,
        "schedule_end": end,
        "hold_s": wish.hold_s,
        "include": json.dumps(wish.include),
        "exclude": json.dumps(wish.exclude),
        "polling": int(wish.polling),
        "done_folder": None if wish.done_folder is None else str(wish.done_folder),
        "enabled": int(wish.enabled),
    }


def _mounts(wish: NewFolder) -> dict[str, object]:
    return {"mount": mount_name(wish.path), "destination_mount": mount_name(wish.destination)}


def _folder(row: sqlite3.Row) -> WatchFolder:
    begin, end = row["schedule_begin"], row["schedule_end"]
    wish = NewFolder(
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
    return WatchFolder(row["id"], row["created_at"], wish, row["mount"], row["destination_mount"], row["asked"])


__all__ = ["FolderError", "FolderNotFoundError", "FolderStore"]
