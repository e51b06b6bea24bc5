"""The page of a new job: its files, its options, the part of a file, previews, and the estimate before the start."""

import random
import re
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

AUDIO_PRESETS = ["Audio only", "Podcast and interview", "Dialogue for broadcast", "Music and concerts"]


@pytest.fixture
def add_files(clip_file: Path) -> Callable[..., None]:
    """Return a function that adds files of these names from the queue and waits for the form."""

    def add(page: Any, *names: str) -> None:
        content = clip_file.read_bytes()
        page.locator("#chooser").set_input_files(
            [
                {"name": name, "mimeType": "video/mp4", "buffer": content if "bad" not in name else b"x"}
                for name in names
            ]
        )
        page.get_by_role("heading", name="New job").wait_for()
        good = sum("bad" not in name for name in names)
        page.locator(".file-facts").get_by_text("96 × 64").nth(good - 1).wait_for(timeout=60_000)

    return add


@pytest.fixture
def new_job(furnished: Any, log_in: Callable[..., Any], add_files: Callable[..., None]) -> Callable[..., Any]:
    """Return a function that logs in as Ben and adds files of these names."""

    def begin(*names: str, **options: Any) -> Any:
        page = log_in(furnished.url, "Ben", **options)
        # A failed test may have left some.
        clear(page)
        add_files(page, *names)
        return page

    return begin


@pytest.fixture
def scene(furnished: Any, log_in: Callable[..., Any], clip_file: Path) -> Any:
    """Open the form of a new job for a file of Ben's that stays in place."""
    ben = furnished.ben
    files = ben.send("GET", "/api/files")
    if [file["name"] for file in files] != ["scene.mp4"]:
        for file in files:
            ben.send("DELETE", f"/api/uploads/{file['id']}")
        ben.upload(clip_file, "scene.mp4")
    page = log_in(furnished.url, "Ben", "new")
    page.locator(".file-facts").get_by_text("96 × 64").wait_for()
    return page


def clear(page: Any) -> None:
    # A running estimate loses its file.
    page.faults.allowed.append("404|422")
    page.evaluate(
        """async () => {
            const { csrf } = await fetch("/api/session").then((answer) => answer.json());
            for (const { id } of await fetch("/api/files").then((answer) => answer.json()))
                await fetch(`/api/uploads/${id}`, { method: "DELETE", headers: { "X-CSRF-Token": csrf } });
        }"""
    )


def jobs_of(page: Any, query: str = "") -> list[dict[str, Any]]:
    found = page.evaluate("(query) => fetch(`/api/jobs?${query}`).then((answer) => answer.json())", query)
    return list(found["jobs"])


def test_files_are_in_the_order_of_their_numbers_and_bad_ones_take_one_line(
    new_job: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    names = ["take 10.mp4", "take 2.mp4", "bad 1.mp4", "bad 2.mp4", f"{'long ' * 17}name.mp4"]
    page = new_job(*names)
    page.get_by_text("2 files cannot be used").wait_for()

    shown = page.locator(".file-name").all_inner_texts()
    assert shown == [names[4], "take 2.mp4", "take 10.mp4"]
    assert page.locator(".file .thumb img").count() == 3, "each has its picture"
    page.get_by_role("heading", name="3 of 3 files selected").wait_for()
    page.get_by_role("button", name="Select none").click()
    assert page.get_by_role("button", name="Start").count() == 0, "nothing is chosen"
    page.get_by_role("button", name="Select all").click()
    page.get_by_role("button", name="Start 3 jobs").wait_for()

    faults = []
    for width in (320, 390, 900, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 844})
        faults += look(page, f"new-{width}-light", check=width in (390, 1440), whole=True)
    page.emulate_media(color_scheme="dark")
    faults += look(page, "new-1440-dark", check=["color-contrast"], whole=True)
    assert faults == []

    page.get_by_text("2 files cannot be used").click()
    page.get_by_text("bad 1.mp4", exact=True).wait_for()
    page.get_by_role("button", name="Remove all").click()
    page.get_by_text("cannot be used").wait_for(state="hidden")
    assert page.locator(".file-name").count() == 3
    clear(page)


def test_the_result_and_the_total_time_are_shown_before_the_start(new_job: Callable[..., Any]) -> None:
    page = new_job("one.mp4", "two.mp4", height=800, trials=True)
    page.locator("#file-" + jobs_file(page, "two.mp4")).uncheck()
    page.get_by_text("2×", exact=True).click()

    outcome = page.locator(".outcome")
    outcome.get_by_text("96 × 64 → 192 × 128 (2×), H.264").wait_for()
    page.locator(".estimate").get_by_text("free").wait_for(timeout=60_000)
    assert re.fullmatch(r"96 × 64 → 192 × 128 \(2×\), H.264, about [\d.]+ kB", outcome.inner_text())
    facts = page.locator(".estimate-facts").inner_text()
    assert re.fullmatch(r"(less than|about) [\w ]+ · [\d.]+ \w+ of disk space needed, [\d.]+ \w+ free", facts), facts
    box = page.get_by_role("button", name="Start").bounding_box()
    assert box["y"] + box["height"] <= 800, "the start is always in view"

    # The other file's estimate uses what is known now, without another test run.
    asked: list[str] = []
    page.on("request", lambda request: "/api/estimates" in request.url and asked.append(request.post_data))
    page.locator("#file-" + jobs_file(page, "two.mp4")).check()
    page.locator(".estimate").get_by_text("in total").wait_for()
    assert outcome.inner_text().startswith("2 files, about ")
    assert all('"quick":true' in (body or "") for body in asked[:2])
    clear(page)


def jobs_file(page: Any, name: str) -> str:
    files = page.evaluate("fetch('/api/files').then((answer) => answer.json())")
    return next(file["id"] for file in files if file["name"] == name)


def test_a_part_is_chosen_and_the_choices_are_remembered(
    new_job: Callable[..., Any], add_files: Callable[..., None], furnished: Any
) -> None:
    page = new_job("part.mp4")
    page.get_by_text("CCTV and low light", exact=True).click()
    page.get_by_label("Output format").select_option("h264")
    page.get_by_label("From", exact=True).fill("0:00.2")
    page.get_by_label("To", exact=True).fill("0:00.8")
    page.keyboard.press("Tab")
    page.get_by_text("0:00.6 of 0:01").wait_for()
    assert page.get_by_label("Start of the part").input_value() == "200"

    # With the mouse: the first handle as far as it goes, and back.
    page.get_by_role("button", name="Whole file").click()
    # The resulting size has a reserved line, so nothing moves under the mouse.
    page.locator(".outcome").get_by_text("H.264").wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    first = page.get_by_label("Start of the part")
    track = first.bounding_box()
    middle = track["y"] + track["height"] / 2
    for start, end in ((10, track["width"] - 4), (track["width"] / 2, track["width"] / 5)):
        page.mouse.move(track["x"] + start, middle)
        page.mouse.down()
        page.mouse.move(track["x"] + end, middle, steps=4)
        page.mouse.up()
    assert 150 < float(first.input_value()) < 250
    page.get_by_label("From", exact=True).fill("0.2")
    page.get_by_label("To", exact=True).fill("0.8")
    page.keyboard.press("Tab")
    page.get_by_label("End of the part").press("ArrowLeft")
    page.get_by_role("button", name="Start").click()

    page.get_by_role("heading", name="Queue", exact=True).wait_for()
    (job,) = [job for job in jobs_of(page) if job["title"] == "part.mp4"]
    options = job["options"]
    assert (options["preset"], options["codec"], options["start_s"]) == ("surveillance", "h264", 0.2)
    assert options["end_s"] == pytest.approx(0.799)
    assert furnished.maria.finish(job["id"])["frames_total"] == 15

    add_files(page, "next.mp4")
    assert page.get_by_role("radio", name="CCTV and low light").is_checked()
    assert page.get_by_label("Output format").input_value() == "h264"
    clear(page)


def test_of_a_recording_only_the_speech_is_cleaned(
    furnished: Any, log_in: Callable[..., Any], tmp_path: Path, look: Callable[..., list[str]]
) -> None:
    page = log_in(furnished.url, "Ben")
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(random.Random(7).randbytes(32_000))
    page.locator("#chooser").set_input_files(tmp_path / "talk.wav")
    page.get_by_text("audio only · 1 s").wait_for()

    page.locator(".outcome").get_by_text("Audio enhanced").wait_for()
    titles = [title for title in page.locator(".preset-title").all() if title.is_visible()]
    assert [title.inner_text() for title in titles] == AUDIO_PRESETS
    assert page.get_by_role("radio", name="Audio only").is_checked()
    assert look(page, "new-recording-desktop-light") == []
    assert not page.get_by_role("button", name="Try all presets").is_visible()
    assert not page.get_by_label("Output format").is_visible()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()

    card = page.locator(".job", has_text="talk.wav")
    card.get_by_text("Done", exact=True).wait_for(timeout=60_000)
    card.get_by_text("Speech cleaned").wait_for()
    speaker = card.locator(".thumb svg path").first.get_attribute("d")
    assert speaker == "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5Z"
    card.locator(".job-title").click()
    page.locator('.compare[data-ready="true"]').wait_for()
    assert page.get_by_label("Position", exact=True).count() == 1
    assert look(page, "job-recording-desktop-light") == []
    page.keyboard.down("b")
    assert page.locator("audio[src$=sound-before]").evaluate("audio => audio.muted") is False
    page.keyboard.up("b")
    assert page.locator("audio[src$=sound-before]").evaluate("audio => audio.muted") is True


def test_a_preview_opens_over_the_page_and_is_no_part_of_the_history(
    scene: Any, look: Callable[..., list[str]], furnished: Any
) -> None:
    page = scene
    page.get_by_text("Restore", exact=True).click()

    page.get_by_role("button", name="Preview").click()
    dialog = page.get_by_role("dialog", name="Preview")
    dialog.locator('.compare[data-ready="true"]').wait_for(timeout=60_000)

    box = dialog.locator(".compare-stage").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 800, "it is in view"
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog video").first.evaluate("video => video.currentTime") > 0.03
    assert look(page, "preview-desktop-light") == []
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.goto(furnished.url + "/#/history")
    page.get_by_role("heading", name="History").wait_for()
    page.locator(".job").first.wait_for()
    assert page.get_by_text("scene.mp4").count() == 0


def test_every_preset_is_tried_on_the_same_seconds(scene: Any, look: Callable[..., list[str]]) -> None:
    page = scene
    presets = page.locator(".preset-title").all_inner_texts()

    page.get_by_role("button", name="Try all presets").click()
    dialog = page.get_by_role("dialog", name="Try all presets")
    dialog.locator(".trial video").nth(5).wait_for(timeout=120_000)

    assert dialog.locator("figcaption > span").all_inner_texts() == [
        "Original",
        *[name for name in presets if name not in AUDIO_PRESETS],
    ]
    dialog.get_by_role("button", name="Play all").click()
    page.wait_for_function("[...document.querySelectorAll('.trial video')].every((video) => !video.paused)")
    dialog.get_by_role("button", name="Pause all").click()
    assert look(page, "try-all-desktop-light") == []
    dialog.get_by_role("button", name="Use this: CCTV and low light").click()
    dialog.wait_for(state="detached")
    assert page.get_by_role("radio", name="CCTV and low light").is_checked()


def test_choices_are_saved_under_a_name_and_new_jobs_begin_with_them(
    scene: Any, look: Callable[..., list[str]]
) -> None:
    page = scene
    page.get_by_text("Restore", exact=True).click()
    page.get_by_label("Audio", exact=True).select_option("off")
    assert not page.get_by_label("Loudness", exact=True).is_visible()
    page.get_by_role("button", name="Save as preset").click()
    dialog = page.get_by_role("dialog", name="Save as preset")
    dialog.get_by_label("Name").fill("Old tapes")
    dialog.get_by_label("Use as default for new jobs").check()
    assert dialog.get_by_label("Share with everyone").count() == 0, "that is for administrators"
    dialog.get_by_role("button", name="Save").click()
    page.get_by_text("Preset “Old tapes” saved.").wait_for()
    assert look(page, "saved-preset-desktop-light") == []

    page.reload()
    page.get_by_label("Saved preset").wait_for()
    assert page.get_by_label("Saved preset").locator("option:checked").inner_text() == "Old tapes"
    assert page.get_by_role("radio", name="Restore").is_checked()
    assert page.get_by_label("Audio", exact=True).input_value() == "off"

    page.get_by_role("button", name="Delete preset: Old tapes").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    page.get_by_label("Saved preset").wait_for(state="detached")


def test_a_damaged_file_is_reported_and_starts_only_when_it_is_selected(
    furnished: Any, log_in: Callable[..., Any], clip_file: Path, tmp_path: Path
) -> None:
    with av.open(str(clip_file)) as source, av.open(str(tmp_path / "cut.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    content = (tmp_path / "cut.mkv").read_bytes()
    page = log_in(furnished.url, "Ben")
    clear(page)
    page.locator("#chooser").set_input_files(
        [{"name": "cut.mkv", "mimeType": "video/x-matroska", "buffer": content[: len(content) * 9 // 10]}]
    )

    page.locator(".file-facts").get_by_text(re.compile(r"File is incomplete \(.* of .*\); copy it again\.")).wait_for()
    assert not page.get_by_role("checkbox", name="cut.mkv").is_checked()
    page.get_by_role("checkbox", name="cut.mkv").check()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("was added to the queue").wait_for()

    (job,) = [job for job in jobs_of(page) if job["title"] == "cut.mkv"]
    assert job["options"]["allow_damaged"] is True


def test_a_file_is_measured_and_the_suggested_preset_is_used(
    new_job: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    page = new_job("take.mp4")
    note = page.locator(".advice")
    note.get_by_text("The resolution is low (96 × 64).").wait_for()
    assert not note.get_by_role("button").is_visible(), "its preset is chosen already"

    page.get_by_text("Restore", exact=True).click()
    assert look(page, "new-advice-desktop-light") == []
    note.get_by_role("button", name="Use this preset").click()

    assert page.locator('input[value="upscale"]').is_checked()
    assert not note.get_by_role("button").is_visible()
