from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_job_and_a_folder_take_one_of_the_servers_own_models(
    furnished: Any,
    log_in: Callable[..., Any],
    clip_file: Path,
    tmp_path: Path,
    look: Callable[..., list[str]],
) -> None:
    maria = furnished.maria
    maria.upload(clip_file, "tape.mp4")
    page = log_in(furnished.url, at="new")
    page.locator(".file-facts").get_by_text("96 × 64").wait_for()
    page.get_by_text("4×", exact=True).click()
    page.get_by_label("Video model").select_option("archive-x2")
    assert not page.get_by_text("4×", exact=True).is_visible()
    faults = look(page, "own-model-desktop-light", whole=True)
    page.get_by_role("button", name="Start", exact=True).click()
    card = page.locator(".job", has_text="tape.mp4")
    card.get_by_text("Done").wait_for(timeout=60_000)
    (job,) = maria.send("GET", "/api/jobs?text=tape")["jobs"]
    card.locator(".job-title").click()
    page.get_by_text("with archive-x2").first.wait_for()

    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    page.goto(f"{furnished.url}/#/folders")
    page.get_by_role("button", name="Add watch folder").first.click()
    page.get_by_role("textbox", name="Folder to watch").fill(str(tmp_path / "in"))
    page.get_by_role("textbox", name="Folder for results").fill(str(tmp_path / "out"))
    page.get_by_text("More options").click()
    page.get_by_label("Video model").select_option("archive-x2")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator(".folder", has_text=str(tmp_path / "in")).get_by_text("with archive-x2").wait_for()

    assert (job["options"]["model"], job["options"]["scale"]) == ("archive-x2", None)
    (folder,) = [folder for folder in maria.send("GET", "/api/folders") if folder["path"] == str(tmp_path / "in")]
    assert folder["model"] == "archive-x2"
    assert faults == []
    maria.send("DELETE", f"/api/folders/{folder['id']}")
    maria.send("DELETE", f"/api/jobs/{job['id']}")
