"""The queue: states, order, revisions, and that no job is ever lost or taken twice."""

import shutil
import threading
from pathlib import Path

import pytest

from appliance.jobs.errors import JobLostError, JobNotFoundError, JobStateError
from appliance.jobs.job import FINISHED, ExitCause, JobCommand, JobState
from appliance.jobs.job_table import CHANGED_JOBS, COUNT_JOBS, Publication, select_jobs
from appliance.jobs.queue import JobQueue
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from appliance.store.migrations import MIGRATIONS
from runtime.options import EnhanceOptions
from runtime.progress import Progress


def titles(jobs):
    return [job.title for job in jobs]


def turns(queue):
    return titles(queue.list(states=[JobState.QUEUED]))


def test_a_job_is_stored_unchanged(add, queue, tmp_path):
    job = add("a.mp4", target=tmp_path / "b.mp4", owner="me", priority=3, folder="f", source_digest="d")

    found = queue.get(job.id)

    assert found == job
    assert (found.title, found.source, found.target) == ("a.mp4", tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert (found.owner, found.priority, found.folder, found.source_digest) == ("me", 3, "f", "d")
    assert (found.state, found.attempts, found.result) == (JobState.QUEUED, 0, None)
    assert len(job.id) == 16
    assert job.id.isalnum()


def test_a_file_name_that_is_no_text_comes_back_as_it_is(add, queue):
    job = add("caf\udce9.mp4", source=Path("/films/caf\udce9.mp4"))

    assert queue.get(job.id).source == Path("/films/caf\udce9.mp4")
    assert queue.get(job.id).title == "caf?.mp4"


def test_an_unknown_job_is_reported(queue):
    with pytest.raises(JobNotFoundError, match=r"^there is no job nowhere; it may have been removed$"):
        queue.get("nowhere")


def test_jobs_are_claimed_by_priority_and_then_by_age(add, queue):
    for title, priority in (("first", 0), ("second", 0), ("urgent", 5)):
        add(title, priority=priority)

    assert turns(queue) == ["urgent", "first", "second"]
    assert [queue.lease(worker).claim().title for worker in "abc"] == ["urgent", "first", "second"]
    assert queue.lease("d").claim() is None


def test_a_worker_that_holds_a_job_gets_no_second_one(add, queue):
    add("first")
    add("second")
    queue.lease("cpu").claim()

    with pytest.raises(JobLostError, match="worker cpu still holds job"):
        queue.lease("cpu").claim()

    assert queue.counts()[JobState.RUNNING] == 1


def test_many_workers_never_get_the_same_job(add, data):
    for number in range(60):
        add(f"{number}")
    taken = []

    def claim_all(name):
        with Database(database_path(data)) as database:
            queue = JobQueue(database)
            while (job := queue.lease(name).claim()) is not None:
                taken.append(job.id)
                queue.lease(name).finish(job.id, Path("/done"))

    threads = [threading.Thread(target=claim_all, args=(f"worker-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(taken) == len(set(taken)) == 60


def test_progress_is_stored_and_a_command_comes_back(add, queue):
    add()
    job = queue.lease("cpu").claim()

    assert queue.lease("cpu").progress(job.id, Progress("enhancing", 3, 10, 2.5, 2.8)) is None
    queue.pause(job.id)

    assert queue.lease("cpu").progress(job.id, Progress("enhancing", 4, 10, 2.5, 2.4)) is JobCommand.PAUSE
    found = queue.get(job.id)
    assert (found.stage, found.frames_done, found.frames_total, found.fps, found.eta_s) == (
        "enhancing", 4, 10, 2.5, 2.4,
    )  # fmt: skip
    assert (found.state, found.command) == (JobState.RUNNING, JobCommand.PAUSE)


@pytest.mark.parametrize("action", ["progress", "finish", "fail", "stop"])
def test_a_worker_that_lost_its_job_can_change_nothing(add, queue, action):
    add()
    job = queue.lease("old").claim()
    queue.lease("old").release()
    queue.lease("new").claim()
    before = queue.get(job.id)
    last = {"progress": Progress("x"), "finish": Path("/x"), "fail": "x", "stop": JobCommand.CANCEL}[action]

    with pytest.raises(JobLostError, match="worker old no longer holds"):
        getattr(queue.lease("old"), action)(job.id, last)

    assert queue.get(job.id) == before


def test_a_queued_job_is_paused_resumed_and_cancelled_at_once(add, queue):
    job = add()

    assert queue.pause(job.id).state is JobState.PAUSED
    assert queue.lease("cpu").claim() is None
    assert queue.resume(job.id).state is JobState.QUEUED
    cancelled = queue.cancel(job.id)

    assert cancelled.state is JobState.CANCELLED
    assert cancelled.finished_at is not None


def test_a_running_job_is_asked(add, queue):
    add()
    job = queue.lease("cpu").claim()

    assert queue.pause(job.id).command is JobCommand.PAUSE
    assert queue.resume(job.id).command is None
    assert queue.cancel(job.id).command is JobCommand.CANCEL
    with pytest.raises(JobStateError, match=r"'clip.mp4' is being cancelled, so it cannot be paused"):
        queue.pause(job.id)
    assert queue.lease("cpu").stop(job.id, JobCommand.CANCEL).state is JobState.CANCELLED


def test_a_paused_try_does_not_count(add, queue):
    add()
    job = queue.lease("cpu").claim()

    paused = queue.lease("cpu").stop(job.id, JobCommand.PAUSE)

    assert (paused.state, paused.attempts) == (JobState.PAUSED, 0)
    assert queue.resume(job.id).state is JobState.QUEUED


@pytest.mark.parametrize(
    ("state", "action", "message"),
    [
        ("done", "pause", "is done, so it cannot be paused"),
        ("done", "cancel", "is done, so it cannot be cancelled"),
        ("done", "retry", "is done, so it cannot be retried"),
        ("failed", "resume", "has failed, so it cannot be resumed; retry it instead"),
        ("queued", "retry", "is queued, so it cannot be retried"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_message(add, queue, state, action, message):
    job = add()
    if state != "queued":
        queue.lease("cpu").claim()
    if state == "done":
        queue.lease("cpu").finish(job.id, Path("/x"))
    if state == "failed":
        queue.lease("cpu").fail(job.id, "because")
    before = queue.get(job.id)

    with pytest.raises(JobStateError, match=message):
        getattr(queue, action)(job.id)

    assert queue.get(job.id) == before


def test_a_failed_job_can_be_retried_at_the_end_of_the_queue(add, queue):
    job = add("first")
    queue.lease("cpu").claim()
    queue.lease("cpu").fail(job.id, "no space is left")
    add("second")
    assert queue.get(job.id).message == "no space is left"

    again = queue.retry(job.id)

    assert (again.state, again.message, again.attempts, again.finished_at) == (JobState.QUEUED, "", 0, None)
    assert turns(queue) == ["second", "first"]


@pytest.mark.parametrize("finished", sorted(FINISHED))
def test_a_finished_job_is_removed_with_its_files_and_nothing_else(add, queue, tmp_path, finished):
    job, other = add("one", target=tmp_path / "out.mp4"), add("other")
    queue.lease("cpu").claim()
    (tmp_path / "out.mp4").write_text("the result")
    for files in (queue.files(job.id), queue.files(other.id)):
        files.folder.mkdir()
        files.results.mkdir()
        files.report.write_text("{}")
    if finished == "done":
        queue.lease("cpu").finish(job.id, tmp_path / "out.mp4")
    elif finished == "failed":
        queue.lease("cpu").fail(job.id, "because")
    else:
        queue.lease("cpu").stop(job.id, JobCommand.CANCEL)
    revision = queue.revision()

    queue.remove(job.id)

    assert not queue.files(job.id).folder.exists()
    assert not queue.files(job.id).results.exists()
    assert queue.files(other.id).report.exists()
    assert (tmp_path / "out.mp4").exists()
    assert queue.removed_since(revision) == [job.id]
    assert titles(queue.list()) == ["other"]


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_a_job_that_has_not_ended_is_not_removed(add, queue, state):
    job = add()
    if state == "running":
        queue.lease("cpu").claim()
    if state == "paused":
        queue.pause(job.id)

    with pytest.raises(JobStateError, match=f"is {state}; cancel it before removing it"):
        queue.remove(job.id)

    assert queue.get(job.id).state == state


def test_a_job_moves_before_another_and_to_the_end(add, queue):
    jobs = {title: add(title) for title in "abcd"}

    queue.move(jobs["d"].id, before=jobs["b"].id)
    assert turns(queue) == ["a", "d", "b", "c"]
    queue.move(jobs["a"].id, before=None)
    assert turns(queue) == ["d", "b", "c", "a"]
    queue.move(jobs["c"].id, before=jobs["d"].id)
    assert turns(queue) == ["c", "d", "b", "a"]
    queue.move(jobs["c"].id, before=jobs["c"].id)
    assert turns(queue) == ["c", "d", "b", "a"]


def test_a_job_that_moves_before_an_urgent_one_is_as_urgent(add, queue):
    normal, urgent = add("normal"), add("urgent", priority=5)

    assert queue.move(normal.id, before=urgent.id).priority == 5
    assert turns(queue) == ["normal", "urgent"]
    assert queue.prioritise(normal.id, 1).priority == 1
    assert turns(queue) == ["urgent", "normal"]


def test_a_place_can_be_halved_as_often_as_one_likes(add, queue):
    first, *others = [add(f"{number}") for number in range(4)]

    for count in range(100):
        queue.move(others[count % 2].id, before=others[2].id)
        expected = [others[1 - count % 2].title, others[count % 2].title] if count else None
        assert expected is None or turns(queue) == [first.title, *expected, others[2].title]


def test_only_queued_jobs_have_an_order(add, queue):
    add("runs")
    running = queue.lease("cpu").claim()
    job = add("waits")

    with pytest.raises(JobStateError, match="'runs' is running; only queued jobs can be moved"):
        queue.move(job.id, before=running.id)


def test_lists_are_filtered_and_paged(add, queue):
    for number in range(5):
        add(f"film {number} 100%.mp4", owner="me" if number % 2 else "you", folder="f" if number > 2 else None)
    queue.lease("cpu").finish(queue.lease("cpu").claim().id, Path("/x"))

    assert titles(queue.list(owner="me")) == ["film 3 100%.mp4", "film 1 100%.mp4"]
    assert titles(queue.list(folder="f")) == ["film 4 100%.mp4", "film 3 100%.mp4"]
    assert titles(queue.list(text="FILM 2")) == ["film 2 100%.mp4"]
    assert titles(queue.list(text="0%.")) == titles(queue.list())
    assert titles(queue.list(text="_")) == []
    assert titles(queue.list(limit=2, offset=1)) == ["film 3 100%.mp4", "film 2 100%.mp4"]
    assert titles(queue.list(states=[JobState.DONE])) == ["film 0 100%.mp4"]
    both = [JobState.DONE, JobState.QUEUED]
    assert titles(queue.list(states=both, limit=3, offset=2)) == titles(queue.list())[2:]
    assert titles(queue.list(states=both, text="film 4", owner="you")) == ["film 4 100%.mp4"]
    assert queue.list(states=[]) == []


def test_counts_name_every_state(add, queue):
    add()
    add()
    queue.lease("cpu").claim()

    assert queue.counts() == {state: int(state in (JobState.QUEUED, JobState.RUNNING)) for state in JobState}


def test_every_change_has_a_later_revision(add, queue):
    first, second = add("first"), add("second")
    seen = queue.revision()
    assert queue.changed_since(seen) == []

    queue.pause(second.id)
    queue.prioritise(first.id, 2)

    changed = queue.changed_since(seen)
    assert titles(changed) == ["second", "first"]
    assert [job.revision for job in changed] == [seen + 1, seen + 2]
    assert queue.revision() == seen + 2


def test_the_revision_does_not_fall_when_the_latest_job_is_removed(add, queue):
    job = add()
    queue.cancel(job.id)
    seen = queue.revision()

    queue.remove(job.id)

    assert queue.revision() > seen


def test_a_dead_workers_job_goes_back_and_keeps_its_place(add, queue):
    first, second = add("first"), add("second")
    queue.lease("cpu").claim()

    released = queue.lease("cpu").release()

    assert (released.id, released.state, released.attempts) == (first.id, JobState.QUEUED, 1)
    assert turns(queue) == ["first", "second"]
    assert queue.lease("cpu").claim().id == first.id
    assert second.id != first.id
    assert queue.lease("nobody").release() is None


def test_a_job_that_ends_its_worker_three_times_fails_with_the_reason(add, queue):
    job = add()
    for _ in range(3):
        queue.lease("cpu").claim()
        queue.lease("cpu").release(
            cause=ExitCause.JOB, reason="it was killed, probably because the machine ran out of memory"
        )

    failed = queue.get(job.id)
    assert failed.state is JobState.FAILED
    assert failed.message.startswith("the worker ended 3 times over this file: it was killed, probably because")


def test_a_job_whose_result_is_in_place_does_not_fail_over_its_comparison(add, queue, tmp_path):
    job = add(target=tmp_path / "out.mp4")
    (tmp_path / "out.mp4").write_text("the result")
    facts = (tmp_path / "out.mp4").stat()
    for _ in range(3):
        queue.lease("cpu").claim()
        queue.lease("cpu").set_publication(job.id, Publication(tmp_path / "out.mp4", facts.st_size, facts.st_mtime_ns))
        queue.lease("cpu").release(cause=ExitCause.JOB)

    done = queue.get(job.id)
    assert (done.state, done.result) == (JobState.DONE, tmp_path / "out.mp4")
    assert done.message == "the result is complete, but its preview videos could not be created"


def test_one_more_segment_resets_the_attempts_of_a_job(add, queue):
    job = add()
    segments = queue.files(job.id).workspace / "segments"
    segments.mkdir(parents=True)
    for number in range(8):
        queue.lease("cpu").claim()
        if number % 2 == 0:
            (segments / f"{number}").write_text("a finished segment")
        queue.lease("cpu").release(cause=ExitCause.JOB)

    assert queue.get(job.id).state is JobState.QUEUED


def test_kills_from_outside_are_forgiven_more_often_but_not_forever(add, queue):
    job = add()
    for number in range(5):
        queue.lease("cpu").claim()
        assert queue.lease("cpu").release(max_external_kills=5).state == ("failed" if number == 4 else "queued")
    assert "killed 5 times from outside" in queue.get(job.id).message


def test_an_orderly_stop_does_not_count(add, queue):
    job = add()
    for _ in range(10):
        queue.lease("cpu").claim()
        queue.lease("cpu").release(cause=ExitCause.REQUESTED, max_external_kills=2, max_crashes=2)

    assert (queue.get(job.id).state, queue.get(job.id).attempts) == (JobState.QUEUED, 0)


@pytest.mark.parametrize(("command", "state"), [("pause", JobState.PAUSED), ("cancel", JobState.CANCELLED)])
def test_a_command_is_kept_when_the_worker_dies_first(add, queue, tmp_path, command, state):
    job = add(target=tmp_path / "out.mp4")
    queue.lease("cpu").claim()
    workspace = queue.files(job.id).workspace
    workspace.mkdir(parents=True)
    (tmp_path / f"..relume-{job.id}.1234.partial.mp4").write_text("half")
    getattr(queue, command)(job.id)

    queue.lease("cpu").release()

    assert queue.get(job.id).state is state
    assert workspace.exists() == (command == "pause")
    assert (list(tmp_path.glob("*partial*")) == []) == (command == "cancel")


def test_the_wall_clock_decides_nothing(add, queue, monkeypatch):
    times = iter([2e9, 1e9, 3e9, 0.0, 2.5e9, 1.0, 4e9, 5.0])
    monkeypatch.setattr("time.time", lambda: next(times))
    first, second = add("first"), add("second")

    claimed = queue.lease("cpu").claim()
    queue.lease("cpu").release()
    again = queue.lease("cpu").claim()
    done = queue.lease("cpu").finish(again.id, Path("/x"))

    assert claimed.id == again.id == done.id == first.id
    assert queue.lease("cpu").claim().id == second.id


def plan(database, query, values):
    with database.read() as connection:
        steps = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    # The name of each job's watch folder is looked up by the folder's key.
    names = [step for step in steps if " folders " in step]
    assert all(step.startswith("SEARCH folders USING INDEX sqlite_autoindex_folders_1") for step in names)
    return [step for step in steps if step not in names and "SUBQUERY" not in step]


@pytest.fixture
def many(database, add):
    """Ten thousand jobs, most of them done."""
    add("the newest")
    with database.transaction() as connection:
        columns = [row["name"] for row in connection.execute("PRAGMA table_info(jobs)")]
        names = ", ".join(columns)
        values = ", ".join(
            {"id": "'j' || n", "state": "CASE n % 100 WHEN 0 THEN 'failed' ELSE 'done' END", "revision": "n + 10",
             "created_at": "created_at - n"}.get(name, name)
            for name in columns
        )  # fmt: skip
        connection.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000) "
            f"INSERT INTO jobs ({names}) SELECT {values} FROM jobs, numbers"
        )
        connection.execute("UPDATE job_revision SET revision = 10010")
    return database


@pytest.mark.parametrize(
    "filters",
    [
        {"states": None},
        {"states": [JobState.QUEUED]},
        {"states": [JobState.DONE]},
        {"states": None, "wanted": (["owner = ?"], ["me"])},
        {"states": None, "wanted": (["folder = ?"], ["f"])},
    ],
)
def test_a_page_of_ten_thousand_jobs_is_read_by_index_without_sorting(many, filters):
    steps = plan(many, *select_jobs(**filters))

    assert all("USING INDEX" in step for step in steps)
    assert not any("TEMP B-TREE" in step for step in steps)


def test_a_page_of_several_states_sorts_no_more_than_a_page_of_each(many, queue):
    query, values = select_jobs([JobState.DONE, JobState.FAILED, JobState.CANCELLED], limit=50)
    steps = plan(many, query, values)

    assert sum("USING INDEX jobs_by_state" in step for step in steps) == 3
    assert [step for step in steps if step.startswith("SCAN jobs")] == []
    found = queue.list(states=[JobState.DONE, JobState.FAILED, JobState.CANCELLED], limit=200, offset=5)
    assert [job.id for job in found] == [f"j{number}" for number in range(6, 206)]


def test_counts_and_changes_of_ten_thousand_jobs_come_from_indexes(many, queue):
    assert all("COVERING INDEX" in step for step in plan(many, COUNT_JOBS, ()))
    assert all("SEARCH jobs USING INDEX" in step for step in plan(many, CHANGED_JOBS, (10000,)))
    assert queue.counts()[JobState.DONE] == 9900
    assert [job.id for job in queue.changed_since(10008)] == ["j9999", "j10000"]


def test_options_come_back_exactly(add, queue):
    from fractions import Fraction

    from runtime.options import AudioMode, Codec

    options = EnhanceOptions(
        preset="archive", scale="auto", audio=AudioMode.OFF, strength=0.3, codec=Codec.FFV1,
        start=Fraction(1, 3), end=Fraction(30000, 1001), allow_damaged=True, threads=2,
    )  # fmt: skip

    assert queue.get(add(options=options).id).options == options


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [1_000_000.0]
    monkeypatch.setattr("time.time", lambda: now[0])

    def pass_on(seconds: float) -> float:
        now[0] += seconds
        return now[0]

    return pass_on


def test_the_time_of_an_attempt_leaves_out_pauses_and_earlier_attempts(add, queue, clock):
    job = add()
    clock(50)
    began = clock(0)
    queue.lease("w").claim()
    clock(7)
    queue.lease("w").stop(job.id, JobCommand.PAUSE)
    clock(1000)
    queue.resume(job.id)
    queue.lease("w").claim()
    clock(5)
    assert queue.get(job.id).started_at == began
    ended = queue.lease("w").fail(job.id, "broken")
    assert (ended.worked_s, ended.finished_at) == (12.0, began + 1012)

    clock(300)
    retried = queue.retry(job.id)
    assert (retried.started_at, retried.worked_s) == (None, 0.0)
    again = clock(20)
    queue.lease("w").claim()
    clock(3)
    queue.lease("w").release(cause=ExitCause.REQUESTED)
    clock(100)
    queue.lease("w").claim()
    clock(-30)  # the clock is set back
    done = queue.lease("w").finish(job.id, Path("/r.mp4"))
    assert (done.started_at, done.worked_s) == (again, 3.0)


def test_a_retry_after_a_cancel_resets_its_times(add, queue, clock):
    job = add()
    queue.lease("w").claim()
    clock(100)
    queue.lease("w").stop(job.id, JobCommand.CANCEL)
    clock(60)
    queue.retry(job.id)
    began = clock(1)
    queue.lease("w").claim()
    clock(120)
    done = queue.lease("w").finish(job.id, Path("/r.mp4"))
    assert (done.started_at, done.worked_s) == (began, 120.0)


def test_older_jobs_keep_the_time_that_is_known_of_them(tmp_path):
    older = tmp_path / "older"
    older.mkdir()
    for path in sorted(MIGRATIONS.glob("*.sql"))[:4]:
        (older / path.name).write_bytes(path.read_bytes())
    with Database(tmp_path / "relume.db", migrations=older) as database, database.transaction() as connection:
        for number, (started, finished) in enumerate(((100.0, 160.0), (100.0, None), (None, 200.0))):
            connection.execute(
                "INSERT INTO jobs (id, created_at, started_at, finished_at, title, source, options, origin, state, "
                "priority, position, revision) VALUES (?, 1, ?, ?, 't', '/s', '{}', 'command', 'done', 0, 0, ?)",
                (f"job-{number}", started, finished, number + 1),
            )

    with Database(tmp_path / "relume.db") as database:
        jobs = JobQueue(database).list()

    assert {job.id: job.worked_s for job in jobs} == {"job-0": 60.0, "job-1": 0.0, "job-2": 0.0}


@pytest.mark.parametrize("what", ["cancel", "remove", "release"])
def test_slow_work_on_files_keeps_no_other_writer_waiting(queue, add, data, monkeypatch, what):
    """As on a hung share: removing files there must not lock the database meanwhile."""
    job, written = add(), []
    (queue.files(job.id).workspace / "segments").mkdir(parents=True)
    removing = shutil.rmtree

    def slow(path, *rest, **options):
        with Database(database_path(data), busy_timeout_s=0.0) as other, other.transaction() as connection:
            connection.execute("UPDATE job_revision SET revision = revision + 1")
            written.append(path)
        removing(path, *rest, **options)

    if what != "cancel":
        queue.lease("cpu").claim()
        queue.cancel(job.id)
    if what == "remove":
        queue.lease("cpu").release()
    monkeypatch.setattr(shutil, "rmtree", slow)

    {
        "cancel": lambda: queue.cancel(job.id),
        "remove": lambda: queue.remove(job.id),
        "release": lambda: queue.lease("cpu").release(),
    }[what]()

    assert written
    assert not queue.files(job.id).workspace.exists()
    assert list(queue.files(job.id).folder.parent.glob("*/removed-*")) == []


def test_what_a_crash_left_of_removed_jobs_is_removed_later(queue, add):
    gone, cancelled, kept = add(), add(), add()
    for job in (gone, cancelled, kept):
        (queue.files(job.id).workspace / "segments").mkdir(parents=True)
    queue.cancel(gone.id)
    queue.remove(gone.id)
    queue.files(gone.id).results.mkdir(parents=True)
    aside = queue.files(cancelled.id).set_aside_workspace()

    queue.remove_leftovers()

    assert not queue.files(gone.id).results.exists()
    assert not aside.exists()
    assert queue.files(kept.id).workspace.exists()
