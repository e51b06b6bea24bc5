from collections.abc import Callable
from typing import Any


def test_a_viewer_sees_and_downloads_but_controls_nothing(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Guard")
    page.locator(".job-title").first.wait_for()

    page.get_by_text("ask an administrator for the operator role").wait_for()
    assert page.locator(".drop-zone, .ready, .composer, .grip, .job-controls").count() == 0
    links = page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()
    assert links == ["Queue", "History", "System", "Help"]

    page.locator(".job-title").first.click()
    page.get_by_role("link", name="Download result").wait_for()
    for word in ("Delete", "Pause", "Cancel", "Retry"):
        assert page.get_by_role("button", name=word).count() == 0, word


def test_an_operator_controls_only_own_jobs(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Ben", f"job/{furnished.job['id']}")
    page.get_by_role("link", name="Download result").wait_for()

    assert page.get_by_role("button", name="Delete").count() == 0
    assert page.get_by_role("link", name="Users").count() == 0


def test_an_ended_session_asks_to_log_in_and_continues_at_the_same_place(
    furnished: Any, log_in: Callable[..., Any]
) -> None:
    page = log_in(furnished.url, "Ben", "system")
    page.faults.allowed.append("401")
    page.context.clear_cookies()

    # A link may be gone before it is clicked: the page itself asks the server every few seconds.
    page.evaluate("location.hash = '#/history'")
    page.get_by_role("button", name="Log in").wait_for()
    page.get_by_label("Name").fill("Ben")
    page.get_by_label("Password", exact=True).fill("three green lamps")
    page.get_by_role("button", name="Log in").click()

    page.get_by_role("heading", name="History").wait_for()


def test_a_wrong_password_is_reported_and_keeps_the_name(furnished: Any, open_page: Callable[..., Any]) -> None:
    page = open_page(furnished.url)
    page.faults.allowed.append("401")
    page.get_by_label("Name").fill("Ben")
    page.get_by_label("Password", exact=True).fill("wrong but long enough")
    page.get_by_role("button", name="Log in").click()

    page.get_by_role("alert").wait_for()
    assert "Wrong user name or password" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Name").input_value() == "Ben"
