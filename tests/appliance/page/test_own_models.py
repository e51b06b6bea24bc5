import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.manifest import zoo_folder


def test_a_job_and_a_folder_take_one_of_the_boxs_own_models(
    open_box: Callable[[], Any],
    log_in: Callable[..., Any],
    clip_file: Path,
    tmp_path: Path,
    poll: Callable[..., Any],
    look: Callable[..., list[str]],
) -> None:
    shutil.copytree(zoo_folder() / "light-x2", tmp_path / "zoo" / "archive-x2")
    box = open_box()
    maria = box.set_up()
    maria.send("PATCH", "/api/settings", {"zoo": str(tmp_path / "zoo")})
    box.stop()
    page = log_in(box.start().url)

    page.get_by_text("Choose files").click()
    poll(lambda: page.evaluate("1") and page.choosers)
    page.choosers[0].set_files(clip_file)
    page.get_by_text("96 × 64").first.wait_for()
    page.get_by_text("4×", exact=True).click()
    page.get_by_label("Video model").select_option("archive-x2")
    assert not page.get_by_text("4×", exact=True).is_visible()
    faults = look(page, "own-model-desktop-light", whole=True)
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator(".job").get_by_text("Done").wait_for(timeout=60_000)
    (job,) = maria.enter("/api/login", name="Maria", password="three green lamps").send("GET", "/api/jobs")["jobs"]
    page.locator(".job-title").click()
    page.get_by_text("with archive-x2").first.wait_for()

    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    page.goto(f"{box.url}/#/folders")
    page.get_by_role("button", name="Add watch folder").first.click()
    page.get_by_role("textbox", name="Folder to watch").fill(str(tmp_path / "in"))
    page.get_by_role("textbox", name="Folder for results").fill(str(tmp_path / "out"))
    page.get_by_text("More options").click()
    page.get_by_label("Video model").select_option("archive-x2")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("with archive-x2").wait_for()

    assert (job["options"]["model"], job["options"]["scale"]) == ("archive-x2", None)
    assert [folder["model"] for folder in maria.send("GET", "/api/folders")] == ["archive-x2"]
    assert faults == []
