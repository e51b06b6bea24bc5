"""Several jobs at once, the whole queue, and a job's file used again."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LONG = f"{'a name that goes on and on ' * 4}.mp4"


@pytest.fixture
def jobs(asleep: Any) -> list[dict[str, Any]]:
    """Add three queued jobs."""
    found: list[dict[str, Any]] = asleep.queue("sound-only", "one.mp4", "two.mp4", LONG)
    return found


@pytest.mark.usefixtures("jobs")
def test_many_jobs_are_paused_resumed_saved_and_deleted_at_once(
    asleep: Any,
    log_in: Callable[..., Any],
    poll: Callable[..., Any],
    look: Callable[..., list[str]],
) -> None:
    maria = asleep.maria
    page = log_in(asleep.url)
    cards = page.locator(".job")
    poll(lambda: cards.count() == 3)
    states = lambda: [job["state"] for job in maria.send("GET", "/api/jobs")["jobs"]]  # noqa: E731

    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("checkbox", name="Select: one.mp4").check()
    page.get_by_role("checkbox", name="Select: two.mp4").check()
    page.get_by_text("2 jobs selected").wait_for()
    faults = []
    for width in (320, 390, 900, 1024, 1440, 1920):
        page.set_viewport_size({"width": width, "height": 844})
        faults += look(page, f"queue-select-{width}-light", check=width in (390, 1440), whole=True)
    assert faults == []
    page.get_by_role("button", name="Pause 2").click()
    poll(lambda: sorted(states()) == ["paused", "paused", "queued"])

    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("button", name="Select all").click()
    page.get_by_role("button", name="Resume 2").click()
    poll(lambda: states() == ["queued"] * 3)
    asleep.wake()
    poll(lambda: states() == ["done"] * 3)
    poll(lambda: page.locator('.job[data-state="done"]').count() == 3)

    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("button", name="Select all").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download 3 (ZIP)").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        assert archive.testzip() is None
        assert {name.partition(".")[0] for name in archive.namelist()} >= {"one", "two"}
    # In the history too.
    page.goto(f"{asleep.url}/#/history")
    page.get_by_role("heading", name="History").wait_for()
    page.get_by_role("button", name="Select", exact=True).click()
    page.get_by_role("button", name="Select all").click()
    assert look(page, "history-select-light") == []
    page.get_by_role("button", name="Delete 3").click()
    page.get_by_role("dialog", name="Delete 3 jobs?").get_by_role("button", name="Delete").click()
    poll(lambda: states() == [])
    page.get_by_text("No finished jobs yet.").wait_for()


def test_a_held_queue_starts_nothing_until_it_is_resumed(
    asleep: Any, jobs: list[dict[str, Any]], log_in: Callable[..., Any]
) -> None:
    maria = asleep.maria
    page = log_in(asleep.url)
    page.get_by_role("button", name="Pause queue").click()
    note = page.get_by_text("The queue is paused. Running jobs will finish")
    note.wait_for()
    asleep.wake()
    other = log_in(asleep.url)
    other.get_by_text("The queue is paused.").wait_for()
    assert {job["state"] for job in maria.send("GET", "/api/jobs")["jobs"]} == {"queued"}

    page.get_by_role("button", name="Resume queue").click()

    note.wait_for(state="hidden")
    other.get_by_text("The queue is paused.").wait_for(state="hidden")
    assert maria.finish(jobs[0]["id"])["state"] == "done"


def test_a_waiting_job_is_edited_and_a_finished_one_enhanced_again(
    asleep: Any, jobs: list[dict[str, Any]], log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    maria = asleep.maria
    page = log_in(asleep.url, at=f"job/{jobs[0]['id']}")
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("heading", name="Edit job").wait_for()
    assert page.get_by_role("radio", name="Audio only").is_checked()
    page.get_by_label("To", exact=True).fill("0.6")
    page.get_by_text("Restore", exact=True).click()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("heading", name="one.mp4").wait_for()
    page.get_by_text("Restore · 0:00 to 0:00.6").wait_for()
    options = maria.send("GET", f"/api/jobs/{jobs[0]['id']}")["options"]
    assert (options["preset"], options["end_s"]) == ("restore", 0.6)

    asleep.wake()
    assert maria.finish(jobs[0]["id"])["frames_total"] == 15
    page.get_by_role("link", name="Enhance again").click()
    page.get_by_role("heading", name="Enhance again").wait_for()
    poll(lambda: page.get_by_label("To", exact=True).input_value() == "0:00.6")
    page.get_by_role("button", name="Whole file").click()
    page.get_by_text("CCTV and low light", exact=True).click()
    page.get_by_role("button", name="Start").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()

    again = poll(
        lambda: next(
            (job for job in maria.send("GET", "/api/jobs")["jobs"] if job["options"]["preset"] == "surveillance"), None
        )
    )
    assert (again["title"], again["options"]["end_s"]) == ("one.mp4", None)
    assert maria.finish(again["id"])["frames_total"] == 25


def test_a_damaged_file_is_enhanced_as_far_as_it_can_be_read(
    furnished: Any, log_in: Callable[..., Any], write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    maria = furnished.maria
    path = write_clip(tmp_path / "scratched.mkv", frames=60, size=(96, 64))
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 400):
        content[at] ^= 0xA5
    path.write_bytes(content)
    job = maria.finish(maria.send("POST", "/api/jobs", {"file": maria.upload(path), "preset": "restore"})["id"])
    assert (job["state"], job["code"]) == ("failed", "source_damaged"), job["message"]
    page = log_in(furnished.url, at=f"job/{job['id']}")

    page.get_by_role("button", name="Enhance what can be read").click()

    page.get_by_role("link", name="Download result").wait_for(timeout=60_000)
    assert maria.send("GET", f"/api/jobs/{job['id']}")["options"]["allow_damaged"] is True
    assert page.get_by_role("button", name="Enhance what can be read").count() == 0
    maria.send("DELETE", f"/api/jobs/{job['id']}")


def test_a_preview_that_nobody_waits_for_any_more_is_cancelled(
    asleep: Any, log_in: Callable[..., Any], clip_file: Path, poll: Callable[..., Any]
) -> None:
    maria = asleep.maria
    for name in ("first.mp4", "second.mp4"):
        maria.upload(clip_file, name)
    page = log_in(asleep.url)
    banner = page.locator(".waiting-files")
    link = banner.get_by_role("link", name="Set up job")
    link.wait_for()
    assert banner.bounding_box()["height"] < 80, "it takes one line"
    link.click()
    page.get_by_role("heading", name="2 of 2 files selected").wait_for()

    def previews() -> list[tuple[str, str]]:
        return sorted(
            (job["title"], job["state"]) for job in maria.send("GET", "/api/jobs")["jobs"] if job["preview_of"]
        )

    page.get_by_role("button", name="Preview").click()
    dialog = page.get_by_role("dialog", name="Preview")
    dialog.get_by_text("Starts after the current job.").wait_for()
    assert previews() == [("first.mp4", "queued")]
    dialog.get_by_label("File").select_option("second.mp4")
    dialog.get_by_role("button", name="Preview this part").click()
    poll(lambda: previews() == [("first.mp4", "cancelled"), ("second.mp4", "queued")])
    page.keyboard.press("Escape")
    poll(lambda: previews() == [("first.mp4", "cancelled"), ("second.mp4", "cancelled")])
    assert page.get_by_role("heading", name="New job").is_visible()
