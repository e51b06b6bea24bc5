"""The comparison: its slider, its keys, zoom and pan, the original while a key is held, and full screen."""

from collections.abc import Callable
from typing import Any

import pytest

LINE = "Before and after slider"
TRANSFORMS = "videos => videos.map((video) => getComputedStyle(video).transform)"


@pytest.fixture
def shown(furnished: Any, log_in: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that opens the comparison of the finished job, or of the one without video."""

    def show(job: str = "job", **options: Any) -> Any:
        page = log_in(furnished.url, at=f"job/{getattr(furnished, job)['id']}", **options)
        page.locator('.compare[data-ready="true"]').wait_for()
        return page

    return show


def centre(page: Any, selector: str) -> tuple[float, float]:
    page.locator(selector).scroll_into_view_if_needed()
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def line_at(page: Any) -> float:
    return float(page.get_by_label(LINE).input_value())


def test_the_line_is_dragged_by_the_centre_of_its_handle(shown: Callable[..., Any]) -> None:
    page = shown()
    x, y = centre(page, ".compare-handle .icon")
    width = page.locator(".compare-stage").bounding_box()["width"]

    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + width / 4, y, steps=5)
    page.mouse.up()

    assert line_at(page) == pytest.approx(75, abs=0.5)
    clip = page.locator(".layer-after").evaluate("layer => getComputedStyle(layer).clipPath")
    assert clip == f"inset(0px 0px 0px {line_at(page):g}%)"
    page.mouse.click(x - width / 4, y + 20)
    assert line_at(page) == pytest.approx(25, abs=0.5), "a click elsewhere brings the line there"


def test_the_line_is_dragged_by_a_finger(shown: Callable[..., Any]) -> None:
    page = shown(width=390, height=844, has_touch=True, is_mobile=True)
    x, y = centre(page, ".compare-handle .icon")
    width = page.locator(".compare-stage").bounding_box()["width"]

    touch(page, [(x, y)], [(x - width / 4, y)])

    assert line_at(page) == pytest.approx(25, abs=0.5)
    scrolled = page.evaluate("scrollY")
    touch(page, [(x + width / 4, y)], [(x + width / 4, y - 120)])
    assert line_at(page) == pytest.approx(25, abs=0.5), "a finger that scrolls the page leaves the line where it is"
    assert page.evaluate("scrollY") >= scrolled


def touch(page: Any, start: list[tuple[float, float]], end: list[tuple[float, float]]) -> None:
    cdp = page.context.new_cdp_session(page)

    def send(kind: str, share: float) -> None:
        points = [
            {"x": a[0] + (b[0] - a[0]) * share, "y": a[1] + (b[1] - a[1]) * share, "id": number}
            for number, (a, b) in enumerate(zip(start, end, strict=True))
        ]
        cdp.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [] if kind == "touchEnd" else points})

    send("touchStart", 0)
    for step in range(1, 6):
        send("touchMove", step / 5)
    send("touchEnd", 1)
    cdp.detach()


def test_keys_work_as_soon_as_the_page_is_there(shown: Callable[..., Any], poll: Callable[..., Any]) -> None:
    page = shown(height=500)
    time = "document.querySelector('video').currentTime"
    assert page.evaluate("document.activeElement.tagName") == "H1"

    page.keyboard.press("ArrowRight")
    assert page.evaluate(time) == pytest.approx(1.5 / 25, abs=0.002)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(time) == pytest.approx(1.5 / 25, abs=0.002)
    page.keyboard.press(" ")
    poll(lambda: page.evaluate(time) > 0.3)
    assert page.evaluate("scrollY") == 0, "Space plays and does not scroll"

    view = "document.querySelector('.compare-stage').dataset.view"
    for key, name in (("2", "beside"), ("3", "before"), ("4", "after"), ("5", "difference"), ("1", "split")):
        page.keyboard.press(key)
        assert page.evaluate(view) == name
    muted = "document.querySelector('audio[src$=sound-after]').muted"
    assert page.evaluate(muted) is False
    page.keyboard.press("m")
    assert page.evaluate(muted) is True
    page.keyboard.press("m")
    assert page.evaluate(muted) is False

    page.get_by_label(LINE).focus()
    page.keyboard.press("ArrowRight")
    assert line_at(page) == 50.5, "the slider keeps its arrows"
    page.keyboard.press(",")
    poll(lambda: page.evaluate("document.querySelector('video').paused"))
    before = page.evaluate(time)
    page.get_by_role("button", name="Delete").click()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(time) == before, "a dialog has the keys for itself"
    page.keyboard.press("Escape")


def test_the_original_is_shown_as_long_as_it_is_held(shown: Callable[..., Any]) -> None:
    page = shown()
    after = "getComputedStyle(document.querySelector('.compare-after')).visibility"
    audios = "['before', 'after'].map((name) => document.querySelector(`audio[src$=sound-${name}]`).muted)"

    page.keyboard.down("b")
    assert page.evaluate(after) == "hidden"
    assert page.evaluate(audios) == [False, True]
    page.keyboard.up("b")
    assert page.evaluate(after) == "visible"
    assert page.evaluate(audios) == [True, False]

    x, y = centre(page, ".hold-button")
    page.mouse.move(x, y)
    page.mouse.down()
    assert page.evaluate(after) == "hidden"
    page.mouse.up()
    assert page.evaluate(after) == "visible"


def test_both_videos_are_zoomed_and_moved_as_one(shown: Callable[..., Any], poll: Callable[..., Any]) -> None:
    page = shown()
    videos = page.locator(".compare-stage video")
    assert set(videos.evaluate_all(TRANSFORMS)) == {"matrix(1, 0, 0, 1, 0, 0)"}

    # One pixel of the video is one pixel of the screen, then two.
    page.get_by_role("group", name="Zoom").get_by_text("100%", exact=True).click()
    shown_width = videos.first.evaluate("video => video.getBoundingClientRect().width")
    assert shown_width == pytest.approx(192, abs=1)
    page.get_by_role("group", name="Zoom").get_by_text("200%", exact=True).click()
    assert videos.first.evaluate("video => video.getBoundingClientRect().width") == pytest.approx(384, abs=1)

    page.keyboard.press("0")
    x, y = centre(page, ".compare-stage")
    page.mouse.dblclick(x, y)
    poll(lambda: page.locator(".compare-stage[data-zoomed]").count() == 1)
    one, other = videos.evaluate_all(TRANSFORMS)
    assert one == other != "matrix(1, 0, 0, 1, 0, 0)"

    # Away from the slider the image is dragged, and the slider stays.
    at = line_at(page)
    page.mouse.move(x + 150, y)
    page.mouse.down()
    page.mouse.move(x + 180, y + 25, steps=3)
    page.mouse.up()
    moved = videos.evaluate_all(TRANSFORMS)
    assert moved[0] == moved[1] != one
    assert line_at(page) == at
    page.keyboard.press("Shift+ArrowRight")
    assert videos.evaluate_all(TRANSFORMS)[0] != moved[0], "the keyboard moves it too"

    # Zoomed in, the wheel zooms; otherwise it scrolls the page.
    scale = "video => new DOMMatrix(getComputedStyle(video).transform).a"
    before = videos.first.evaluate(scale)
    page.mouse.wheel(0, -200)
    poll(lambda: videos.first.evaluate(scale) > before)
    page.keyboard.press("0")
    page.mouse.wheel(0, 100)
    assert videos.first.evaluate(scale) == 1


def test_two_fingers_zoom(shown: Callable[..., Any]) -> None:
    page = shown(width=390, height=844, has_touch=True, is_mobile=True)
    x, y = centre(page, ".compare-stage")

    touch(page, [(x - 70, y), (x + 70, y)], [(x - 140, y), (x + 140, y)])

    scales = page.locator(".compare-stage video").evaluate_all(
        "videos => videos.map((video) => new DOMMatrix(getComputedStyle(video).transform).a)"
    )
    assert scales == [pytest.approx(2, abs=0.05)] * 2


def test_full_screen_is_dark_and_larger(shown: Callable[..., Any], poll: Callable[..., Any], look: Any) -> None:
    page = shown(width=1440, height=900)
    small = page.locator(".compare-stage").bounding_box()

    page.keyboard.press("f")
    poll(lambda: page.evaluate("document.fullscreenElement !== null"))
    page.locator(".compare-stage").hover()

    large = page.locator(".compare-stage").bounding_box()
    assert large["width"] == 1440
    assert large["height"] > 740 > small["height"]
    assert page.evaluate("getComputedStyle(document.querySelector('.compare')).backgroundColor") == "rgb(0, 0, 0)"
    bottom = page.locator(".compare-choices").bounding_box()
    assert bottom["y"] + bottom["height"] <= 900, "the controls are in view"
    assert look(page, "fullscreen-desktop-light") == []
    page.keyboard.press("f")
    poll(lambda: page.evaluate("document.fullscreenElement === null"))


def test_views_look_right(shown: Callable[..., Any], look: Callable[..., list[str]]) -> None:
    page, faults = shown(), []
    for name, size in {"desktop": (1440, 900), "phone": (390, 844), "narrow": (320, 700)}.items():
        page.set_viewport_size({"width": size[0], "height": size[1]})
        for key, view in (("1", "split"), ("2", "beside"), ("5", "difference")):
            page.keyboard.press(key)
            faults += look(page, f"compare-{view}-{name}-light", check=view == "split", whole=True)
    assert faults == []
