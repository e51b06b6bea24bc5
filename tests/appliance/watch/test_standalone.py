"""`relume watch` with real jobs by real workers."""

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from appliance.store.errors import DirectoryInUseError
from appliance.watch.errors import FolderError
from appliance.watch.folder import FolderConfig
from appliance.watch.standalone import watch_folder
from runtime.media.probe import probe
from runtime.options import EnhanceOptions

KINDS = (".mp4", ".mkv", ".wav", ".flac")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def once(inbox: Path, **changes):
    lines: list[str] = []
    config = FolderConfig(
        inbox,
        inbox.parent / "out",
        options=EnhanceOptions(preset="restore"),
        hold_s=changes.pop("hold_s", 0.2),
        **changes,
    )
    outcome = watch_folder(config, once=True, cancel=threading.Event(), say=lines.append)
    return outcome, lines


def attempts(out: Path) -> list[tuple[str, str, int]]:
    with sqlite3.connect(out / ".relume/relume.db") as connection:
        found = connection.execute("SELECT title, state, attempts FROM jobs ORDER BY title").fetchall()
    connection.close()
    return found


def run(count: int, inbox: Path, make_media) -> None:
    """Drop files of mixed kinds, some broken and some twice, and check what became of them."""
    broken = max(2, count // 5)
    good = [make_media(inbox / f"good{n}{KINDS[n % len(KINDS)]}", seed=n) for n in range(count - broken)]
    for number in range(broken):
        whole = make_media(inbox.parent / "whole.mp4", seed=1000 + number).read_bytes()
        (inbox / f"bad{number}.mp4").write_bytes(whole[: len(whole) // 2] if number % 2 else b"")
    shutil.copy(good[0], inbox / "again.mp4")
    sources = {path: path.read_bytes() for path in inbox.iterdir()}

    outcome, lines = once(inbox)

    out = inbox.parent / "out"
    assert sorted(path.name for path in out.iterdir() if path.name != ".relume") == sorted(
        "again.mp4" if path.name == "good0.mp4" else path.name for path in good
    )
    assert all(probe(path).size_bytes for path in out.iterdir() if path.name != ".relume")
    assert attempts(out) == sorted(("again.mp4" if p.name == "good0.mp4" else p.name, "done", 1) for p in good)
    assert (outcome.done, outcome.is_stopped) == (len(good), False)
    assert sorted(problem.file for problem in outcome.problems) == sorted(f"bad{n}.mp4" for n in range(broken))
    assert "good0.mp4: same content as again.mp4; it is not processed again" in lines
    assert {path: path.read_bytes() for path in inbox.iterdir()} == sources


def test_files_of_mixed_kinds_are_enhanced_once_and_a_second_start_does_nothing(inbox, make_media):
    run(8, inbox, make_media)

    outcome, lines = once(inbox)

    assert (outcome.done, len(outcome.problems)) == (6, 2)
    assert not [line for line in lines if "queued" in line or "done" in line]


@pytest.mark.slow
def test_200_files_of_mixed_kinds_are_enhanced_by_real_jobs_once_each(inbox, make_media):
    run(200, inbox, make_media)


def test_a_second_watch_of_the_same_place_is_refused(inbox):
    cancel, begun = threading.Event(), threading.Event()
    config = FolderConfig(inbox, inbox.parent / "out")
    first = threading.Thread(
        target=watch_folder, args=(config,), kwargs={"cancel": cancel, "say": lambda _: begun.set(), "devices": ()}
    )
    first.start()
    try:
        assert begun.wait(30)
        with pytest.raises(DirectoryInUseError, match="is in use by another"):
            once(inbox)
    finally:
        cancel.set()
        first.join()


def test_a_missing_folder_and_a_destination_inside_are_refused(tmp_path, inbox):
    with pytest.raises(FolderError, match="does not exist; create or mount it first"):
        once(tmp_path / "missing")
    with pytest.raises(FolderError, match="is inside the watch folder"):
        watch_folder(FolderConfig(inbox, inbox / "out"), once=True, cancel=threading.Event(), say=print)


def test_the_command_stops_on_ctrl_c_and_continues_at_the_next_start(start_watch, inbox, make_media):
    out = inbox.parent / "out"
    data = make_media(inbox.parent / "long.mp4", frames=100).read_bytes()
    (inbox / "long.mp4").write_bytes(data)
    arguments = ("watch", inbox, "-o", out, "--hold", "0.2", "--preset", "restore")
    with start_watch(*arguments) as process:
        for line in process.stdout:
            if line.startswith(("long.mp4: enhancing", "long.mp4: opening")):
                process.send_signal(signal.SIGINT)
                break
        rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    assert "stopping" in rest

    with start_watch(*arguments, "--once") as process:
        text, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), text
    assert "1 done, 0 not" in text
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["long.mp4"]
    assert (inbox / "long.mp4").read_bytes() == data
    assert not [path for path in (out / ".relume/jobs").rglob("*") if "segment" in path.name]


def test_the_command_ends_with_3_where_a_file_could_not_be_enhanced(start_watch, inbox):
    (inbox / "line\nbreak.mp4").write_bytes(b"")
    with start_watch("watch", inbox, "-o", inbox.parent / "out", "--hold", "0", "--once") as process:
        text, _ = process.communicate(timeout=120)

    assert process.returncode == 3
    assert r"not done: line\nbreak.mp4: is empty; copy it again from its source" in text.splitlines()


def test_options_that_no_file_could_be_enhanced_with_are_refused_at_once(start_watch, inbox):
    for arguments, words in (
        (("--preset", "better"), "no preset named 'better'"),
        (("--hours", "soon"), "schedule is 'soon'"),
        (("--strength", "7"), "strength is 7.0"),
    ):
        with start_watch("watch", inbox, "-o", inbox.parent / "out", *arguments) as process:
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 2
        assert words in errors
    assert not os.path.exists(inbox.parent / "out")


@pytest.mark.slow
def test_killing_the_command_again_and_again_loses_nothing_and_does_nothing_twice(start_watch, inbox, make_media):
    moments = random.Random(4)
    names = {f"{n}{KINDS[n % len(KINDS)]}" for n in range(12)}
    for number, name in enumerate(sorted(names)):
        make_media(inbox / name, seed=number)
    out = inbox.parent / "out"
    arguments = ("watch", inbox, "-o", out, "--hold", "0.2", "--preset", "restore", "--done", inbox.parent / "done")
    for _ in range(6):
        with start_watch(*arguments) as process:
            time.sleep(moments.uniform(0.5, 6.0))
            process.kill()
            process.communicate()
    with start_watch(*arguments, "--once") as process:
        text, errors = process.communicate(timeout=600)

    assert process.returncode == 0, text + errors
    assert {path.name for path in out.iterdir()} == names | {".relume"}
    assert {path.name for path in (inbox.parent / "done").iterdir()} == names
    assert not list(inbox.iterdir())
    assert [(title, state) for title, state, _ in attempts(out)] == [(name, "done") for name in sorted(names)]
