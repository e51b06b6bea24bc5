import os
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from appliance.jobs.job import JobState, Origin
from appliance.watch.file_state import FileState
from appliance.watch.folder import Activity, Schedule, WatchFolder
from appliance.watch.job_tracker import RetryPolicy


def reasons(box, folder: WatchFolder) -> dict[str, str]:
    return {problem.file: problem.reason for problem in box.store.problems(folder.id)}


def states(box, folder: WatchFolder) -> dict[str, FileState]:
    return {file.name: file.state for file in box.store.files(folder.id).files()}


def test_a_settled_file_becomes_one_job_that_mirrors_the_tree(box, make_media):
    folder = box.add()
    (box.inbox / "tape/1").mkdir(parents=True)
    source = make_media(box.inbox / "tape/1/clip.mp4")
    before = source.read_bytes(), os.stat(source).st_mtime_ns
    ingest = box.ingest(folder)

    box.settle(ingest)

    (job,) = box.jobs()
    assert (job.source, job.target) == (source, box.out / "tape/1/clip.mp4")
    assert (job.origin, job.folder, job.title) == (Origin.WATCH, folder.id, "tape/1/clip.mp4")
    assert job.source_digest == sha256(before[0]).hexdigest()
    box.work()
    box.settle(ingest)
    assert states(box, folder) == {"tape/1/clip.mp4": FileState.DONE}
    assert (source.read_bytes(), os.stat(source).st_mtime_ns) == before
    assert len(box.jobs()) == 1


def test_a_restart_does_nothing_twice(box, make_media):
    folder = box.add()
    make_media(box.inbox / "done.mp4", seed=1)
    box.settle(box.ingest(folder))
    box.work()
    box.settle(box.ingest(folder))
    make_media(box.inbox / "queued.mp4", seed=2)
    box.settle(box.ingest(folder))

    for _ in range(3):
        box.settle(box.ingest(folder))

    assert sorted(job.title for job in box.jobs()) == ["done.mp4", "queued.mp4"]
    assert states(box, folder) == {"done.mp4": FileState.DONE, "queued.mp4": FileState.QUEUED}


def test_a_restart_between_the_check_and_the_job_makes_one_job(box, make_media, monkeypatch):
    folder = box.add()
    make_media(box.inbox / "clip.mp4")
    ingest = box.ingest(folder)
    monkeypatch.setattr(ingest, "follow_jobs", lambda: None)
    box.settle(ingest)
    assert states(box, folder) == {"clip.mp4": FileState.VALIDATED}

    for _ in range(2):
        box.settle(box.ingest(folder))

    assert len(box.jobs()) == 1


def test_the_same_content_is_not_processed_twice_under_another_name_or_later(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    shutil.copy(box.inbox / "a.mp4", box.inbox / "b.mp4")
    box.settle(box.ingest(folder))
    box.work()
    box.settle(box.ingest(folder))
    (box.inbox / "deep").mkdir()
    (box.inbox / "a.mp4").rename(box.inbox / "deep/c.mp4")

    box.settle(box.ingest(folder))

    assert len(box.jobs()) == 1
    same = {file.name: file.same_as for file in box.store.files(folder.id).files(FileState.DUPLICATE)}
    assert same == {"b.mp4": "a.mp4", "deep/c.mp4": "a.mp4"}
    assert reasons(box, folder) == {}


def test_other_options_are_another_thing_to_do(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    box.settle(box.ingest(folder))
    changed = box.store.update(
        folder.id, replace(folder.config, options=replace(folder.config.options, preset="restore"))
    )
    shutil.copy(box.inbox / "a.mp4", box.inbox / "b.mp4")

    box.settle(box.ingest(changed))

    assert {job.title: job.options.preset for job in box.jobs()} == {"a.mp4": "upscale", "b.mp4": "restore"}


def test_a_touched_file_is_not_processed_again(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.work()
    box.settle(ingest)
    os.utime(box.inbox / "a.mp4", ns=(5, 5))

    box.settle(ingest)

    (file,) = box.store.files(folder.id).files()
    assert (file.state, file.mtime_ns) == (FileState.DONE, 5)
    assert len(box.jobs()) == 1


def test_new_content_under_an_old_name_is_enhanced_next_to_the_old_result(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4", seed=1)
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.work()
    box.settle(ingest)
    first = (box.out / "a.mp4").read_bytes()
    make_media(box.inbox / "a.mp4", seed=2)

    box.settle(ingest)
    box.work()

    assert (box.out / "a.mp4").read_bytes() == first
    assert (box.out / "a.2.mp4").read_bytes() == (box.inbox / "a.mp4").read_bytes() + b"enhanced"


def test_files_whose_results_would_have_one_name_get_two(box, make_media):
    folder = box.add()
    for name in ("a.mp4", "a.ts", "A.avi"):
        make_media(box.inbox / name, seed=len(name) + ord(name[0]))
    box.out.mkdir()
    (box.out / "a.2.mp4").write_text("somebody else's")

    box.settle(box.ingest(folder))
    box.work()

    assert sorted(job.target.name for job in box.jobs()) == ["A.mp4", "a.3.mp4", "a.4.mp4"]
    assert (box.out / "a.2.mp4").read_text() == "somebody else's"


def test_a_file_that_changes_while_its_job_waits_is_processed_again(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4", seed=1)
    ingest = box.ingest(folder)
    box.settle(ingest)
    data = make_media(box.inbox / "a.mp4", seed=2).read_bytes()

    box.settle(ingest, scans=5)

    done, cancelled = box.jobs(JobState.QUEUED), box.jobs(JobState.CANCELLED)
    assert [job.source_digest for job in done] == [sha256(data).hexdigest()]
    assert len(cancelled) == 1
    assert done[0].target == box.out / "a.mp4"


def test_a_file_that_changes_while_it_is_checked_is_waited_for_again(box, make_media, monkeypatch):
    folder = box.add()
    path = make_media(box.inbox / "a.mp4", seed=1)
    ingest = box.ingest(folder)
    inspect = box.inspector.inspect

    def inspect_and_touch(*args, **options):
        found = inspect(*args, **options)
        os.utime(path, ns=(1, 1))
        return found

    monkeypatch.setattr(box.inspector, "inspect", inspect_and_touch)
    box.settle(ingest, scans=4)
    assert not box.jobs()
    monkeypatch.undo()

    box.settle(ingest, scans=5)
    assert len(box.jobs()) == 1


def test_results_are_never_taken_even_when_someone_puts_them_back(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mkv")
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.work()
    box.settle(ingest)

    shutil.copy(box.out / "a.mkv", box.inbox / "from the other side.mkv")
    box.settle(ingest)

    assert len(box.jobs()) == 1
    assert states(box, folder)["from the other side.mkv"] is FileState.OUTPUT


def test_results_in_an_excluded_folder_of_the_watch_folder_are_not_found(box, make_media):
    folder = box.add(destination=box.inbox / "better", exclude=("better",))
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder)
    for _ in range(3):
        box.settle(ingest)
        box.work()

    assert (box.inbox / "better/a.mp4").exists()
    assert len(box.jobs()) == 1


def test_broken_files_are_listed_with_reasons_and_tried_so_often(box, make_media):
    folder = box.add()
    data = make_media(box.inbox / "good.mp4").read_bytes()
    (box.inbox / "cut.mp4").write_bytes(data[:600])
    (box.inbox / "empty.mov").touch()
    (box.inbox / "letter.mp4").write_text("dear sir, " * 50)
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=3, first_s=0.0))

    for _ in range(5):
        box.settle(ingest)

    problems = {problem.file: problem for problem in box.store.problems(folder.id)}
    assert set(problems) == {"cut.mp4", "empty.mov", "letter.mp4"}
    assert "file is incomplete (600 bytes of " in problems["cut.mp4"].reason
    assert problems["empty.mov"].reason == "is empty; copy it again from its source"
    assert "is a text file" in problems["letter.mp4"].reason
    assert {problem.tries for problem in problems.values()} == {3}
    assert len(box.jobs()) == 1


def test_a_broken_file_waits_longer_before_each_try(box, monkeypatch):
    folder = box.add()
    (box.inbox / "empty.mp4").touch()
    now = 1_000_000.0
    monkeypatch.setattr("appliance.watch.job_tracker.time.time", lambda: now)
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=3, first_s=30, factor=5))
    tries = []
    for step in (0, 29, 2, 149, 2, 10_000):
        now += step
        if ingest.is_retry_due or not tries:
            box.settle(ingest)
        tries.append(box.store.problems(folder.id)[0].tries)

    assert tries == [1, 1, 2, 2, 3, 3]


def test_a_clock_that_is_set_back_does_not_stop_the_attempts(box, monkeypatch):
    folder = box.add()
    (box.inbox / "empty.mp4").touch()
    now = 1_000_000.0
    monkeypatch.setattr("appliance.watch.job_tracker.time.time", lambda: now)
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=3, first_s=30))
    box.settle(ingest)
    assert not ingest.is_retry_due

    now -= 900_000
    assert ingest.is_retry_due


def test_a_broken_file_that_is_repaired_is_done(box, make_media):
    folder = box.add()
    data = make_media(box.root / "whole.mp4").read_bytes()
    (box.inbox / "a.mp4").write_bytes(data[:900])
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=1))
    box.settle(ingest)
    assert "a.mp4" in reasons(box, folder)

    (box.inbox / "a.mp4").write_bytes(data)
    box.settle(ingest, scans=5)

    assert reasons(box, folder) == {}
    assert len(box.jobs()) == 1


def test_problems_of_files_that_are_gone_are_gone(box):
    folder = box.add()
    (box.inbox / "a.mp4").touch()
    os.mkfifo(box.inbox / "pipe.mp4")
    ingest = box.ingest(folder)
    box.settle(ingest)
    assert set(reasons(box, folder)) == {"a.mp4", "pipe.mp4"}

    (box.inbox / "a.mp4").unlink()
    (box.inbox / "pipe.mp4").unlink()
    ingest.scan()

    assert reasons(box, folder) == {}


def test_a_failed_job_is_listed_with_its_message_and_duplicates_and_retried_a_few_times(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    shutil.copy(box.inbox / "a.mp4", box.inbox / "b.mp4")
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=3, first_s=0.0))
    for _ in range(6):
        box.settle(ingest)
        box.work(fails=lambda _: "is damaged in the middle")

    assert reasons(box, folder) == {
        "a.mp4": "is damaged in the middle",
        "b.mp4": "same as a.mp4: is damaged in the middle",
    }
    (job,) = box.jobs()
    assert job.state is JobState.FAILED
    assert box.store.problems(folder.id)[0].tries == 3


def test_a_failed_job_that_succeeds_later_is_no_problem(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=1))
    box.settle(ingest)
    box.work(fails=lambda _: "the disk is full")
    box.settle(ingest)
    assert reasons(box, folder) == {"a.mp4": "the disk is full"}

    box.queue.retry(box.jobs()[0].id)  # by hand, on the page
    box.settle(ingest)
    box.work()
    box.settle(ingest)

    assert reasons(box, folder) == {}
    assert states(box, folder) == {"a.mp4": FileState.DONE}


def test_a_cancelled_job_is_not_recreated_but_its_duplicate_may_be(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.queue.cancel(box.jobs()[0].id)
    box.settle(ingest)
    box.settle(box.ingest(folder))
    assert states(box, folder) == {"a.mp4": FileState.IGNORED}
    assert not box.jobs(JobState.QUEUED)

    shutil.copy(box.inbox / "a.mp4", box.inbox / "b.mp4")
    box.settle(ingest)

    assert [(job.title, job.target.name) for job in box.jobs(JobState.QUEUED)] == [("b.mp4", "b.mp4")]


def test_a_job_that_someone_removed_is_not_recreated(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder)
    box.settle(ingest)
    job = box.jobs()[0].id
    box.queue.cancel(job)
    box.queue.remove(job)

    box.settle(ingest)

    assert states(box, folder) == {"a.mp4": FileState.IGNORED}
    assert not box.jobs()


def test_the_original_moves_to_the_done_folder_after_success_alone(box, make_media):
    folder = box.add(done_folder=box.root / "done")
    (box.inbox / "tape").mkdir()
    data = make_media(box.inbox / "tape/good.mp4", seed=1).read_bytes()
    (box.inbox / "tape/good.mp4.ready").touch()
    make_media(box.inbox / "bad.mp4", seed=2)
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=1))
    box.settle(ingest)
    box.work(fails=lambda job: "no" if job.title == "bad.mp4" else None)
    box.settle(ingest)

    assert (box.root / "done/tape/good.mp4").read_bytes() == data
    assert (box.root / "done/tape/good.mp4.ready").exists()
    assert not list((box.inbox / "tape").iterdir())
    assert (box.inbox / "bad.mp4").exists()


def test_an_original_that_cannot_be_moved_stays_and_is_listed_until_it_can(box, make_media):
    folder = box.add(done_folder=box.root / "done")
    make_media(box.inbox / "a.mp4")
    (box.root / "done").write_text("in the way")
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.work()
    ingest.follow_jobs()
    assert reasons(box, folder)["a.mp4"].startswith("enhanced, but the original cannot be moved")
    assert (box.inbox / "a.mp4").exists()

    (box.root / "done").unlink()
    ingest.follow_jobs()

    assert reasons(box, folder) == {}
    assert (box.root / "done/a.mp4").exists()


def test_an_original_is_moved_at_the_next_start_where_the_last_one_ended_before(box, make_media, monkeypatch):
    folder = box.add(done_folder=box.root / "done")
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.work()
    monkeypatch.setattr("appliance.watch.job_tracker.JobTracker._move", lambda *_: None)
    ingest.follow_jobs()
    monkeypatch.undo()
    assert (states(box, folder), (box.inbox / "a.mp4").exists()) == ({"a.mp4": FileState.DONE}, True)

    box.ingest(folder).follow_jobs()

    assert (box.root / "done/a.mp4").exists()
    assert not (box.inbox / "a.mp4").exists()


def test_an_original_that_changed_meanwhile_is_not_moved(box, make_media):
    folder = box.add(done_folder=box.root / "done")
    make_media(box.inbox / "a.mp4", seed=1)
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.work()
    make_media(box.inbox / "a.mp4", seed=2)

    ingest.follow_jobs()

    assert (box.inbox / "a.mp4").exists()
    assert not (box.root / "done/a.mp4").exists()


def test_files_wait_for_their_time_of_the_day(box, make_media):
    folder = box.add(schedule=Schedule.parse("22:00", "06:00"))
    now = datetime(2026, 3, 1, 12, 0)
    make_media(box.inbox / "a.mp4", seed=1)
    ingest = box.ingest(folder, now=lambda: now)
    box.settle(ingest)
    assert not box.jobs()
    assert states(box, folder) == {"a.mp4": FileState.VALIDATED}
    assert ingest.waiting == 1

    now = datetime(2026, 3, 1, 22, 0)
    box.settle(ingest)
    assert len(box.jobs(JobState.QUEUED)) == 1

    now = datetime(2026, 3, 2, 6, 0)
    ingest.follow_jobs()
    assert [job.state for job in box.jobs()] == [JobState.PAUSED]

    now = datetime(2026, 3, 2, 23, 0)
    box.ingest(folder, now=lambda: now).follow_jobs()
    assert [job.state for job in box.jobs()] == [JobState.QUEUED]


def test_a_running_job_is_paused_when_its_time_ends(box, make_media):
    folder = box.add(schedule=Schedule.parse("22:00", "06:00"))
    now = datetime(2026, 3, 1, 23, 0)
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder, now=lambda: now)
    box.settle(ingest)
    job = box.queue.lease("w").claim()

    now = datetime(2026, 3, 2, 6, 0)
    ingest.follow_jobs()

    assert box.queue.get(job.id).command == "pause"


def test_a_job_that_someone_lets_run_by_day_is_left_unchanged(box, make_media):
    folder = box.add(schedule=Schedule.parse("22:00", "06:00"))
    now = datetime(2026, 3, 1, 23, 0)
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder, now=lambda: now)
    box.settle(ingest)
    now = datetime(2026, 3, 2, 12, 0)
    ingest.follow_jobs()
    box.queue.resume(box.jobs()[0].id)

    ingest.follow_jobs()

    assert [job.state for job in box.jobs()] == [JobState.QUEUED]


def test_a_missing_folder_is_reported_and_recovers(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(folder)
    box.settle(ingest)
    box.inbox.rename(box.root / "away")
    ingest.scan()
    assert list(reasons(box, folder)) == [""]
    assert "cannot be read" in reasons(box, folder)[""]
    assert len(box.jobs(JobState.QUEUED)) == 1

    (box.root / "away").rename(box.inbox)
    box.settle(ingest)

    assert reasons(box, folder) == {}
    assert len(box.jobs()) == 1


def test_an_unmounted_network_folder_is_reported_instead_of_taking_what_lies_under_it(box, make_media):
    folder = box.add()
    with box.database.transaction() as connection:
        connection.execute("UPDATE folders SET mount = 'nas:/video (nfs4)'")
    make_media(box.inbox / "a.mp4")
    ingest = box.ingest(box.store.get(folder.id))
    box.settle(ingest)

    assert "nas:/video (nfs4) is not mounted any more" in reasons(box, folder)[""]
    assert not box.jobs()


def test_a_disk_that_is_unmounted_is_reported_and_recovers(box, make_media):
    def mount(*arguments) -> bool:
        return subprocess.run(arguments, capture_output=True, check=False).returncode == 0

    if not mount("mount", "-t", "tmpfs", "tmpfs", box.inbox):
        pytest.skip("mounting needs root")
    try:
        folder = box.add()
        make_media(box.inbox / "a.mp4", seed=1)
        ingest = box.ingest(folder)
        box.settle(ingest)
        assert mount("umount", box.inbox)
        make_media(box.inbox / "under.mp4", seed=2)
        box.settle(ingest)
        assert f"the disk at {box.inbox} (tmpfs) is not mounted any more" in reasons(box, folder)[""]
        assert [job.title for job in box.jobs()] == ["a.mp4"]

        assert mount("mount", "-t", "tmpfs", "tmpfs", box.inbox)
        box.settle(ingest)
        assert reasons(box, folder) == {}
    finally:
        mount("umount", box.inbox)


def test_a_destination_that_cannot_be_written_is_reported_and_the_file_waits(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mp4")
    box.out.write_text("in the way")
    ingest = box.ingest(folder)
    box.settle(ingest)
    assert "destination" in reasons(box, folder)[""]
    assert not box.jobs()

    box.out.unlink()
    box.settle(ingest)

    assert reasons(box, folder) == {}
    assert len(box.jobs()) == 1


def test_an_unmounted_network_destination_gets_nothing(box, make_media):
    folder = box.add()
    with box.database.transaction() as connection:
        connection.execute("UPDATE folders SET destination_mount = '//nas/out (cifs)'")
    make_media(box.inbox / "a.mp4")
    box.settle(box.ingest(box.store.get(folder.id)))

    assert "//nas/out (cifs) is not mounted" in reasons(box, folder)[""]
    assert not box.out.exists()


def test_odd_names_become_jobs_whose_results_keep_them(box, make_media):
    folder = box.add()
    names = ["line\nbreak.mp4", "a;rm -rf.mp4", "-o.mp4", "concat:x.mp4", "%d %s.mp4", "ü" * 120 + ".mp4", "<b>.mp4"]
    for number, name in enumerate(names):
        make_media(box.root / "made.mp4", seed=number).rename(box.inbox / name)
    box.settle(box.ingest(folder))
    box.work()

    assert len(box.jobs(JobState.DONE)) == len(names)
    assert {path.name for path in box.out.iterdir()} >= set(names) - {names[5]}
    assert all("\n" not in job.title for job in box.jobs())


@pytest.mark.parametrize("ending", [".ready", ".done"])
def test_a_sidecar_marks_a_file_as_complete(box, make_media, ending):
    folder = box.add(hold_s=3600.0)
    make_media(box.inbox / "a.mp4", seed=1)
    make_media(box.inbox / "b.mp4", seed=2)
    (box.inbox / f"a.mp4{ending}").touch()
    ingest = box.ingest(folder)

    ingest.scan()
    ingest.follow_jobs()

    assert [job.title for job in box.jobs()] == ["a.mp4"]


def test_a_rename_from_a_temporary_name_marks_a_file_as_complete(box, make_media):
    folder = box.add(hold_s=3600.0)
    make_media(box.root / "made.mp4").rename(box.inbox / "a.mp4.part")
    ingest = box.ingest(folder)
    ingest.scan()
    (box.inbox / "a.mp4.part").rename(box.inbox / "a.mp4")

    ingest.scan()
    ingest.follow_jobs()

    assert [job.title for job in box.jobs()] == ["a.mp4"]


def test_the_activity_of_a_folder_is_counted(box, make_media):
    folder = box.add()
    for name, seed in (("a.mkv", 1), ("b.mkv", 2)):
        make_media(box.inbox / name, seed=seed)
    (box.inbox / "broken.mp4").write_bytes(b"nothing" * 100)
    (box.inbox / "notes.txt").write_bytes(b"text")
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=1))
    empty = Activity(0, 0, 0, 0, None, None, 0, ())
    assert box.store.activity(folder.id) == empty
    ingest.scan()
    assert box.store.activity(folder.id) == replace(empty, waiting=3, passed_over=1, passed_over_names=("notes.txt",))
    before = time.time()

    box.settle(ingest)

    activity = box.store.activity(folder.id)
    assert (activity.waiting, activity.working, activity.done_today, activity.failed) == (2, 0, 0, 1)
    assert activity.last_file in ("a.mkv", "b.mkv")
    assert activity.last_at >= before
    job = box.queue.lease("test").claim()
    assert (box.store.activity(folder.id).waiting, box.store.activity(folder.id).working) == (1, 1)
    assert job.folder_name == "in"
    box.queue.lease("test").fail(job.id, "no")
    box.work()
    ingest.follow_jobs()
    tomorrow = datetime.now() + timedelta(days=1)
    assert box.store.activity(folder.id).done_today == 1
    assert box.store.activity(folder.id, now=tomorrow).done_today == 0
    assert box.store.activity(folder.id).failed == 2
    assert [text for name, text in box.notified if name == "notes.txt"] == [
        "skipped: not a video or audio file by its name; add a pattern to include it"
    ]


def test_a_look_that_finds_nothing_new_writes_nothing(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mkv")
    (box.inbox / "notes.txt").write_bytes(b"text")
    ingest = box.ingest(folder)
    box.settle(ingest)
    before = box.queue.folder_revision()

    ingest.scan()
    ingest.follow_jobs()

    assert box.queue.folder_revision() == before


def test_a_file_that_grows_is_not_stored_at_every_scan(box):
    folder = box.add()
    ingest = box.ingest(folder)
    (box.inbox / "a.mkv").write_bytes(b"0")
    ingest.scan()
    before = box.queue.folder_revision()

    for size in range(2, 6):
        (box.inbox / "a.mkv").write_bytes(b"0" * size)
        ingest.scan()

    assert states(box, folder) == {"a.mkv": FileState.SEEN}
    assert box.queue.folder_revision() == before


def test_a_stable_file_does_not_wait_again_after_a_restart(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mkv")
    box.settle(box.ingest(folder, is_stopped=lambda: True))
    assert states(box, folder) == {"a.mkv": FileState.STABLE}

    box.ingest(folder).scan()

    assert states(box, folder) == {"a.mkv": FileState.VALIDATED}


def test_a_stable_file_that_changed_before_a_restart_waits_again(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mkv")
    box.settle(box.ingest(folder, is_stopped=lambda: True))
    make_media(box.inbox / "a.mkv", seed=2)
    ingest = box.ingest(folder)

    ingest.scan()
    assert states(box, folder) == {"a.mkv": FileState.SEEN}
    box.settle(ingest)
    assert [job.title for job in box.jobs()] == ["a.mkv"]


def test_a_dismissed_failure_is_retried_when_the_file_is_touched(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mkv")
    ingest = box.ingest(folder, retry_policy=RetryPolicy(tries=1))
    box.settle(ingest)
    box.work(fails=lambda _: "no")
    ingest.follow_jobs()
    box.store.ignore(folder.id, "a.mkv")
    os.utime(box.inbox / "a.mkv", ns=(5, 5))

    box.settle(box.ingest(folder), scans=5)

    assert [job.title for job in box.jobs(JobState.QUEUED)] == ["a.mkv"]


def test_a_large_result_is_known_again_without_reading_all_of_it(box, make_media):
    folder = box.add()
    make_media(box.inbox / "a.mkv")
    ingest = box.ingest(folder)
    box.settle(ingest)
    job = box.queue.lease("test").claim()
    job.target.write_bytes(b"result")
    os.truncate(job.target, 1 << 30)
    box.queue.lease("test").finish(job.id, job.target)

    before = bytes_read()
    ingest.follow_jobs()
    assert states(box, folder) == {"a.mkv": FileState.DONE}
    (box.inbox / "moved.mkv").hardlink_to(job.target)
    box.settle(ingest)

    assert states(box, folder) == {"a.mkv": FileState.DONE, "moved.mkv": FileState.OUTPUT}
    assert bytes_read() - before < 1 << 26


def bytes_read() -> int:
    """Count what this process has read so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))
