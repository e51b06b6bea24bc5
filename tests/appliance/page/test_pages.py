"""What all views have in common: focus, Back, addresses, permissions, banners, and languages."""

import re
import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

PASSWORD = "three green lamps"
# Names and values that the German page shows unchanged.
NAMES = re.compile(
    r"(Greta|Ben|Guard|Maria|Nina|Recorder|Relume|English|Deutsch|JSON|none|starttls|tls|cpu|fp16|fp32|int8|openvino|"
    r"DEBUG|INFO|WARNING|ERROR|archive-x2|<.*>|/.*|https?:.*|\S+\.(mp4|mkv|wav|mov)|Café at noon.mp4.*|"
    r".*: (operator|viewer|administrator).*|[\w-]{16} .*)"
)
# What the German report shows as it is: facts of the files, times and checksums.
FACTS = re.compile(
    r"[\d ×.,:/()-]*|.*(yuv|bt709|unspecified|GMT|UTC|[kM]?B|mov,mp4).*|h264|aac|\d+(\.\d+)? s|[0-9a-f]{64}|"
    r"Relume [\d.]+|Café at noon|upscale|bt601|light-x2|speech-mask|fp32|int8|onnxruntime-cpu|openvino"
)
FOCUSED = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"


def test_back_closes_a_dialog_and_leaves_the_page(furnished: Any, log_in: Callable[..., Any], poll: Any) -> None:
    page = log_in(furnished.url)
    page.get_by_role("link", name="Users").click()
    page.get_by_role("button", name="Add user").click()
    dialog = page.get_by_role("dialog", name="Add user")
    dialog.wait_for()

    page.go_back()

    dialog.wait_for(state="detached")
    assert page.get_by_role("heading", name="Users", exact=True).is_visible()
    assert page.url.endswith("#/users")
    page.go_forward()  # back to where the dialog was open: it is gone, so nothing is there
    poll(lambda: page.evaluate("history.state") is None)
    assert page.get_by_role("dialog").count() == 0
    page.go_back()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()


def test_the_way_back_from_a_job_leads_to_the_list_that_it_was_opened_from(
    furnished: Any, log_in: Callable[..., Any]
) -> None:
    page = log_in(furnished.url)
    page.goto(f"{furnished.url}/#/history?state=done")
    page.locator(".job-title", has_text="Café at noon.mp4").first.click()
    page.get_by_role("heading", name="Café at noon.mp4").wait_for()

    page.reload()
    page.locator("a.back", has_text="History").click()

    page.get_by_role("heading", name="History", exact=True).wait_for()
    assert page.url.endswith("#/history?state=done")
    # A job that was opened by its address alone.
    other = log_in(furnished.url, "Ben", f"job/{furnished.job['id']}")
    other.locator("a.back", has_text="Queue").wait_for()


def test_a_dialog_that_was_closed_leaves_nothing_in_the_history(
    furnished: Any, log_in: Callable[..., Any], poll: Any
) -> None:
    page = log_in(furnished.url)
    for close in ("Escape", "Cancel", "Save", "address"):
        page.get_by_role("link", name="Users").click()
        page.get_by_role("button", name="Edit: Ben").click()
        dialog = page.get_by_role("dialog", name="Edit Ben")
        dialog.wait_for()
        poll(lambda: page.evaluate("history.state?.dialogs") == 1)

        if close == "Escape":
            page.keyboard.press("Escape")
        elif close == "address":
            page.evaluate("location.hash = '#/help'")
            page.get_by_role("heading", name="Help", exact=True).wait_for()
            page.go_back()
            page.get_by_role("heading", name="Users", exact=True).wait_for()
        else:
            dialog.get_by_role("button", name=close).click()
        dialog.wait_for(state="detached")

        poll(lambda: page.evaluate("history.state") is None)
        page.go_back()
        page.get_by_role("heading", name="Queue", exact=True).wait_for()


def test_the_focus_follows_a_moved_row_and_moves_on_when_one_leaves(
    furnished: Any, log_in: Callable[..., Any], clip_file: Path, poll: Callable[..., Any]
) -> None:
    maria = furnished.maria
    mark = uuid.uuid4().hex[:8]
    # While the queue is paused none of them begins, so that they can be cancelled at once.
    maria.send("POST", "/api/queue/pause")
    for number in range(3):
        file = maria.upload(clip_file, f"row {number} {mark}.mp4")
        job = maria.send("POST", "/api/jobs", {"file": file, "preset": "upscale"})
        maria.send("POST", f"/api/jobs/{job['id']}/cancel")
    maria.send("POST", "/api/queue/resume")
    page = log_in(furnished.url, at=f"history?text={mark}")
    page.locator(".job").nth(2).wait_for()
    first, second = (page.locator(".job").nth(n).locator(".job-title").inner_text() for n in (0, 1))

    drop = page.get_by_role("button", name=f"Delete: {first}")
    drop.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    poll(lambda: page.evaluate(FOCUSED) == f"Delete: {first}")  # back to where the question came from
    poll(lambda: drop.get_attribute("aria-busy") is None)  # a click works again once the first one has finished

    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("button", name=f"Delete: {first}").wait_for(state="detached")
    poll(lambda: page.evaluate(FOCUSED) == f"Delete: {second}")
    for job in maria.send("GET", f"/api/jobs?text={mark}")["jobs"]:
        maria.send("DELETE", f"/api/jobs/{job['id']}")


def test_a_history_search_is_in_the_address_and_counted_by_the_server(
    furnished: Any, log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    page = log_in(furnished.url, at="history")
    page.get_by_label("Search by name").fill("Café at")
    poll(lambda: "text=Caf%C3%A9+at" in page.evaluate("location.hash"))
    page.get_by_text("Done", exact=True).first.click()
    poll(lambda: "state=done" in page.evaluate("location.hash"))
    page.locator(".job-title").first.click()
    page.locator(".job-name").wait_for()

    page.go_back()

    page.get_by_role("heading", name="History").wait_for()
    assert page.get_by_label("Search by name").input_value() == "Café at"
    assert page.get_by_label("Done", exact=True).is_checked()
    total = len(furnished.maria.send("GET", "/api/jobs?text=Caf%C3%A9%20at&state=done&previews=false")["jobs"])
    page.get_by_text(f"{total} found").wait_for()
    page.get_by_label("Search by name").fill("nothing has this name")
    page.get_by_text("No results.").wait_for()
    page.reload()
    page.get_by_text("No results.").wait_for()


def test_a_page_for_administrators_is_explained_to_others(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Guard")

    for name in ("users", "settings", "folders", "administration"):
        page.goto(f"{furnished.url}/#/{name}")
        page.get_by_role("heading", name="You need an administrator account for this page").wait_for()
        assert page.url.endswith(f"#/{name}")


def test_a_failed_job_says_why_and_offers_what_helps(
    furnished: Any, log_in: Callable[..., Any], clip_file: Path
) -> None:
    maria = furnished.maria
    maria.send("POST", "/api/queue/pause")
    job = maria.send("POST", "/api/jobs", {"file": maria.upload(clip_file, "a b.mp4"), "preset": "upscale"})["id"]
    maria.send("POST", f"/api/jobs/{job}/cancel")
    maria.send("POST", "/api/queue/resume")
    page = log_in(furnished.url)
    kept = furnished.box.data / "results" / job / "a b.unverified.mp4"
    checked = "verification of the finished file failed: 9 frames are missing"
    salvage = "Enhance what can be read"

    for code, message, said, helps in (
        ("source_damaged", "x is damaged", "The file is damaged. Copy it again from the source, or", salvage),
        ("source_unreadable", "x cannot be read", "The file could not be read. Copy or upload it again.", None),
        ("memory", "no memory", "Not enough memory for this job.", "Choose other options"),
        ("disk_full", "the disk is full", "The server’s disk is full. Delete old results", "Delete old results"),
        (
            "unverified",
            f"{checked}; it is kept as {kept}: look at it",
            "The file was kept as a b.unverified.mp4, in",
            "Retry",
        ),
        ("a_new_code", "the words of the server", "The words of the server.", None),
        ("crashed", "", "The job stopped unexpectedly.", None),
    ):
        with sqlite3.connect(furnished.box.data / "relume.db", timeout=30) as database:
            database.execute(
                "UPDATE jobs SET state = 'failed', code = ?, message = ? WHERE id = ?", (code, message, job)
            )
        page.goto(f"{furnished.url}/#/help")
        page.goto(f"{furnished.url}/#/job/{job}")
        note = page.locator(".job-note")
        note.get_by_text(said).wait_for()
        assert str(furnished.box.data) not in note.inner_text()
        assert note.locator(".button").all_inner_texts() == ([] if helps is None else [helps])
        assert page.get_by_role("button", name=salvage).count() == (code == "source_damaged")
        assert page.get_by_role("button", name="Retry").count() == 1

    maria.send("DELETE", f"/api/jobs/{job}")


def test_the_own_password_is_changed_under_the_own_account(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, at="users")
    page.get_by_role("button", name="Edit: Ben").wait_for()
    assert page.get_by_role("button", name="Edit: Maria").count() == 0

    page.get_by_role("table").get_by_role("link", name="Your account").click()

    page.get_by_label("Current password").wait_for()


def test_a_logout_after_inactivity_is_explained(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Ben")
    page.faults.allowed.append("401")
    with sqlite3.connect(furnished.box.data / "relume.db", timeout=30) as database:
        database.execute(
            "UPDATE sessions SET last_seen_at = last_seen_at - 90000 "
            "WHERE user_id = (SELECT id FROM users WHERE name = ?)",
            ("Ben",),
        )

    # A link may be gone before it is clicked: the live updates notice the end of the session too.
    page.evaluate("location.hash = '#/history'")

    page.get_by_text("You were logged out after 24 hours without activity; log in again.").wait_for()


def test_a_view_that_cannot_be_loaded_shows_what_to_do(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url)
    page.faults.allowed += ["ERR_FAILED", "dynamically imported", "Failed to load resource"]
    page.route("**/views/users.js", lambda route: route.abort())

    page.get_by_role("link", name="Users").click()

    page.get_by_role("heading", name="This page could not be loaded").wait_for()
    assert page.get_by_text("Relume cannot be reached. Check the network connection, then try again.").is_visible()
    assert page.get_by_text("dynamically imported").count() == 0


def test_a_disk_that_is_nearly_full_is_reported_on_every_page(
    furnished: Any, log_in: Callable[..., Any], poll: Any
) -> None:
    page = log_in(furnished.url, "Ben")
    for free, said in (
        (6_000_000_000, "Disk space is low: 6 GB free, 5 GB of it reserved (Settings, Disk reserve)."),
        (4_000_000_000, "The disk is full: 4 GB free, all of it reserved"),
    ):

        def is_told(free: int = free, said: str = said) -> bool:
            # The server reports its disk every few seconds, which removes the banner again.
            text, links = page.evaluate(
                """async (free) => {
                  const main = document.querySelector('script[type=module]').src;
                  const { dispatchForTest } = await import(main.replace('main.js', 'live.js'));
                  dispatchForTest('system', { disk: { free, total: 9e11, reserve: 5e9 }, load: 1, cores: 2 });
                  const links = [...document.querySelectorAll('a[href="#/history?state=done"]')];
                  return [document.body.innerText, links.map((link) => link.innerText)];
                }""",
                free,
            )
            return said in text and "Delete old results" in links

        poll(is_told)


def test_a_folder_is_chosen_by_browsing_and_one_for_results_is_created_on_request(
    furnished: Any, log_in: Callable[..., Any], tmp_path: Path, look: Callable[..., list[str]]
) -> None:
    (tmp_path / "recordings" / "north").mkdir(parents=True)
    page = log_in(furnished.url, at="folders")
    page.faults.allowed.append("422")
    page.get_by_role("button", name="Add watch folder").first.click()
    page.get_by_role("textbox", name="Folder to watch").fill(str(tmp_path))
    page.get_by_role("button", name="Browse: Folder to watch").click()
    picker = page.get_by_role("dialog", name="Folder to watch")
    picker.get_by_role("button", name="recordings").click()
    picker.get_by_role("button", name="north").wait_for()
    faults = look(page, "folder-picker-light")
    picker.get_by_role("button", name="Choose this folder").click()
    expect(page.get_by_role("textbox", name="Folder to watch")).to_have_value(str(tmp_path / "recordings"))

    dialog = page.get_by_role("dialog", name="Add watch folder")
    dialog.get_by_role("textbox", name="Folder for results").fill("/proc/results")
    dialog.get_by_role("button", name="Add", exact=True).click()
    dialog.locator(".field-error").get_by_text("belongs to the system").or_(
        page.get_by_role("dialog", name="This folder does not exist")
    ).wait_for()
    if page.get_by_role("dialog", name="This folder does not exist").count():
        page.get_by_role("dialog", name="This folder does not exist").get_by_role("button", name="Cancel").click()
    dialog.get_by_role("textbox", name="Folder for results").fill(str(tmp_path / "better"))
    dialog.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("dialog", name="This folder does not exist").get_by_role("button", name="Create").click()
    page.get_by_text("Watching the folder.").wait_for()
    card = page.locator(".folder", has_text=str(tmp_path / "recordings"))
    card.get_by_text("Done today").wait_for()
    assert card.locator(".tally").all_inner_texts() == ["Waiting\n0", "Processing\n0", "Done today\n0", "Failed\n0"]
    assert faults + look(page, "folders-live-light", whole=True) == []

    # Live: a file that cannot be read appears without reloading the page.
    (tmp_path / "recordings" / "broken.mp4").write_bytes(b"no video at all")
    for folder in furnished.maria.send("GET", "/api/folders"):
        if folder["path"] == str(tmp_path / "recordings"):
            furnished.maria.send("DELETE", f"/api/folders/{folder['id']}")


def test_a_first_password_is_changed_in_the_browser(
    furnished: Any, open_page: Callable[..., Any], look: Callable[..., list[str]]
) -> None:
    furnished.maria.send(
        "POST", "/api/users", {"name": "Nina", "role": "operator", "password": "first password", "must_change": True}
    )
    page = open_page(furnished.url)
    page.get_by_label("Name").fill("Nina")
    page.get_by_label("Password", exact=True).fill("first password")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Change your password").wait_for()
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        assert look(page, f"first-password-{theme}") == []
    page.get_by_label("Current password").fill("first password")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("Confirm password").fill(PASSWORD)
    page.get_by_role("button", name="Change password").click()
    page.get_by_role("heading", name="Queue", exact=True).wait_for()


def test_the_question_mark_lists_the_shortcuts(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Ben")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    dialog.get_by_text("Play or pause").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")

    page.goto(f"{furnished.url}/#/history")
    page.get_by_label("Search by name").press_sequentially("what?")
    assert page.get_by_role("dialog").count() == 0


def test_the_title_of_the_tab_shows_the_progress_of_the_running_job(
    furnished: Any, log_in: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    page = log_in(furnished.url)
    job = {**furnished.job, "state": "running", "frames_done": 42, "frames_total": 100, "revision": 10**9}
    page.evaluate(
        """async (job) => {
          const main = document.querySelector('script[type=module]').src;
          (await import(main.replace('main.js', 'live.js'))).dispatchForTest('job', job);
        }""",
        job,
    )
    poll(lambda: page.title() == "42% · Queue · Relume")
    page.get_by_role("link", name="System").click()
    page.get_by_role("heading", name="System").wait_for()
    assert page.title() == "42% · System · Relume"


def test_the_page_is_german_for_a_user_who_chose_it(
    furnished: Any, log_in: Callable[..., Any], look: Callable[..., list[str]], poll: Callable[..., Any]
) -> None:
    furnished.maria.send("POST", "/api/users", {"name": "Greta", "role": "administrator", "password": PASSWORD})
    page = log_in(furnished.url, "Greta", "account")
    page.get_by_label("Language").select_option("de")

    page.get_by_role("heading", name="Ihr Konto").wait_for()
    assert page.evaluate("document.documentElement.lang") == "de"
    poll(lambda: page.title() == "Ihr Konto · Relume")
    faults = look(page, "account-german", whole=True)
    for view, heading in (
        ("", "Warteschlange"), ("history", "Verlauf"), ("folders", "Überwachte Ordner"), ("users", "Benutzer"),
        ("settings", "Einstellungen"), ("administration", "Verwaltung"), ("help", "Hilfe"), ("start", "Willkommen"),
    ):  # fmt: skip
        page.goto(f"{furnished.url}/#/{view}")
        page.get_by_role("heading", name=heading, exact=True).wait_for()
        faults += look(page, f"{view or 'queue'}-german", check=False)
    # Text entered by users stays unchanged.
    page.goto(f"{furnished.url}/#/history")
    page.locator(".job-title", has_text="Café at noon.mp4").first.wait_for()
    assert page.locator(".state-done").first.inner_text() == "Fertig"
    assert faults == []
    left = page.evaluate(
        """async () => {
          const main = document.querySelector('script[type=module]').src;
          return (await import(main.replace('main.js', 'language.js'))).untranslated();
        }"""
    )
    assert [text for text in left if not NAMES.fullmatch(text)] == []

    # The report for printing, with the same frame before and after.
    page.goto(f"{furnished.url}/api/jobs/{furnished.job['id']}/report/page")
    page.get_by_role("heading", name="Zusammenfassung").wait_for()
    assert page.get_by_role("heading", name="Café at noon.mp4").is_visible()
    poll(lambda: page.title() == "Café at noon - Bericht")
    sizes = page.eval_on_selector_all(".stills img", "images => images.map((image) => image.naturalWidth)")
    assert len(sizes) == 2
    assert min(sizes) > 0
    left = page.evaluate("import('/page/js/language.js').then(({ untranslated }) => untranslated())")
    look(page, "report-german", whole=True, check=False)
    assert [text for text in left if not FACTS.fullmatch(text)] == []

    # Another user's page stays English.
    other = log_in(furnished.url, "Guard")
    assert other.evaluate("document.documentElement.lang") == "en"
