"""`relume folders` on a server's data directory."""

import json
from pathlib import Path

import pytest

from appliance.store.database import Database
from appliance.watch.folder import FileState, WatchedFile
from appliance.watch.store import FolderStore


@pytest.fixture
def folders(tmp_path: Path, start_watch):
    (tmp_path / "data").mkdir()
    (tmp_path / "in").mkdir()
    Database(tmp_path / "data/relume.db").close()

    def run(*arguments: object) -> tuple[int, str, str]:
        with start_watch("folders", *arguments, "--data", tmp_path / "data") as process:
            out, errors = process.communicate(timeout=60)
        return process.returncode, out, errors

    return run


def test_a_folder_is_added_shown_switched_and_removed(folders, tmp_path):
    code, out, _ = folders("add", tmp_path / "in", "-o", tmp_path / "out", "--preset", "archive", "--hours", "nights")
    assert code == 0, out
    with Database(tmp_path / "data/relume.db") as database:
        store = FolderStore(database)
        (folder,) = store.list()
        store.ledger(folder.id).put(WatchedFile("a\nb.mp4", 0, 0, FileState.BROKEN, reason="is empty", tries=1))

    _, out, _ = folders("list")
    assert folder.id in out
    assert "22:00-06:00" in out
    assert f"{tmp_path / 'in'}  a\\nb.mp4  is empty" in out.splitlines()
    assert folders("disable", tmp_path / "in")[0] == 0
    (facts,) = json.loads(folders("list", "--json")[1])
    assert (facts["enabled"], facts["preset"], facts["schedule"]) == (
        False,
        "archive",
        {"from": "22:00", "to": "06:00"},
    )
    assert folders("enable", folder.id)[0] == 0
    assert folders("remove", folder.id)[0] == 0
    assert "no watch folders" in folders("list")[1]


def test_refusals_are_one_line_with_exit_code_2(folders, tmp_path):
    for arguments, words in (
        (("add", tmp_path / "in", "-o", tmp_path / "in/out"), "lies in the watch folder"),
        (("remove", "nothing"), "no watch folder has the id or path 'nothing'"),
        (("add", tmp_path / "gone", "-o", tmp_path / "out"), "does not exist"),
    ):
        code, out, errors = folders(*arguments)
        assert (code, out) == (2, "")
        assert errors.startswith("relume: ")
        assert errors.count("\n") == 1
        assert words in errors


def test_a_place_without_a_server_is_said(tmp_path, start_watch):
    with start_watch("folders", "list", "--data", tmp_path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "there is no data directory at" in errors
    assert not list(tmp_path.iterdir())
