import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TUS = Path(__file__).resolve().parents[3] / "appliance" / "web" / "page" / "js" / "tus.js"
WHOLE_PIECE = "8 * 1024 * 1024"
PIECE = 128 * 1024


@pytest.fixture
def large_file(clip_file: Path, tmp_path: Path) -> Path:
    """A real clip of three pieces, padded with an empty box at its end."""
    path, padding = tmp_path / "Long take.mp4", 2 * PIECE
    path.write_bytes(clip_file.read_bytes() + (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding))
    return path


@pytest.fixture
def ben_in_pieces(furnished: Any, log_in: Callable[..., Any]) -> Any:
    """Open the queue for Ben with a page that sends small pieces: large ones take seconds to reach a test."""
    # A separate browser profile for the changes made here.
    page = log_in(furnished.url, "Ben", "help", service_workers="block")
    source = TUS.read_text(encoding="utf-8")
    assert WHOLE_PIECE in source
    source = source.replace(WHOLE_PIECE, str(PIECE))
    page.route("**/js/tus.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    page.goto(f"{furnished.url}/#/")
    page.reload()
    page.locator(".drop-zone").wait_for()
    return page


def count_pieces(page: Any, sent: list[int], *, cut_from: int | None = None) -> None:
    def handle(route: Any) -> None:
        request = route.request
        if request.method == "PATCH":
            offset = int(request.headers["upload-offset"])
            if cut_from is not None and offset >= cut_from:
                route.abort("connectionreset")
                return
            sent.append(offset)
        elif cut_from is not None and sent and request.method == "HEAD":
            route.abort("connectionreset")
            return
        route.continue_()

    # The newest handler comes first. Without any for a moment, a retry would get through without being counted.
    page.route("**/api/uploads/*", handle)
    before, page.counting = getattr(page, "counting", None), handle
    if before is not None:
        page.unroute("**/api/uploads/*", before)


def wait_for_pieces(page: Any, sent: list[int], expected: list[int]) -> None:
    """Wait until these pieces were sent; a file that another test left behind may be listed already."""
    deadline = time.monotonic() + 40
    while len(sent) < len(expected) and time.monotonic() < deadline:
        page.wait_for_timeout(50)  # the handlers of routes run meanwhile
    assert sent == expected


def drop(page: Any, file: Path) -> None:
    page.locator("#chooser").set_input_files(file)


def test_an_upload_resumes_where_the_connection_was_lost(ben_in_pieces: Any, large_file: Path) -> None:
    page = ben_in_pieces
    page.faults.allowed.append("ERR_CONNECTION_RESET")
    sent: list[int] = []
    count_pieces(page, sent, cut_from=PIECE)
    drop(page, large_file)

    page.get_by_text(re.compile("Connection lost at .* Upload will resume automatically")).wait_for()
    assert sent == [0]
    count_pieces(page, sent)
    wait_for_pieces(page, sent, [0, PIECE, 2 * PIECE])
    page.locator(".file-facts").get_by_text("96 × 64").first.wait_for()

    assert sent == [0, PIECE, 2 * PIECE]
    remove_all(page)


def test_an_upload_continues_after_the_page_was_loaded_again(
    furnished: Any, ben_in_pieces: Any, large_file: Path
) -> None:
    page = ben_in_pieces
    page.faults.allowed.append("ERR_CONNECTION_RESET")
    sent: list[int] = []
    count_pieces(page, sent, cut_from=PIECE)
    drop(page, large_file)
    page.get_by_text("Connection lost at").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    # The page is left while nothing gets through: its retries would otherwise be counted too.
    page.goto("about:blank")
    page.unroute("**/api/uploads/*")
    page.goto(furnished.url)

    page.get_by_role("heading", name="Unfinished uploads").wait_for()
    page.get_by_text(re.compile(r"^4\d% of \d+ kB uploaded$")).wait_for()
    count_pieces(page, sent)
    drop(page, large_file)
    wait_for_pieces(page, sent, [0, PIECE, 2 * PIECE])
    page.locator(".file-facts").get_by_text("96 × 64").first.wait_for()

    assert not page.get_by_role("heading", name="Unfinished uploads").is_visible()
    remove_all(page)


def test_files_that_cannot_be_enhanced_are_named_with_what_to_do(
    furnished: Any, log_in: Callable[..., Any], tmp_path: Path
) -> None:
    page = log_in(furnished.url, "Ben")
    empty, text = tmp_path / "still copying.mp4", tmp_path / "<i>holiday.mp4"
    empty.touch()
    text.write_text("not a film " * 100)

    page.locator("#chooser").set_input_files([empty, text])

    page.get_by_text("“still copying.mp4” is empty").wait_for()
    page.get_by_text("1 uploaded file").wait_for(state="hidden")
    page.goto(furnished.url + "/#/new")
    page.get_by_text("1 file cannot be used").wait_for()
    assert page.get_by_role("button", name="Start").count() == 0
    remove_all(page)


def test_files_can_be_dropped_anywhere_on_the_queue(
    furnished: Any, log_in: Callable[..., Any], clip_file: Path
) -> None:
    page = log_in(furnished.url, "Ben")
    page.locator(".drop-zone").wait_for()
    content = clip_file.read_bytes().hex()

    page.evaluate(
        """([hex, name]) => {
            const bytes = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, { type: "video/mp4" }));
            const send = (type) => document.body.dispatchEvent(
                new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
            send("dragenter");
            if (!document.body.classList.contains("dropping")) throw new Error("nothing shows where files go");
            send("drop");
        }""",
        [content, "dropped.mp4"],
    )

    page.get_by_role("heading", name="New job").wait_for()
    page.get_by_text("dropped.mp4", exact=True).first.wait_for()
    page.locator(".file-facts").get_by_text("96 × 64").wait_for()
    remove_all(page)


def test_a_removed_file_is_kept_when_that_is_undone(
    furnished: Any, log_in: Callable[..., Any], clip_file: Path, poll: Callable[..., Any]
) -> None:
    page = log_in(furnished.url, "Ben", fresh=True)
    drop(page, clip_file)
    page.locator(".file-facts").get_by_text("96 × 64").wait_for()

    page.get_by_role("button", name="Remove: Café at noon.mp4").click()
    page.locator(".file").wait_for(state="detached")
    assert page.evaluate("document.activeElement !== document.body"), "the focus is not lost"
    assert [file["name"] for file in files_of(page)] == ["Café at noon.mp4"], "nothing is deleted yet"
    page.get_by_role("button", name="Undo").click()
    page.locator(".file-facts").get_by_text("96 × 64").wait_for()

    page.clock.install()
    page.get_by_role("button", name="Remove: Café at noon.mp4").click()
    page.clock.fast_forward(11_000)
    poll(lambda: files_of(page) == [])
    assert page.get_by_role("button", name="Undo").count() == 0


def files_of(page: Any) -> Any:
    return page.evaluate("fetch('/api/files').then((answer) => answer.json())")


def test_an_upload_shows_its_speed_and_the_time_left(ben_in_pieces: Any, large_file: Path) -> None:
    page = ben_in_pieces
    network = page.context.new_cdp_session(page)
    network.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 60_000},
    )
    drop(page, large_file)

    page.get_by_text(re.compile(r"\d+% · \d+ kB of \d+ kB · [\d.]+ .B/s · (less than|about) .* left")).wait_for()
    page.get_by_role("button", name="Remove: Long take.mp4").click()
    network.detach()
    remove_all(page)


def test_refused_files_are_listed_and_can_be_closed(
    furnished: Any, log_in: Callable[..., Any], tmp_path: Path, look: Callable[..., list[str]]
) -> None:
    page = log_in(furnished.url, "Ben", width=390, height=844)
    names = [f"{'a very long name ' * 5}{number}.mp4" for number in range(2)]
    for name in names:
        (tmp_path / name).touch()

    page.locator("#chooser").set_input_files([tmp_path / name for name in names])

    box = page.locator(".refused")
    assert box.locator("p").all_inner_texts() == [
        f"“{name}” is empty. It may still have been copying. Check the file and add it again." for name in names
    ]
    icon, text = (box.locator(part).bounding_box() for part in ("svg >> nth=0", ".refused-text"))
    assert icon["x"] + icon["width"] < text["x"], "the icon is beside the text"
    assert look(page, "refused-phone-light") == []
    box.get_by_role("button", name="Close this message").click()
    box.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "chooser"


def remove_all(page: Any) -> None:
    page.evaluate(
        """async () => {
            const { csrf } = await fetch("/api/session").then((answer) => answer.json());
            for (const { id } of await fetch("/api/files").then((answer) => answer.json()))
                await fetch(`/api/uploads/${id}`, { method: "DELETE", headers: { "X-CSRF-Token": csrf } });
        }"""
    )
    assert files_of(page) == []
