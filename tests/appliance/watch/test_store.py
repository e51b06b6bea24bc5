import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.store.database import Database
from appliance.store.migrations import list_migrations
from appliance.watch import store
from appliance.watch.errors import FolderError, FolderNotFoundError
from appliance.watch.file_state import FileState, WatchedFile
from appliance.watch.folder import Problem, Schedule
from appliance.watch.store import FolderStore
from runtime.options import AudioMode, Codec, EnhanceOptions


def test_a_folder_is_kept_as_it_was_configured_over_a_restart(box):
    config = box.config(
        options=EnhanceOptions(preset="archive", scale=1, audio=AudioMode.SPEECH, codec=Codec.FFV1, strength=0.5),
        schedule=Schedule.parse("22:00", "06:00"),
        hold_s=3.5,
        include=("*.mp4", "ä*"),
        exclude=("proxy",),
        polling=True,
        done_folder=box.root / "done",
        enabled=False,
    )
    added = box.store.add(config)

    with Database(box.database.path) as database:
        assert FolderStore(database).get(added.id) == added
        assert FolderStore(database).list() == [added]
    assert added.config == config


def test_a_refused_folder_changes_nothing(box):
    kept = box.add()

    with pytest.raises(FolderError, match="is already watched"):
        box.add(destination=box.root / "elsewhere")
    with pytest.raises(FolderError, match="is inside Relume"):
        box.store.update(kept.id, replace(kept.config, destination=box.root / "data/results"))

    assert box.store.list() == [kept]


def test_a_folder_is_changed_and_removed(box):
    folder = box.add()

    changed = box.store.update(folder.id, replace(folder.config, hold_s=1.0, enabled=False))
    assert (changed.config.hold_s, changed.config.enabled) == (1.0, False)
    assert box.store.find(str(box.inbox)) == changed
    box.store.remove(folder.id)

    for call in (box.store.get, box.store.remove, box.store.problems, box.store.find):
        with pytest.raises(FolderNotFoundError, match="no watch folder has the id"):
            call(folder.id)


def test_a_folder_can_be_disabled_while_it_is_missing(box):
    folder = box.add()
    box.inbox.rmdir()

    assert not box.store.update(folder.id, replace(folder.config, enabled=False)).config.enabled


def test_trouble_is_counted_while_it_lasts_and_forgotten_after(box):
    folder = box.add()
    for _ in range(3):
        box.store.set_trouble(folder.id, "not mounted")
    assert box.store.problems(folder.id) == [Problem("", "not mounted", 3)]
    box.store.set_trouble(folder.id, "not readable")
    assert box.store.problems(folder.id) == [Problem("", "not readable", 1)]
    box.store.set_trouble(folder.id, None)
    assert box.store.problems(folder.id) == []
    box.store.set_trouble("unknown", "nothing happens")


def test_the_table_keeps_files_and_lists_problems_by_name(box):
    folder = box.add()
    table = box.store.files(folder.id)
    bad = WatchedFile("b.mp4", 1, 2, FileState.FAILED, reason="is empty", tries=2, retry_at=5.0)
    twin = WatchedFile("a.mp4", 1, 2, FileState.DUPLICATE, same_as="b.mp4")
    good = WatchedFile("c\n.mp4", 1, 2**62, FileState.DONE, digest="d", job="j", target=box.out / "c\n.mp4")
    for file in (bad, twin, good):
        table.put(file)

    assert table.files() == [twin, bad, good]
    assert table.files(FileState.DONE) == [good]
    assert table.problems() == [Problem("a.mp4", "same as b.mp4: is empty", 0), Problem("b.mp4", "is empty", 2)]
    table.remove("b.mp4")
    assert table.problems() == []


def test_a_content_has_one_file_that_stands_for_it_per_folder_and_options(box):
    (box.root / "in2").mkdir()
    first, second = box.add(), box.add(path=box.root / "in2", destination=box.root / "out2")
    table = box.store.files(first.id)

    assert table.claim_content("d", "options", "a") == ("a", True)
    assert table.claim_content("d", "options", "b") == ("a", False)
    assert table.claim_content("d", "options", "a") == ("a", False)
    assert table.claim_content("d", "other options", "b") == ("b", True)
    assert box.store.files(second.id).claim_content("d", "options", "b") == ("b", True)
    table.release_claims(WatchedFile("a", 1, 1, FileState.IGNORED, digest="d"))
    assert table.claim_content("d", "options", "b") == ("b", True)


def test_a_results_name_is_given_once_without_regard_to_case(box):
    table = box.store.files(box.add().id)

    assert table.reserve(box.out / "Clip.mp4")
    assert not table.reserve(box.out / "clip.MP4")
    table.set_result(box.out / "Clip.mp4", "digest")
    assert table.is_result("digest")
    assert not table.is_result("other")


def test_the_files_of_an_unknown_folder_are_not_kept(box):
    with pytest.raises(sqlite3.IntegrityError):
        box.store.files("unknown").put(WatchedFile("a", 1, 1, FileState.DONE))


@pytest.mark.parametrize("change", ["add", "update"])
def test_looking_at_a_folders_place_does_not_hold_the_database(box, monkeypatch, change):
    """A share that does not respond blocks only those who access it."""
    folder = box.add() if change == "update" else None
    check = store.check_folder
    written = []

    def check_while_others_write(*arguments, **named):
        with Database(box.database.path, busy_timeout_s=0.1) as other, other.transaction() as connection:
            written.append(connection.execute("UPDATE job_revision SET revision = revision + 1").rowcount)
        check(*arguments, **named)

    monkeypatch.setattr(store, "check_folder", check_while_others_write)
    if folder is None:
        box.add()
    else:
        box.store.update(folder.id, replace(folder.config, destination=box.root / "elsewhere"))

    assert written == [1]


def test_a_folder_that_someone_else_adds_meanwhile_is_seen(box, monkeypatch):
    check = store.check_folder

    def check_while_another_is_added(config, others, *, data):
        monkeypatch.setattr(store, "check_folder", check)
        check(config, others, data=data)
        FolderStore(box.database).add(config)

    monkeypatch.setattr(store, "check_folder", check_while_another_is_added)

    with pytest.raises(FolderError, match="is already watched"):
        box.add()
    assert len(box.store.list()) == 1


def test_files_of_an_earlier_version_keep_their_states(tmp_path):
    earlier = tmp_path / "migrations"
    earlier.mkdir()
    for migration in list_migrations()[:10]:
        shutil.copy(migration.path, earlier)
    before = ["waiting", "queued", "done", "same", "broken", "cancelled", "ours"]
    with Database(tmp_path / "relume.db", migrations=earlier) as database, database.transaction() as connection:
        connection.execute(
            "INSERT INTO folders (id, created_at, path, destination, options, hold_s, include, exclude, polling, "
            "enabled) VALUES ('f', 1, '/in', '/out', '{}', 10, '[]', '[]', 0, 1)"
        )
        connection.executemany(
            "INSERT INTO watched_files (folder, name, size, mtime_ns, state, digest, job, target, same_as, reason, "
            "tries, retry_at, held, changed_at) "
            "VALUES ('f', ?, 5, 6, ?, 'd', 'j', '/out/a.mp4', 'b', 'why', 2, 7.5, 1, 8.5)",
            [(f"{number}.mp4", state) for number, state in enumerate(before)],
        )

    with Database(tmp_path / "relume.db") as database:
        files = FolderStore(database).files("f").files()
        with database.read() as connection:
            times = {row[0] for row in connection.execute("SELECT changed_at FROM watched_files")}

    after = ["validated", "queued", "done", "duplicate", "failed", "ignored", "output"]
    assert [file.state for file in files] == after
    kept = WatchedFile("0.mp4", 5, 6, FileState.VALIDATED, "d", "j", Path("/out/a.mp4"), "b", "why", 2, 7.5, held=True)
    assert files[0] == kept
    assert times == {8.5}
