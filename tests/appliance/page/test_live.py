import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.jobs.job import JobCommand
from appliance.jobs.queue import JobQueue
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from runtime.progress import Progress

QUEUED = ("first", "second", "third")


@pytest.fixture
def jobs(asleep: Any) -> list[dict[str, Any]]:
    """Add three queued jobs."""
    found: list[dict[str, Any]] = asleep.queue("restore", *(f"{name}.mp4" for name in QUEUED))
    return found


def titles(page: Any) -> list[str]:
    return [text.removesuffix(".mp4") for text in page.locator(".job .job-title").all_inner_texts()]


def test_the_queue_follows_the_server_and_a_lost_connection_is_reported(
    asleep: Any,
    jobs: list[dict[str, Any]],
    log_in: Callable[..., Any],
    poll: Callable[..., Any],
    look: Callable[..., list[str]],
) -> None:
    maria = asleep.maria
    page = log_in(asleep.url)
    page.faults.allowed.append("ERR_|502|503")
    assert poll(lambda: titles(page)) == list(QUEUED)

    # Someone else changes the order and pauses one.
    maria.send("PATCH", f"/api/jobs/{jobs[2]['id']}", {"before": jobs[0]["id"]})
    poll(lambda: titles(page) == ["third", "first", "second"])
    maria.send("POST", f"/api/jobs/{jobs[2]['id']}/pause")
    page.locator(".job", has_text="third").get_by_text("Paused").wait_for()

    # The server goes away: the page says so, and nothing of it is lost.
    asleep.wake()
    asleep.box.process.kill()
    asleep.box.process.wait()
    note = page.get_by_text("Connection lost, reconnecting")
    note.wait_for()
    assert titles(page) == ["third", "first", "second"]
    assert look(page, "connection-lost-desktop-light") == []
    page.route("**/api/events*", lambda route: route.abort())
    asleep.box.start()
    maria.send("POST", f"/api/jobs/{jobs[2]['id']}/cancel")
    assert page.locator(".job", has_text="third").get_by_text("Paused").is_visible()
    page.unroute("**/api/events*")
    note.wait_for(state="hidden")

    # The login is still valid, changes made meanwhile are shown, and live updates continue.
    page.locator(".job", has_text="third").get_by_text("Cancelled").wait_for()
    page.locator(".job", has_text="first").get_by_text("Done", exact=True).wait_for(timeout=60_000)


def test_jobs_are_reordered_prioritised_and_cancelled(
    asleep: Any, jobs: list[dict[str, Any]], log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    maria = asleep.maria
    page = log_in(asleep.url)
    poll(lambda: titles(page) == list(QUEUED))

    page.get_by_role("button", name="Move up: third.mp4").click()
    poll(lambda: titles(page) == ["first", "third", "second"])
    page.get_by_role("button", name="Move down: first.mp4").click()
    poll(lambda: titles(page) == ["third", "first", "second"])

    grip = page.locator(".job", has_text="second").locator(".grip").bounding_box()
    top = page.locator(".job", has_text="third").bounding_box()
    page.mouse.move(grip["x"] + 5, grip["y"] + 5)
    page.mouse.down()
    page.mouse.move(grip["x"] + 5, top["y"] + 30, steps=4)
    page.mouse.move(grip["x"] + 5, top["y"] + 6)
    page.mouse.up()
    poll(lambda: titles(page) == ["second", "third", "first"])

    page.get_by_label("Priority: first.mp4").select_option("High")
    poll(lambda: titles(page) == ["first", "second", "third"])
    assert maria.send("GET", f"/api/jobs/{jobs[0]['id']}")["priority"] > 0

    page.get_by_role("button", name="Cancel: second.mp4").click()
    page.locator(".job", has_text="second").get_by_text("Cancelled").wait_for()
    page.locator(".job", has_text="second").get_by_role("button", name="Retry").click()
    page.locator(".job", has_text="second").get_by_text("Waiting").wait_for()


@pytest.fixture
def hold(asleep: Any) -> Iterator[Callable[..., Any]]:
    """Yield a function that works on the first job as a worker would: it reports progress, or stops."""
    with Database(database_path(asleep.box.data)) as database:
        # In place of the stopped worker: the server takes a job back from a device that it does not have.
        device = asleep.maria.send("GET", "/api/system")["workers"][0]["device"]
        lease = JobQueue(database).lease(device)

        def advance(progress: Progress, *, command: JobCommand | None = None) -> None:
            job_id = lease.job_id or lease.claim().id
            lease.progress(job_id, progress)
            if command is not None:
                lease.stop(job_id, command)

        yield advance


def test_a_paused_job_that_was_started_is_cancelled_only_after_a_question(
    asleep: Any,
    jobs: list[dict[str, Any]],
    hold: Callable[..., Any],
    log_in: Callable[..., Any],
    poll: Callable[..., Any],
) -> None:
    maria = asleep.maria
    hold(Progress("enhancing", 90, 100, fps=2.0, eta_s=5.0), command=JobCommand.PAUSE)
    page = log_in(asleep.url)

    # Paused, and resumed but not yet running again: 90% of it would be lost.
    for state in ("paused", "queued"):
        page.get_by_role("button", name="Cancel: first.mp4").click()
        page.get_by_text("Progress so far will be lost.").wait_for()
        page.get_by_role("button", name="Keep job").click()
        assert maria.send("GET", f"/api/jobs/{jobs[0]['id']}")["state"] == state
        if state == "paused":
            page.get_by_role("button", name="Resume: first.mp4").click()
            page.locator("#part-paused").wait_for(state="hidden")
    page.get_by_role("button", name="Cancel: first.mp4").click()
    page.get_by_role("button", name="Cancel job").click()
    poll(lambda: maria.send("GET", f"/api/jobs/{jobs[0]['id']}")["state"] == "cancelled")

    # A job that has not started has nothing to lose.
    page.get_by_role("button", name="Cancel: second.mp4").click()
    poll(lambda: maria.send("GET", f"/api/jobs/{jobs[1]['id']}")["state"] == "cancelled")


@pytest.mark.usefixtures("jobs")
def test_after_the_last_frame_neither_rate_nor_time_left_is_reported(
    asleep: Any, hold: Callable[..., Any], log_in: Callable[..., Any]
) -> None:
    page = log_in(asleep.url)
    words = page.locator(".job", has_text="first").locator(".progress-words")
    hold(Progress("enhancing", 50, 100, fps=7.75, eta_s=300.0))
    page.get_by_text("About 5 minutes left · 7.8 fps").wait_for()

    for stage, word in (
        ("merging", "Joining the parts"),
        ("checking", "Checking every frame"),
        ("comparing", "Preparing the comparison"),
    ):
        hold(Progress(stage, 100, 100, fps=7.75, eta_s=None))
        page.get_by_text(word).wait_for()
        assert words.inner_text().split() == ["99%", *word.split(), "Almost", "done"]


def test_the_waiting_jobs_tell_when_all_will_be_done(
    asleep: Any, jobs: list[dict[str, Any]], log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    page = log_in(asleep.url)
    number = page.locator("#part-waiting .number")
    poll(lambda: number.inner_text() == "3")

    with Database(database_path(asleep.box.data)) as database:
        for job in jobs:
            JobQueue(database).set_estimate(job["id"], '{"time_s": 600.0}')

    page.get_by_text(re.compile(r"^3 jobs, done about (.+ )?\d+:\d0( [AP]M)?$")).wait_for()
    page.get_by_text("about 10 minutes").first.wait_for()


def test_history_searches_and_a_job_is_deleted_after_a_question(
    asleep: Any, jobs: list[dict[str, Any]], log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    maria = asleep.maria
    for job in jobs:
        maria.send("POST", f"/api/jobs/{job['id']}/cancel")
    page = log_in(asleep.url, at="history")
    poll(lambda: sorted(titles(page)) == sorted(QUEUED))

    page.get_by_label("Search by name").fill("SEC")
    poll(lambda: titles(page) == ["second"])
    page.get_by_label("Search by name").fill("nothing like this")
    page.get_by_text("No results.").wait_for()
    page.get_by_label("Search by name").fill("")
    poll(lambda: len(titles(page)) == 3)

    page.get_by_role("button", name="Delete: third.mp4").click()
    page.get_by_role("button", name="Keep job").click()
    assert len(titles(page)) == 3
    page.get_by_role("button", name="Delete: third.mp4").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^Delete$")).click()
    poll(lambda: sorted(titles(page)) == ["first", "second"])


def test_a_list_does_not_undo_an_event_that_arrived_while_it_was_loading(
    asleep: Any, log_in: Callable[..., Any]
) -> None:
    page = log_in(asleep.url)

    states = page.evaluate(
        """async () => {
          const main = document.querySelector('script[type=module]').src;
          const jobs = new (await import(main.replace('main.js', 'live.js'))).JobMap();
          const job = (id, revision, state) => ({ id, revision, state });
          const before = [job('old', 1, 'queued'), job('done', 2, 'queued'), job('gone', 3, 'queued')];
          jobs.load([{ revision: 3, jobs: before }]);
          jobs.update(job('new', 5, 'queued'));
          jobs.update(job('done', 6, 'done'));
          jobs.update({ id: 'gone', removed: true });
          const late = [job('done', 2, 'queued'), job('gone', 3, 'queued'), job('other', 4, 'queued')];
          jobs.load([{ revision: 4, jobs: late }]);
          return [...jobs.values()].map(({ id, state }) => `${id} ${state}`).sort();
        }"""
    )

    assert states == ["done done", "new queued", "other queued"]
