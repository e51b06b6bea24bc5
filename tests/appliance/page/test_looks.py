from collections.abc import Callable
from typing import Any

import pytest

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
# Every view, and an element that is present once it is complete.
VIEWS = {
    "": ".job",
    "history": ".job",
    "folders": ".folder",
    "users": "td",
    "settings": ".schema",
    "account": "td",
    "administration": "td",
    "system": ".model-details",
    "job": '.compare[data-ready="true"]',
    "sound": '.compare[data-ready="true"]',
    "help": ".steps",
    "start": ".first-steps",
    "nowhere": "h1",
}
MARKUP = "<img src=x onerror=alert(1)>"


def show(page: Any, furnished: Any, view: str) -> str:
    name = view or "queue"
    places = {"job": f"job/{furnished.job['id']}", "sound": f"job/{furnished.sound['id']}"}
    page.goto(f"{furnished.url}/#/{places.get(view, view)}")
    page.locator(f'main[data-view="{"job" if view in places else name}"] {VIEWS[view]}').first.wait_for()
    return name


@pytest.mark.parametrize("size", SIZES)
def test_every_view_is_accessible_and_fits(
    furnished: Any,
    open_page: Callable[..., Any],
    log_in: Callable[..., Any],
    look: Callable[..., list[str]],
    size: str,
) -> None:
    page = open_page(furnished.url, reduced_motion="reduce", **SIZES[size])
    page.get_by_role("button", name="Log in").wait_for()
    faults = look_in_both_themes(page, look, f"login-{size}")

    page = log_in(furnished.url, reduced_motion="reduce", **SIZES[size])

    for view in VIEWS:
        faults += look_in_both_themes(page, look, f"{show(page, furnished, view)}-{size}")

    assert faults == []


def look_in_both_themes(page: Any, look: Callable[..., list[str]], name: str) -> list[str]:
    faults = []
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        # The themes differ only in colours, which are the same on a phone.
        rules = ["color-contrast"] if theme == "dark" else True
        faults += look(page, f"{name}-{theme}", check=rules if (theme, name[-5:]) != ("dark", "phone") else False)
    return faults


def test_a_narrow_phone_has_no_sideways_scrolling_and_a_menu(
    furnished: Any, log_in: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    page = log_in(furnished.url, width=360, height=740)
    wide = []
    for view in VIEWS:
        name = show(page, furnished, view)
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            wide.append(name)
    assert wide == []

    assert not page.get_by_role("link", name="History").is_visible()
    page.get_by_role("button", name="Menu").click()
    assert look(page, "menu-phone-light") == []
    page.get_by_role("link", name="History").click()
    page.get_by_role("heading", name="History").wait_for()
    # The menu closes on its own.
    page.get_by_role("link", name="History").wait_for(state="hidden")


def test_the_theme_follows_the_system_until_one_is_chosen(furnished: Any, open_page: Callable[..., Any]) -> None:
    page = open_page(furnished.url, color_scheme="dark")
    page.get_by_role("button", name="Log in").wait_for()
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Theme: System").click()
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.get_by_role("button", name="Theme: Light").wait_for()
    assert page.evaluate(ground) == light, "the choice is kept"
    page.get_by_role("button", name="Theme: Light").click()
    assert page.evaluate(ground) == dark
    page.get_by_role("button", name="Theme: Dark").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light


def test_text_from_outside_never_becomes_markup(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, at="users")

    page.get_by_text(MARKUP, exact=True).wait_for()
    page.goto(furnished.url + "/#/administration")
    page.get_by_text(MARKUP).first.wait_for()
    assert page.locator('img[src="x"]').count() == 0
