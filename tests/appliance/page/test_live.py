import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from appliance.jobs.job import JobCommand
from appliance.jobs.queue import JobQueue
from appliance.store.data_dir import database_path
from appliance.store.database import Database
from runtime.progress import Progress

QUEUED = ("first", "second", "third")


@pytest.fixture
def waiting(open_box: Callable[..., Any], clip_file: Path, poll: Callable[..., Any]) -> Iterator[Any]:
    """A box whose worker sleeps, with three jobs that wait."""
    box = open_box()
    maria = box.set_up()
    worker = poll(lambda: maria.send("GET", "/api/system")["workers"][0]["pid"])
    os.kill(worker, signal.SIGSTOP)
    jobs = [
        maria.send("POST", "/api/jobs", {"file": maria.upload(clip_file, f"{name}.mp4"), "preset": "restore"})
        for name in QUEUED
    ]
    yield box, maria, jobs, worker
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)
    box.stop()


def titles(page: Any) -> list[str]:
    return [text.removesuffix(".mp4") for text in page.locator(".job .job-title").all_inner_texts()]


def test_the_queue_follows_the_server_and_a_lost_connection_is_told(
    waiting: Any, log_in: Callable[..., Any], poll: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    box, maria, jobs, worker = waiting
    page = log_in(box.url)
    page.faults.allowed.append("ERR_|502|503")
    assert poll(lambda: titles(page)) == list(QUEUED)

    # Someone else changes the order and pauses one.
    maria.send("PATCH", f"/api/jobs/{jobs[2]['id']}", {"before": jobs[0]["id"]})
    poll(lambda: titles(page) == ["third", "first", "second"])
    maria.send("POST", f"/api/jobs/{jobs[2]['id']}/pause")
    page.locator(".job", has_text="third").get_by_text("Paused").wait_for()

    # The server goes away: the page says so, and nothing of it is lost.
    os.kill(worker, signal.SIGCONT)
    box.process.kill()
    box.process.wait()
    note = page.get_by_text("Connection lost, reconnecting")
    note.wait_for()
    assert titles(page) == ["third", "first", "second"]
    assert look(page, "connection-lost-desktop-light") == []
    page.route("**/api/events", lambda route: route.abort())
    box.start()
    maria.send("POST", f"/api/jobs/{jobs[2]['id']}/cancel")
    assert page.locator(".job", has_text="third").get_by_text("Paused").is_visible()
    page.unroute("**/api/events")
    note.wait_for(state="hidden")

    # The log-in still counts, what changed meanwhile is there, and what goes on is told again.
    page.locator(".job", has_text="third").get_by_text("Cancelled").wait_for()
    page.locator(".job", has_text="first").get_by_text("Done", exact=True).wait_for(timeout=60_000)


def test_jobs_are_reordered_prioritised_and_cancelled(
    waiting: Any, log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    box, maria, jobs, _ = waiting
    page = log_in(box.url)
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
def hold(waiting: Any) -> Iterator[Callable[..., Any]]:
    """Yield the function that works on the first job as a worker would: it tells how far it is, or stops."""
    with Database(database_path(waiting[0].data)) as database:
        queue = JobQueue(database)

        def advance(progress: Progress, *, wish: JobCommand | None = None) -> None:
            held = queue.lease("test").job_id
            job_id = held or queue.lease("test").claim().id
            queue.lease("test").progress(job_id, progress)
            if wish is not None:
                queue.lease("test").stop(job_id, wish)

        yield advance


def test_a_paused_job_that_was_begun_is_cancelled_only_after_a_question(
    waiting: Any, hold: Callable[..., Any], log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    box, maria, jobs, _ = waiting
    hold(Progress("enhancing", 90, 100, fps=2.0, eta_s=5.0), wish=JobCommand.PAUSE)
    page = log_in(box.url)

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

    # One that was not begun has nothing to lose.
    page.get_by_role("button", name="Cancel: second.mp4").click()
    poll(lambda: maria.send("GET", f"/api/jobs/{jobs[1]['id']}")["state"] == "cancelled")


def test_after_the_last_frame_neither_rate_nor_time_left_is_told(
    waiting: Any, hold: Callable[..., Any], log_in: Callable[..., Any]
) -> None:
    page = log_in(waiting[0].url)
    words = page.locator(".job", has_text="first").locator(".progress-words")
    hold(Progress("enhancing", 50, 100, fps=7.75, eta_s=300.0))
    page.get_by_text("About 5 minutes left · 7.8 fps").wait_for()

    for stage, word in (
        ("joining", "Joining the parts"),
        ("checking", "Checking every frame"),
        ("comparing", "Preparing the comparison"),
    ):
        hold(Progress(stage, 100, 100, fps=7.75, eta_s=None))
        page.get_by_text(word).wait_for()
        assert words.inner_text().split() == ["99%", *word.split(), "Almost", "done"]


def test_the_waiting_jobs_tell_when_all_will_be_done(
    waiting: Any, log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    box, _, jobs, _ = waiting
    page = log_in(box.url)
    number = page.locator("#part-waiting .number")
    poll(lambda: number.inner_text() == "3")

    with Database(database_path(box.data)) as database:
        for job in jobs:
            JobQueue(database).set_estimate(job["id"], '{"time_s": 600.0}')

    page.get_by_text(re.compile(r"^3 jobs, done about \d+:\d0( [AP]M)?$")).wait_for()
    page.get_by_text("about 10 minutes").first.wait_for()


def test_history_searches_and_a_job_is_deleted_after_a_question(
    waiting: Any, log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    box, maria, jobs, _ = waiting
    for job in jobs:
        maria.send("POST", f"/api/jobs/{job['id']}/cancel")
    page = log_in(box.url)
    page.goto(box.url + "/#/history")
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
