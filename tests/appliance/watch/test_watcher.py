"""Whole watch folders, with threads, inotify or polling, and many files at once."""

import shutil
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from appliance.jobs.job import JobState
from appliance.watch import ingest
from appliance.watch.errors import FolderError
from appliance.watch.file_state import FileState
from appliance.watch.integrity_process import Inspector
from appliance.watch.job_tracker import RetryPolicy
from appliance.watch.watcher import Watcher

KINDS = (".mp4", ".mkv", ".mov", ".avi", ".ts", ".wav", ".flac", ".mp3", ".ogg", ".mka")


@pytest.fixture
def watch(box):
    """Start the watcher; it is stopped after the test."""
    running = []

    def start(**options) -> Watcher:
        settings = {"retry_policy": RetryPolicy(tries=2, first_s=0.2), "poll_s": 0.2, **options}
        running.append(Watcher(box.store, box.queue, **settings))
        return running[-1]

    yield start
    for watcher in running:
        watcher.close()


@pytest.mark.parametrize("polling", [False, True], ids=["told", "polled"])
def test_a_file_that_lands_is_done_and_the_next_too(box, watch, work_on, until, make_media, polling):
    folder = box.add(hold_s=0.2, polling=polling)
    watch()
    work_on()
    for number in range(2):
        make_media(box.root / "made.mkv", seed=number).rename(box.inbox / f"{number}.mkv")
        until(lambda number=number: (box.out / f"{number}.mkv").exists())
    (box.inbox / "new").mkdir()
    make_media(box.inbox / "new/deep.mkv", seed=5)

    until(lambda: len(box.store.files(folder.id).files(FileState.DONE)) == 3)
    assert (box.out / "new/deep.mkv").exists()


def test_folders_are_added_disabled_and_removed_while_it_runs(box, watch, work_on, until, make_media, monkeypatch):
    monkeypatch.setattr("appliance.watch.watcher._RELOAD_S", 0.1)
    watch()
    work_on()
    folder = box.add(hold_s=0.1)
    make_media(box.inbox / "a.mkv", seed=1)
    until((box.out / "a.mkv").exists)
    box.store.update(folder.id, replace(folder.config, enabled=False))
    until(lambda: not any(t.name.startswith("relume-watch-") for t in threading.enumerate()))
    make_media(box.inbox / "b.mkv", seed=2)
    time.sleep(0.3)
    assert len(box.jobs()) == 1

    box.store.update(folder.id, folder.config)
    until((box.out / "b.mkv").exists)
    box.store.remove(folder.id)
    until(lambda: not any(t.name.startswith("relume-watch-") for t in threading.enumerate()))


def test_a_folder_that_goes_and_comes_back_is_reported_and_recovers(box, watch, until, make_media, monkeypatch):
    monkeypatch.setattr("appliance.watch.watcher._RECOVER_S", 0.1)
    folder = box.add(hold_s=0.1)
    watch()
    make_media(box.inbox / "a.mkv", seed=1)
    until(lambda: len(box.jobs()) == 1)
    box.inbox.rename(box.root / "away")
    until(lambda: [problem.file for problem in box.store.problems(folder.id)] == [""])
    make_media(box.root / "away/b.mkv", seed=2)

    (box.root / "away").rename(box.inbox)

    until(lambda: len(box.jobs()) == 2 and not box.store.problems(folder.id))


def test_what_goes_wrong_in_one_folder_is_noted_and_retried(box, watch, until, make_media, monkeypatch):
    monkeypatch.setattr("appliance.watch.watcher._RECOVER_S", 0.1)
    folder = box.add(hold_s=0.1)
    broken = threading.Event()
    broken.set()
    scan = ingest.scan

    def fail(*args, **options):
        if broken.is_set():
            raise RuntimeError("out of luck")
        return scan(*args, **options)

    monkeypatch.setattr(ingest, "scan", fail)
    watch()
    until(lambda: "out of luck" in "".join(problem.reason for problem in box.store.problems(folder.id)))
    broken.clear()
    make_media(box.inbox / "a.mkv")

    until(lambda: len(box.jobs()) == 1 and not box.store.problems(folder.id))


def test_a_folder_that_does_not_answer_is_reported_and_holds_up_no_other(box, watch, until, make_media, monkeypatch):
    monkeypatch.setattr("appliance.watch.watcher._RELOAD_S", 0.05)
    monkeypatch.setattr("appliance.watch.watcher._HANGS_AFTER_S", 0.2)
    (box.root / "dead").mkdir()
    dead = box.add(path=box.root / "dead", destination=box.root / "out2", hold_s=0.1)
    box.add(hold_s=0.1)
    answers = threading.Event()
    real = ingest.scan

    def hang(config, **options):
        if config.path.name == "dead":
            answers.wait(60)
        return real(config, **options)

    monkeypatch.setattr(ingest, "scan", hang)
    watch()
    make_media(box.inbox / "a.mkv")

    until(lambda: len(box.jobs()) == 1)
    until(lambda: "does not respond" in "".join(problem.reason for problem in box.store.problems(dead.id)))
    answers.set()
    until(lambda: not box.store.problems(dead.id))


SLOW_READER = """
import json, sys, time
from appliance.watch.integrity_process import answer
for line in sys.stdin:
    if "slow" in line:
        time.sleep(600)
    print(json.dumps(answer(json.loads(line))), flush=True)
"""


def test_a_file_that_takes_long_to_read_holds_up_neither_other_folders_nor_the_end(box, watch, until, make_media):
    (box.root / "other").mkdir()
    slow = box.add(hold_s=0)
    other = box.store.add(box.config(path=box.root / "other", destination=box.root / "done", hold_s=0))
    make_media(box.inbox / "slow.mkv", seed=1)
    readers = []

    def open_inspector() -> Inspector:
        readers.append(Inspector(command=(sys.executable, "-c", SLOW_READER)))
        return readers[-1]

    watcher = watch(open_inspector=open_inspector)
    until(lambda: any(reader._process is not None for reader in readers))
    make_media(box.root / "other/a.mkv", seed=2)

    until(lambda: box.store.files(other.id).files(FileState.QUEUED))
    assert [file.state for file in box.store.files(slow.id).files()] == [FileState.STABLE]
    watcher.close()
    assert not any(thread.name.startswith("relume-watch") for thread in threading.enumerate())
    assert all(reader._process is None for reader in readers)


def test_failed_files_are_retried_or_ignored_on_request(box, watch, until, make_media):
    folder = box.add(hold_s=0.1)
    for name in ("a.mkv", "b.mkv"):
        (box.inbox / name).write_bytes(b"no film" * 100)
    watch(retry_policy=RetryPolicy(tries=1))
    ledger = box.store.files(folder.id)
    until(lambda: len(ledger.files(FileState.FAILED)) == 2)

    box.store.ignore(folder.id, "b.mkv")
    until(lambda: [problem.file for problem in box.store.problems(folder.id)] == ["a.mkv"])
    box.store.retry(folder.id, "a.mkv")
    until(lambda: [problem.tries for problem in box.store.problems(folder.id)] == [2])
    box.store.retry(folder.id)
    until(lambda: [problem.tries for problem in box.store.problems(folder.id)] == [3])
    with pytest.raises(FolderError, match=r"c\.mkv is not among the files that failed; reload the list"):
        box.store.retry(folder.id, "c.mkv")
    # An ignored file is processed as soon as it changes.
    make_media(box.root / "whole.mkv").rename(box.inbox / "b.mkv")
    until(lambda: [file.name for file in ledger.files(FileState.QUEUED)] == ["b.mkv"])


def test_a_folder_at_rest_takes_no_time(box, watch, until):
    box.add()
    watch()
    until(lambda: any(t.name == "relume-inotify" for t in threading.enumerate()))
    time.sleep(1.0)
    process = psutil.Process()
    begun, before = time.monotonic(), process.cpu_times()
    time.sleep(3.0)
    after, seconds = process.cpu_times(), time.monotonic() - begun

    assert (after.user + after.system - before.user - before.system) / seconds < 0.05


@pytest.mark.parametrize("many", [40, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("polling", [False, True], ids=["told", "polled"])
def test_of_many_files_at_once_each_good_one_is_done_once_and_each_broken_one_named(
    box, watch, work_on, until, tmp_path, make_media, polling, many
):
    """Three folders, ten kinds: three quarters good, of which some grow slowly and some come twice, and a fifth broken.

    Work is a copy.
    """
    folder = box.add(hold_s=0.6, polling=polling)
    watch()
    work_on()
    good, broken = _make_files(tmp_path / "made", make_media, good=many * 3 // 4, broken=many // 5)
    twins = many // 20
    # A partial file of these kinds never counts as complete, however long its writer stalls.
    growing = [path for path in good if path.suffix in (".mp4", ".mkv", ".mov", ".avi", ".wav", ".mka")][: many // 10]
    at_once = [path for path in good if path not in growing]
    for path in at_once + broken:
        target = box.inbox / ("deep/er" if len(path.stem) % 2 else "") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in at_once[:twins]:
        shutil.copy(path, box.inbox / f"twin of {path.name}")
    _grow(growing, box.inbox)

    ledger = box.store.files(folder.id)
    counts = {FileState.DONE: len(good), FileState.DUPLICATE: twins, FileState.FAILED: len(broken)}
    until(lambda: Counter(file.state for file in ledger.files()) == counts, timeout_s=120, every_s=0.3)

    expected = sorted(path.read_bytes() + b"enhanced" for path in good)
    assert sorted(path.read_bytes() for path in box.out.rglob("*") if path.is_file()) == expected
    assert len(box.jobs(JobState.DONE)) == len(box.jobs()) == len(good)
    problems = {Path(problem.file).name: problem for problem in box.store.problems(folder.id)}
    assert set(problems) == {path.name for path in broken}
    for name, problem in problems.items():
        assert any(words in problem.reason for words in _REASONS[name.split("-")[0]]), problem
        assert problem.tries <= 2


_REASONS = {
    "cut": ("incomplete", "cut short", "never finished"),
    "empty": ("is empty",),
    "text": ("is a text file",),
    "picture": ("is a still image",),
    "list": ("is a playlist",),
    "noise": ("is not a media file", "incomplete", "ends before"),
}


def _make_files(folder: Path, make_media, *, good: int, broken: int) -> tuple[list[Path], list[Path]]:
    folder.mkdir()
    whole_ones = [
        make_media(folder / f"good{number}{KINDS[number % len(KINDS)]}", seed=number) for number in range(good)
    ]
    broken_ones = []
    for number in range(broken):
        kind = list(_REASONS)[number % len(_REASONS)]
        suffix = (".mp4", ".mov", ".mkv", ".wav")[number % 4]
        path = folder / f"{kind}-{number}{suffix}"
        whole = make_media(folder / f"whole{suffix}", seed=1000 + number).read_bytes()
        path.write_bytes(
            {
                "cut": whole[: len(whole) // 2],
                "empty": b"",
                "text": f"minutes of meeting {number}, ".encode() * 40,
                "picture": b"\x89PNG\r\n\x1a\n" + bytes([number] * 90),
                "list": f"#EXTM3U\n/etc/passwd\n{number}\n".encode(),
                "noise": bytes((number + 7 * i) % 256 for i in range(4000)),
            }[kind]
        )
        broken_ones.append(path)
    return whole_ones, broken_ones


def _grow(paths: list[Path], inbox: Path) -> None:
    """Write all files side by side in small pieces, as a slow network does."""
    parts = 12
    for part in range(parts):
        for path in paths:
            data = path.read_bytes()
            with (inbox / path.name).open("ab") as file:
                file.write(data[len(data) * part // parts : len(data) * (part + 1) // parts])
        time.sleep(0.1)
