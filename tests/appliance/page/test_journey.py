import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

PASSWORD = "three green lamps"
TIMES = "videos => videos.map((video) => video.currentTime)"


@pytest.fixture(scope="module")
def new_box(open_box: Callable[..., Any]) -> Any:
    """Start a server without accounts; the second test creates the first one."""
    return open_box()


def test_an_expired_setup_link_is_reported_before_anything_is_typed(
    new_box: Any, open_page: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    page = open_page(f"{new_box.url}/setup?token=long-ago")
    page.faults.allowed.append("401")

    page.get_by_role("heading", name="This link has expired").wait_for()
    page.get_by_text("journalctl -u relume").wait_for()
    assert page.locator("input").count() == 0
    assert look(page, "setup-expired-light") == []


def test_a_person_goes_from_the_first_start_to_the_download(
    new_box: Any,
    open_page: Callable[..., Any],
    clip_file: Path,
    tmp_path: Path,
    poll: Callable[..., Any],
    look: Callable[..., list[str]],
) -> None:
    box = new_box
    page = open_page(box.setup_link, reduced_motion="reduce", trials=True)

    # Setup: mistakes are shown, then the account is created and its owner is logged in.
    page.get_by_label("User name").fill("Maria")
    faults = look(page, "setup-desktop-light")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_role("button", name="Create account").click()
    assert "Use at least 10 characters." in page.get_by_role("alert").inner_text()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Confirm password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()
    assert "token" not in page.url

    page.locator(".drop-zone").wait_for()
    faults += look(page, "empty-desktop-light")

    # Log out and in again.
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Name").fill("Maria")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    # Upload through the browser's own file dialog.
    page.get_by_text("Choose files").click()
    poll(lambda: page.evaluate("1") and page.choosers)
    page.choosers[0].set_files(clip_file)
    page.get_by_role("heading", name="New job").wait_for()
    page.get_by_text("96 × 64").first.wait_for()

    # Choose, and see what the job needs before it starts.
    page.get_by_text("2×", exact=True).click()
    page.get_by_text("96 × 64 → 192 × 128 (2×)", exact=True).wait_for()
    page.locator(".estimate").get_by_text("disk space needed").wait_for(timeout=60_000)
    faults += look(page, "ready-desktop-light", whole=True)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    faults += look(page, "ready-phone-dark", whole=True)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(color_scheme="light")
    page.get_by_role("button", name="Preview").click()
    page.locator('dialog .compare[data-ready="true"]').wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Start").click()

    # Watch it until it is done, without loading the page again.
    card = page.locator(".job")
    card.get_by_text("Done").wait_for(timeout=60_000)
    assert card.locator(".job-title").inner_text() == clip_file.name
    card.locator(".job-title").click()

    # Compare: both videos are there, show the same moment, and the slider moves.
    videos = page.locator("video")
    page.locator('.compare[data-ready="true"]').wait_for()
    assert videos.evaluate_all("videos => videos.map((video) => video.readyState >= 2)") == [True, True]
    line = page.get_by_label("Before and after slider")
    line.press("ArrowLeft")
    moved = page.locator(".layer-after").evaluate("layer => getComputedStyle(layer).clipPath")
    assert "49.5%" in moved
    page.get_by_label("Position", exact=True).evaluate(
        "range => { range.value = 500; range.dispatchEvent(new Event('input')); }"
    )
    before, after = videos.evaluate_all(TIMES)
    assert before == after == pytest.approx(0.5, abs=0.05)
    page.get_by_role("button", name="Next frame").click()
    stepped = videos.evaluate_all(TIMES)
    assert stepped[0] == stepped[1] == pytest.approx(13.5 / 25, abs=0.002), "the middle of the next picture"
    page.get_by_role("button", name="Play").click()
    poll(lambda: videos.evaluate_all(TIMES)[0] > 0.8)
    before, after = videos.evaluate_all(TIMES)
    assert before == pytest.approx(after, abs=0.1)

    # Audio before and after, one at a time.
    page.get_by_role("group", name="Audio").get_by_text("Before").click()
    muted = "audios => Object.fromEntries(audios.map((audio) => [audio.src.split('/').pop(), audio.muted]))"
    assert page.locator("audio").evaluate_all(muted) == {"sound-before": False, "sound-after": True}
    page.get_by_text("All 25 frames preserved").wait_for()

    # Download: the bytes are a video of twice the size.
    with page.expect_download() as download:
        page.get_by_role("link", name="Download result").click()
    saved = tmp_path / "saved.mp4"
    download.value.save_as(saved)
    with av.open(str(saved)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (192, 128)
    assert download.value.suggested_filename == "Café at noon.relume.mp4"

    # Log out: the page no longer shows the job, and the server refuses its files.
    job = page.evaluate("location.hash").removeprefix("#/job/")
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Log in").wait_for()
    assert page.locator("video").count() == 0
    answer = page.request.get(f"{box.url}/api/jobs/{job}/result")
    assert answer.status == 401
    assert faults == []


def test_a_used_setup_link_leads_to_the_login(new_box: Any, open_page: Callable[..., Any]) -> None:
    with pytest.raises(urllib.error.HTTPError):
        new_box.set_up()
    page = open_page(new_box.setup_link)
    page.get_by_role("button", name="Log in").wait_for()
