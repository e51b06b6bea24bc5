"""`relume folders` on a server's data directory."""

import json
from pathlib import Path

import pytest

from appliance import cli
from appliance.store.database import Database
from appliance.watch.errors import FolderError
from appliance.watch.file_state import FileState, WatchedFile
from appliance.watch.store import FolderStore
from runtime.errors import ManifestError
from runtime.manifest import zoo_folder


@pytest.fixture
def folders(tmp_path: Path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "in").mkdir()
    Database(tmp_path / "data/relume.db").close()

    def run(*arguments: object) -> str:
        cli.app(["folders", *map(str, arguments), "--data", str(tmp_path / "data")], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_a_folder_is_added_shown_switched_and_removed(folders, tmp_path):
    out = folders("add", tmp_path / "in", "-o", tmp_path / "out", "--preset", "archive", "--hours", "nights")
    assert out.startswith(f"watching {tmp_path / 'in'} (")
    with Database(tmp_path / "data/relume.db") as database:
        store = FolderStore(database)
        (folder,) = store.list()
        store.files(folder.id).put(WatchedFile("a\nb.mp4", 0, 0, FileState.FAILED, reason="is empty", tries=1))
        store.files(folder.id).put(WatchedFile("new.mp4", 1, 1), WatchedFile("newer.mp4", 1, 1, FileState.STABLE))
        store.set_passed_over(folder.id, ["notes.txt"])

    out = folders("list")
    assert folder.id in out
    assert "22:00-06:00" in out
    assert f"{tmp_path / 'in'}  a\\nb.mp4  is empty" in out.splitlines()
    assert any(line.startswith(f"{tmp_path / 'in'}  notes.txt  not a video") for line in out.splitlines())
    folders("disable", tmp_path / "in")
    (facts,) = json.loads(folders("list", "--json"))
    assert (facts["enabled"], facts["preset"], facts["schedule"]) == (
        False,
        "archive",
        {"from": "22:00", "to": "06:00"},
    )
    assert facts["activity"] | {"last_at": 0} == {
        "waiting": 2, "working": 0, "done_today": 0, "failed": 1, "last_file": "a\\nb.mp4", "last_at": 0,
        "passed_over": 1, "passed_over_names": ["notes.txt"],
    }  # fmt: skip
    assert "is watched" in folders("enable", folder.id)
    assert "no longer watched" in folders("remove", folder.id)
    assert "no watch folders" in folders("list")


def test_a_folder_takes_an_own_model(folders, tmp_path, monkeypatch):
    own = tmp_path / "zoo" / "own"
    own.mkdir(parents=True)
    (own / "manifest.json").write_bytes((zoo_folder() / "light-x2" / "manifest.json").read_bytes())
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ManifestError, match=r"no model named vast; .*zoo has: light-x2"):
        folders("add", tmp_path / "in", "-o", tmp_path / "out", "--model", "vast", "--zoo", "zoo")
    folders("add", tmp_path / "in", "-o", tmp_path / "out", "--model", "own", "--zoo", "zoo")

    with Database(tmp_path / "data/relume.db") as database:
        (folder,) = FolderStore(database).list()
    assert (folder.config.options.model, folder.config.options.zoo) == ("own", tmp_path / "zoo")


def test_errors_state_what_is_wrong_and_change_nothing(folders, tmp_path):
    for arguments, words in (
        (("add", tmp_path / "in", "-o", tmp_path / "in/out"), "is inside the watch folder"),
        (("remove", "nothing"), "no watch folder has the id or path 'nothing'"),
        (("add", tmp_path / "gone", "-o", tmp_path / "out"), "does not exist"),
        (("add", tmp_path / "in", "-o", tmp_path / "out", "--hours", "soon"), "expected a span"),
    ):
        with pytest.raises(FolderError, match=words):
            folders(*arguments)
    assert "no watch folders" in folders("list")


def test_a_place_without_a_server_is_reported(tmp_path, start_watch):
    with start_watch("folders", "list", "--data", tmp_path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "there is no data directory at" in errors
    assert not list(tmp_path.iterdir())
