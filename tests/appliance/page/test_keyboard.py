from collections.abc import Callable
from pathlib import Path
from typing import Any

PASSWORD = "three green lamps"
DESCRIBE = """() => {
    const element = document.activeElement;
    const label = element.labels?.[0]?.innerText ?? element.getAttribute("aria-label") ?? element.innerText;
    return (label ?? "").trim().split("\\n")[0];
}"""


def tab_to(page: Any, wanted: str, *, key: str = "Tab") -> None:
    """Press Tab until the element with that label has the focus, and check that the focus is visible."""
    passed = []
    for _ in range(80):
        page.keyboard.press(key)
        now = page.evaluate(DESCRIBE)
        if now == wanted:
            return
        passed.append(now)
    raise AssertionError(f"{wanted} is not reached by {key}; passed: {passed}")


def test_all_the_way_by_keyboard_alone(
    furnished: Any, open_page: Callable[..., Any], clip_file: Path, poll: Callable[..., Any]
) -> None:
    page = open_page(furnished.url)
    page.get_by_role("button", name="Log in").wait_for()
    assert page.evaluate(DESCRIBE) == "User name", "the first field has the focus"
    page.keyboard.type("Ben")
    tab_to(page, "Password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Queue", exact=True).wait_for()
    poll(lambda: page.evaluate(DESCRIBE) == "Queue")  # a new page has the focus on its heading

    tab_to(page, "Choose files")
    page.keyboard.press("Enter")
    poll(lambda: page.evaluate("1") and page.choosers)
    page.choosers[0].set_files(clip_file)
    page.locator(".file-facts").get_by_text("96 × 64").wait_for()

    tab_to(page, "Upscale")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(DESCRIBE) == "Restore"
    tab_to(page, "Strength")
    page.keyboard.press("ArrowLeft")
    tab_to(page, "Start")
    page.keyboard.press("Enter")
    card = page.locator(".job", has_text="Restore").first
    card.get_by_text("Done", exact=True).wait_for(timeout=60_000)

    card.locator(".job-title").focus()
    page.keyboard.press("Enter")
    page.locator('.compare[data-ready="true"]').wait_for()
    tab_to(page, "Before and after slider")
    page.keyboard.press("ArrowRight")
    assert page.get_by_label("Before and after slider").input_value() == "50.5"
    page.keyboard.press("s")
    muted = page.locator("audio").evaluate_all(
        "audios => audios.map((audio) => [audio.src.split('-').pop(), audio.muted])"
    )
    assert dict(muted) == {"before": False, "after": True}
    page.keyboard.press(".")
    assert page.locator("video").first.evaluate("video => video.currentTime") > 0.03
    page.keyboard.press(" ")
    poll(lambda: page.locator("video").first.evaluate("video => video.currentTime > 0.3"))

    tab_to(page, "Log out", key="Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Log in").wait_for()


def test_focus_is_visible_and_a_dialog_keeps_it(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, at="users")
    page.get_by_role("button", name="Add user").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Add user")
    dialog.wait_for()

    for _ in range(12):
        page.keyboard.press("Tab")
        inside = page.evaluate(
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        )
        assert inside, "the focus left the dialog"
    dialog.get_by_label("Name").focus()
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    assert page.evaluate(DESCRIBE) == "Add user", "the focus goes back to where it was"


def test_skip_leads_past_the_navigation(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url)
    page.locator("body").evaluate("body => { document.activeElement.blur(); }")
    page.get_by_role("button", name="Skip to content").focus()
    # It slides in from above.
    page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
