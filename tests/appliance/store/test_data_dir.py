"""The data directory: one server at a time, and clear messages for everyone else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.store.data_dir import open_data_directory
from appliance.store.database import Database
from appliance.store.errors import DirectoryInUseError, StoreError
from runtime.file_lock import FileLock, read_holder

ROOT = Path(__file__).resolve().parents[3]


def serve(data):
    program = (
        "import sys; from pathlib import Path; from appliance.store.data_dir import open_data_directory\n"
        f"with open_data_directory(Path({str(data)!r})): print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_second_server_is_refused_and_the_first_continues(tmp_path):
    with serve(tmp_path / "data") as first:
        with (
            pytest.raises(DirectoryInUseError, match=rf"in use by another Relume server \(process {first.pid}\); stop"),
            open_data_directory(tmp_path / "data"),
        ):
            pass
        assert first.poll() is None
        first.stdin.close()


def test_a_killed_server_leaves_the_directory_free(tmp_path):
    with serve(tmp_path / "data") as first:
        first.send_signal(signal.SIGKILL)

    with open_data_directory(tmp_path / "data") as data:
        assert read_holder(data / "relume.lock") == os.getpid()


def test_the_folders_are_made_for_their_owner_alone(tmp_path):
    with open_data_directory(tmp_path / "far" / "data") as data:
        assert {path.name for path in data.iterdir() if path.is_dir()} == {
            "uploads", "jobs", "results", "logs", "backups", "workers", "secrets",
        }  # fmt: skip
        assert all(path.stat().st_mode & 0o077 == 0 for path in (data, *data.iterdir()))


def test_a_place_that_cannot_be_a_directory_is_reported(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(StoreError, match="cannot be used: Not a directory; choose another with --data"),
        open_data_directory(tmp_path / "file" / "data"),
    ):
        pass


def test_a_lock_is_free_again_once_it_is_closed(tmp_path):
    first = FileLock.try_exclusive(tmp_path / "a.lock", write_pid=True)
    assert first is not None
    assert FileLock.try_exclusive(tmp_path / "a.lock", write_pid=True) is None
    first.close()
    second = FileLock.try_exclusive(tmp_path / "a.lock", write_pid=True)
    assert second is not None
    second.close()


def test_a_directory_that_others_made_becomes_its_owners_alone(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "uploads").mkdir(mode=0o755)
    for name in ("relume.toml", "relume.db"):
        (data / name).touch(mode=0o644)
    before = os.umask(0o022)
    try:
        with open_data_directory(data), Database(data / "relume.db") as database:
            with database.transaction() as connection:
                connection.execute("CREATE TABLE extra (a)")
            modes = {path.name: path.stat().st_mode & 0o077 for path in (data, *data.iterdir())}
    finally:
        os.umask(before)

    assert {"relume.db-wal", "relume.db-shm", "relume.toml", "uploads"} <= set(modes)
    assert set(modes.values()) == {0}


def test_a_new_database_is_for_its_owner_alone(tmp_path):
    before = os.umask(0o022)
    try:
        with Database(tmp_path / "relume.db"):
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)

    assert modes == dict.fromkeys(("relume.db", "relume.db-wal", "relume.db-shm"), 0o600)
