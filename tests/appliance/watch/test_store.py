import sqlite3
from dataclasses import replace

import pytest

from appliance.store.database import Database
from appliance.watch import store
from appliance.watch.errors import FolderError, FolderNotFoundError
from appliance.watch.folder import FileState, Problem, Schedule, WatchedFile
from appliance.watch.store import FolderStore
from runtime.options import AudioMode, Codec, EnhanceOptions


def test_a_folder_is_kept_as_it_was_wished_over_a_restart(box):
    wish = box.wish(
        options=EnhanceOptions(preset="archive", scale=1, audio=AudioMode.SPEECH, codec=Codec.FFV1, strength=0.5),
        schedule=Schedule.parse("22:00", "06:00"),
        hold_s=3.5,
        include=("*.mp4", "ä*"),
        exclude=("proxy",),
        polling=True,
        done_folder=box.root / "done",
        enabled=False,
    )
    added = box.store.add(wish)

    with Database(box.database.path) as database:
        assert FolderStore(database).get(added.id) == added
        assert FolderStore(database).list() == [added]
    assert added.wish == wish


def test_a_refused_folder_changes_nothing(box):
    kept = box.add()

    with pytest.raises(FolderError, match="is watched already"):
        box.add(destination=box.root / "elsewhere")
    with pytest.raises(FolderError, match="is inside Relume"):
        box.store.update(kept.id, replace(kept.wish, destination=box.root / "data/results"))

    assert box.store.list() == [kept]


def test_a_folder_is_changed_and_removed(box):
    folder = box.add()

    changed = box.store.update(folder.id, replace(folder.wish, hold_s=1.0, enabled=False))
    assert (changed.wish.hold_s, changed.wish.enabled) == (1.0, False)
    assert box.store.find(str(box.inbox)) == changed
    box.store.remove(folder.id)

    for call in (box.store.get, box.store.remove, box.store.problems, box.store.find):
        with pytest.raises(FolderNotFoundError, match="no watch folder has the id"):
            call(folder.id)


def test_a_folder_can_be_disabled_while_it_is_missing(box):
    folder = box.add()
    box.inbox.rmdir()

    assert not box.store.update(folder.id, replace(folder.wish, enabled=False)).wish.enabled


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


def test_the_ledger_keeps_files_and_lists_problems_by_name(box):
    folder = box.add()
    ledger = box.store.ledger(folder.id)
    bad = WatchedFile("b.mp4", 1, 2, FileState.BROKEN, reason="is empty", tries=2, retry_at=5.0)
    twin = WatchedFile("a.mp4", 1, 2, FileState.SAME, same_as="b.mp4")
    good = WatchedFile("c\n.mp4", 1, 2**62, FileState.DONE, digest="d", job="j", target=box.out / "c\n.mp4")
    for file in (bad, twin, good):
        ledger.put(file)

    assert ledger.files() == [twin, bad, good]
    assert ledger.files(FileState.DONE) == [good]
    assert ledger.get("b.mp4") == bad
    assert ledger.get("z") is None
    assert ledger.problems() == [Problem("a.mp4", "same as b.mp4: is empty", 0), Problem("b.mp4", "is empty", 2)]
    ledger.forget(["b.mp4"])
    assert ledger.problems() == []


def test_a_content_has_one_file_that_stands_for_it_per_folder_and_options(box):
    (box.root / "in2").mkdir()
    first, second = box.add(), box.add(path=box.root / "in2", destination=box.root / "out2")
    ledger = box.store.ledger(first.id)

    assert ledger.claim_content("d", "options", "a") == ("a", True)
    assert ledger.claim_content("d", "options", "b") == ("a", False)
    assert ledger.claim_content("d", "options", "a") == ("a", False)
    assert ledger.claim_content("d", "other options", "b") == ("b", True)
    assert box.store.ledger(second.id).claim_content("d", "options", "b") == ("b", True)
    ledger.release_content(WatchedFile("a", 1, 1, FileState.CANCELLED, digest="d"))
    assert ledger.claim_content("d", "options", "b") == ("b", True)


def test_a_results_name_is_given_once_without_regard_to_case(box):
    ledger = box.store.ledger(box.add().id)

    assert ledger.reserve(box.out / "Clip.mp4")
    assert not ledger.reserve(box.out / "clip.MP4")
    ledger.set_result(box.out / "Clip.mp4", "digest")
    assert ledger.is_result("digest")
    assert not ledger.is_result("other")


def test_the_files_of_an_unknown_folder_are_not_kept(box):
    with pytest.raises(sqlite3.IntegrityError):
        box.store.ledger("unknown").put(WatchedFile("a", 1, 1, FileState.DONE))


@pytest.mark.parametrize("change", ["add", "update"])
def test_looking_at_a_folders_place_does_not_hold_the_database(box, monkeypatch, change):
    """A share that does not answer blocks whoever asks for it, and nobody else."""
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
        box.store.update(folder.id, replace(folder.wish, destination=box.root / "elsewhere"))

    assert written == [1]


def test_a_folder_that_somebody_else_adds_meanwhile_is_seen(box, monkeypatch):
    check = store.check_folder

    def check_while_another_is_added(wish, others, *, data):
        monkeypatch.setattr(store, "check_folder", check)
        check(wish, others, data=data)
        FolderStore(box.database).add(wish)

    monkeypatch.setattr(store, "check_folder", check_while_another_is_added)

    with pytest.raises(FolderError, match="is watched already"):
        box.add()
    assert len(box.store.list()) == 1
