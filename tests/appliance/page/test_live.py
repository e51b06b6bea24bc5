import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

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
    note = page.get_by_text("Connection lost, trying again")
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

    page.get_by_label("Priority: first.mp4").select_option("First")
    poll(lambda: titles(page) == ["first", "second", "third"])
    assert maria.send("GET", f"/api/jobs/{jobs[0]['id']}")["priority"] > 0

    page.get_by_role("button", name="Cancel: second.mp4").click()
    page.locator(".job", has_text="second").get_by_text("Cancelled").wait_for()
    page.locator(".job", has_text="second").get_by_role("button", name="Try again").click()
    page.locator(".job", has_text="second").get_by_text("Waiting").wait_for()


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
    page.get_by_text("Nothing is found").wait_for()
    page.get_by_label("Search by name").fill("")
    poll(lambda: len(titles(page)) == 3)

    page.get_by_role("button", name="Delete: third.mp4").click()
    page.get_by_role("button", name="Go back").click()
    assert len(titles(page)) == 3
    page.get_by_role("button", name="Delete: third.mp4").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("^Delete$")).click()
    poll(lambda: sorted(titles(page)) == ["first", "second"])
