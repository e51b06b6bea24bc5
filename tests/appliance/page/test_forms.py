"""Forms: errors are shown at the field, in view, and nobody is thrown out of a page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_wrong_current_password_is_reported_at_its_field(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, "Ben", "account")
    page.faults.allowed.append("422")
    page.get_by_label("Current password").fill("not the right one")
    page.get_by_label("New password").fill("another good password")
    page.get_by_role("button", name="Change password").click()

    page.get_by_text("The current password is wrong.").wait_for()
    field = page.get_by_label("Current password")
    assert page.get_by_role("heading", name="Your account").is_visible()
    assert field.get_attribute("aria-invalid") == "true"
    assert field.evaluate("field => field === document.activeElement")
    described = field.get_attribute("aria-describedby").split()[0]
    assert page.locator(f"#{described}").inner_text() == "The current password is wrong."
    field.fill("now it is being typed again")
    assert field.get_attribute("aria-invalid") is None
    assert page.locator(".field-error").count() == 0


def test_an_invalid_setting_is_reported_at_the_field_and_next_to_save(
    furnished: Any, log_in: Callable[..., Any]
) -> None:
    page = log_in(furnished.url, at="settings")
    page.faults.allowed.append("422")
    for label, typed, said in (
        ("HTTP port", "99999", "HTTP port must be between 0 and 65535."),
        ("Certificate", "/nix/a.pem", "set both the certificate and its key, or neither"),
        ("Own models", "/no/such/folder", "the folder /no/such/folder does not exist"),
    ):
        page.get_by_text("No changes", exact=True).wait_for()
        page.get_by_label(label, exact=True).fill(typed)
        page.get_by_text("Unsaved changes").wait_for()
        page.get_by_role("button", name="Save").click()

        fault = page.locator(".field-error")
        fault.wait_for()
        assert said.casefold() in fault.inner_text().casefold()
        assert said.casefold() in page.locator(".form-end .error-box").inner_text().casefold()
        for shown in (fault, page.locator(".form-end .error-box")):
            box = shown.bounding_box()
            assert 0 <= box["y"] < box["y"] + box["height"] <= 800, "in view"
        assert page.get_by_label(label, exact=True).get_attribute("aria-invalid") == "true"
        page.get_by_role("button", name="Discard").click()


def test_settings_are_grouped_and_show_what_overrides_them(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, at="settings")
    page.get_by_text("No changes").wait_for()

    assert page.locator(".schema > .schema-fields").count() == 0, "no setting is without a group"
    assert "Other" not in page.locator(".schema legend").all_inner_texts()
    port = page.get_by_label("Port", exact=True)
    assert (port.is_disabled(), port.input_value()) == (True, furnished.url.rpartition(":")[2])
    assert page.locator(".field", has=port).get_by_text("Set by the command line.").is_visible()
    assert page.get_by_text("Set by the environment.").count() == 1  # RELUME_ANNOUNCE
    assert "cpu" in page.get_by_label("Backend", exact=True).locator("option").all_inner_texts()


def test_a_long_name_makes_no_list_wider_than_the_page(furnished: Any, log_in: Callable[..., Any]) -> None:
    page = log_in(furnished.url, at="help")
    name = "A-recording-of-the-north-entrance-with-a-name-of-ninety-characters-that-has-no-spaces-.mp4"
    assert len(name) == 90
    path = f"/srv/recordings/{name}"
    job = {**furnished.job, "title": name, "state": "failed", "message": f"{path} cannot be read; try {path}"}
    waiting = {**job, "id": "q" * 16, "state": "queued", "message": "", "has": {}}
    answer = {"counts": dict.fromkeys(("queued", "running", "paused", "done", "failed", "cancelled"), 0)}
    page.route(
        "**/api/jobs?**",
        lambda route: route.fulfill(
            json={**answer, "revision": 1, "jobs": [waiting if "state=queued" in route.request.url else job]}
        ),
    )
    page.route(f"**/api/jobs/{job['id']}", lambda route: route.fulfill(json=job))
    for view in ("history", "", f"job/{job['id']}"):
        page.goto(f"{furnished.url}/#/{view}")
        shown = ".job-note p" if "/" in view else ".job"
        page.locator(f'main[data-view="{view.partition("/")[0] or "queue"}"] {shown}').first.wait_for()
        for width in (320, 390, 900, 1024):
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate(
                """() => {
                  const right = (box) => Math.ceil(box.getBoundingClientRect().right);
                  const parts = '.jobs, .job, .job-main, .job-title, .job-message, .job-name, .job-note';
                  return [document.documentElement.scrollWidth - document.documentElement.clientWidth,
                    ...[...document.querySelectorAll(parts)].map(
                      (part) => right(part) - right(document.querySelector('main')))];
                }"""
            )
            assert max(wide) <= 0, (view, width, wide)
            overlaps = page.evaluate(
                """() => [...document.querySelectorAll('.job')].flatMap((job) => {
                  const side = job.querySelector('.job-side').getBoundingClientRect();
                  return [...job.querySelectorAll('.job-message, .job-facts, .job-title')].filter((text) => {
                    const box = text.getBoundingClientRect();
                    return box.width && side.width && box.right > side.left + 1 && box.left < side.right - 1
                      && box.bottom > side.top + 1 && box.top < side.bottom - 1;
                  }).map((text) => text.className);
                })"""
            )
            assert overlaps == [], (view, width)


def test_presets_leave_and_come_back_as_a_file(
    furnished: Any, log_in: Callable[..., Any], look: Callable[..., list[str]], tmp_path: Path
) -> None:
    furnished.ben.send("POST", "/api/own-presets", {"name": "Old tapes", "choices": {"preset": "restore"}})
    page = log_in(furnished.url, "Ben", "account")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Export").click()
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    for preset in furnished.ben.send("GET", "/api/own-presets"):
        furnished.ben.send("DELETE", f"/api/own-presets/{preset['id']}")

    page.get_by_label("File of presets").set_input_files(file)
    page.get_by_text("1 preset imported.").wait_for()
    assert look(page, "account-presets", whole=True) == []
    (preset,) = furnished.ben.send("GET", "/api/own-presets")
    (tmp_path / "other.json").write_text("[]")
    page.get_by_label("File of presets").set_input_files(tmp_path / "other.json")
    page.get_by_text("This is not a file of presets.").wait_for()

    assert (file.name, preset["name"]) == ("relume-presets.json", "Old tapes")
    furnished.ben.send("DELETE", f"/api/own-presets/{preset['id']}")
