"""Accounts, settings, watch folders, the audit log, the system page and the figures, through the API."""

import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.jobs.job import NewJob, Origin
from appliance.settings_file import load_settings
from appliance.watch.file_state import FileState, WatchedFile
from appliance.watch.folder import FolderConfig
from appliance.web.system import highest_temperature, read_tail
from appliance.web.tls import provide_certificate
from runtime.options import EnhanceOptions

PASSWORD = "correct horse battery"


def test_accounts_are_made_changed_and_removed(admin, nobody):
    made = admin.post("/api/users", {"name": "Ben", "password": PASSWORD, "role": "viewer"})
    ben = made.json()

    assert (made.status_code, ben["role"], ben["enabled"], ben["last_seen_at"]) == (201, "viewer", True, None)
    assert "password" not in made.text
    assert admin.patch(f"/api/users/{ben['id']}", {"role": "operator"}).json()["role"] == "operator"
    assert admin.patch(f"/api/users/{ben['id']}", {"password": "another good one"}).status_code == 200
    assert nobody.post("/api/login", {"name": "ben", "password": "another good one"}).status_code == 200
    assert admin.patch(f"/api/users/{ben['id']}", {"enabled": False}).json()["enabled"] is False
    assert {user["name"] for user in admin.get("/api/users").json()} == {"Anna", "Ben"}
    assert admin.delete(f"/api/users/{ben['id']}").status_code == 204
    assert admin.patch(f"/api/users/{ben['id']}", {"enabled": True}).status_code == 404


def test_the_last_administrator_stays(admin):
    for answer in (
        admin.delete(f"/api/users/{admin.user.id}"),
        admin.patch(f"/api/users/{admin.user.id}", {"role": "viewer"}),
        admin.patch(f"/api/users/{admin.user.id}", {"enabled": False}),
    ):
        assert answer.status_code == 422
        assert "last administrator" in answer.json()["error"]["message"]


def test_removing_an_account_removes_its_waiting_files(admin, operator, services):
    operator.begin_upload("a.mp4", 10)
    assert len(list(services.settings.uploads.iterdir())) == 1

    admin.delete(f"/api/users/{operator.user.id}")

    assert list(services.settings.uploads.iterdir()) == []


def test_the_audit_log_pages(admin):
    admin.post("/api/users", {"name": "Ben", "password": PASSWORD, "role": "viewer"})

    page = admin.get("/api/audit?limit=1").json()
    rest = admin.get("/api/audit?limit=1&offset=1").json()

    assert (page["total"], len(page["entries"])) == (2, 1)
    assert (page["entries"][0]["what"], page["entries"][0]["who"]) == ("user_added", "Anna")
    assert page["entries"][0]["id"] > rest["entries"][0]["id"]


def test_settings_are_shown_with_what_a_form_needs(admin):
    body = admin.get("/api/settings").json()

    assert body["values"]["upload_limit_gib"] == 200.0  # the file has none, the test's own start has
    assert set(body["values"]) == set(body["schema"]["properties"]) == set(body["restart"])
    assert "data" not in body["values"]
    for name, part in body["schema"]["properties"].items():
        assert part["title"], name
        assert part["description"], name
    port = body["schema"]["properties"]["port"]
    assert (port["minimum"], port["maximum"]) == (1, 65535)


def test_changed_settings_are_saved_and_count_from_the_next_start(admin, services):
    answer = admin.patch("/api/settings", {"upload_days": 3, "host_names": ["Box.Studio.example"]})

    assert answer.status_code == 200
    assert answer.json()["values"]["upload_days"] == 3
    assert {"upload_days", "host_names"} <= set(answer.json()["pending"])
    assert services.settings.upload_days == 7
    saved = load_settings(services.settings.data)
    assert (saved.upload_days, saved.host_names) == (3, ("box.studio.example",))
    admin.patch("/api/settings", {"upload_days": None})
    assert load_settings(services.settings.data).upload_days == 7


@pytest.mark.parametrize(
    "change",
    [{"port": 0}, {"nothing": 1}, {"data": "/tmp/x"}, {"host_names": ["a/b"]}, {"tls_key": "/x"}, {"port": "x"}],
)
def test_a_setting_that_cannot_be_is_refused_and_nothing_is_saved(admin, services, change):
    answer = admin.patch("/api/settings", {"upload_days": 3, **change})

    assert answer.status_code == 422
    assert next(iter(change)).split("_")[0] in answer.json()["error"]["message"].lower()
    assert not (services.settings.data / "relume.toml").exists()


def test_watch_folders_are_added_changed_and_removed(admin, tmp_path: Path, services):
    (tmp_path / "in").mkdir()
    body = {
        "path": str(tmp_path / "in"),
        "destination": str(tmp_path / "out"),
        "preset": "surveillance",
        "schedule": {"from": "22:00", "to": "06:00"},
        "include": ["*.mp4"],
    }
    made = admin.post("/api/folders", body)

    folder = made.json()
    assert made.status_code == 201, made.text
    assert {name: folder[name] for name in body} == body
    assert (folder["enabled"], folder["polling"], folder["problems"]) == (True, False, [])
    assert folder["activity"] == {
        "waiting": 0, "working": 0, "done_today": 0, "failed": 0, "last_file": None, "last_at": None,
        "passed_over": 0, "passed_over_names": [],
    }  # fmt: skip
    changed = admin.patch(f"/api/folders/{folder['id']}", {"enabled": False, "schedule": None, "strength": 0.5}).json()
    assert changed == {**folder, "enabled": False, "schedule": None, "strength": 0.5}
    assert admin.get("/api/folders").json() == [changed]
    assert admin.delete(f"/api/folders/{folder['id']}").status_code == 204
    assert admin.get("/api/folders").json() == []
    assert admin.delete(f"/api/folders/{folder['id']}").status_code == 404
    assert services.audit.list()[0][0].what == "folder_removed"


@pytest.mark.parametrize(
    "change",
    [
        {"destination": "IN/inside"},
        {"path": "relative"},
        {"path": "/nowhere/at/all"},
        {"path": "DATA"},
        {"preset": "none"},
        {"schedule": {"from": "25:00", "to": "06:00"}},
        {"hold_s": -1},
        {"include": [""]},
        {"unknown": 1},
    ],
)
def test_a_folder_that_cannot_be_watched_is_refused(admin, tmp_path: Path, settings, change):
    (tmp_path / "in").mkdir()
    places = {"IN": str(tmp_path / "in"), "DATA": str(settings.data)}
    change = {
        name: value.replace("IN", places["IN"]).replace("DATA", places["DATA"]) if isinstance(value, str) else value
        for name, value in change.items()
    }
    body = {"path": str(tmp_path / "in"), "destination": str(tmp_path / "out"), **change}

    answer = admin.post("/api/folders", body)

    assert answer.status_code == 422
    assert answer.json()["error"]["message"]
    assert admin.get("/api/folders").json() == []


def test_a_changed_folder_is_checked_as_a_whole(admin, tmp_path: Path):
    (tmp_path / "in").mkdir()
    body = {"path": str(tmp_path / "in"), "destination": str(tmp_path / "out")}
    folder = admin.post("/api/folders", body).json()

    answer = admin.patch(f"/api/folders/{folder['id']}", {"preset": "sound-only", "codec": "h264"})

    assert answer.status_code == 422
    assert admin.get("/api/folders").json() == [folder]


def test_the_system_page_shows_the_log_only_to_administrators(admin, viewer, services):
    services.settings.log_file.parent.mkdir(exist_ok=True)
    services.settings.log_file.write_text("one\ntwo <b>\n")

    full, seen = admin.get("/api/system").json(), viewer.get("/api/system").json()

    assert full["log_tail"] == ["one", "two <b>"]
    assert seen["log_tail"] == []
    assert (full["backend"], full["precision"]) == ("cpu", "fp32")
    assert {engine["name"] for engine in full["engines"]} >= {"light-x2", "speech-mask"}
    assert 0 < full["disk"]["free"] <= full["disk"]["total"]
    assert 0 < full["memory"]["server"] < full["memory"]["total"]


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path):
    path = tmp_path / "relume.log"
    path.write_text("".join(f"line {number:06}\n" for number in range(100_000)))

    lines = read_tail(path)

    assert len(lines) == 200
    assert lines[-1] == "line 099999"
    assert read_tail(tmp_path / "none") == []


def test_the_warmest_sensible_sensor_counts():
    def sensors(*values):
        return {"cpu": [SimpleNamespace(current=value) for value in values]}

    assert highest_temperature(sensors(41.5, 39.0, -274.0, 1e6)) == 41.5
    assert highest_temperature({}) is None


def test_figures_for_prometheus(viewer, add_job, services, operator):
    add_job()
    services.queue.pause(add_job().id)
    operator.send(operator.begin_upload("a.mp4", 10).headers["location"], 0, b"12345")

    answer = viewer.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'relume_jobs{state="queued"} 1.0' in lines
    assert 'relume_jobs{state="paused"} 1.0' in lines
    assert "relume_uploads_coming 1.0" in lines
    assert "relume_upload_bytes_total 5.0" in lines
    assert any(line.startswith("relume_disk_free_bytes ") for line in lines)


def refused(admin, change):
    answer = admin.patch("/api/settings", change)
    assert answer.status_code == 422, answer.text
    return answer.json()["error"]


def test_settings_with_which_the_server_could_not_start_are_not_saved(admin, services, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refused(admin, {"host": "127.0.0.1", "port": port})
    assert (error["field"], error["code"]) == ("port", "setting_refused")
    assert f"cannot listen on port {port}: it is already in use" in error["message"]

    error = refused(admin, {"host": "203.0.113.9"})
    assert (error["field"], "does not have the address 203.0.113.9" in error["message"]) == ("host", True)

    error = refused(admin, {"tls_certificate": "/nix/a.pem", "tls_key": "/nix/a.key"})
    assert (error["field"], "the file /nix/a.pem does not exist" in error["message"]) == ("tls_certificate", True)

    (tmp_path / "a.pem").write_text("no certificate")
    error = refused(admin, {"tls_certificate": str(tmp_path / "a.pem"), "tls_key": str(tmp_path / "a.pem")})
    assert "must be matching PEM files" in error["message"]

    for change, said in (
        ({"zoo": str(tmp_path / "gone")}, "does not exist"),
        ({"backend": "gpu7"}, "unknown backend “gpu7”; this machine has: auto, cpu"),
        ({"device": "gpu 7"}, "enter auto, or a device"),
        ({"device": "gpu:77"}, "this machine has: auto, cpu"),
        ({"device": "cpu,cpu"}, "unknown or repeated device"),
        ({"port": 8443, "plain_port": 8443}, "cannot serve both"),
        ({"port": 99999}, "Port must be between 1 and 65535"),
        ({"prt": 80}, "there is no setting named “prt”; did you mean port?"),
    ):
        error = refused(admin, change)
        assert said in error["message"]
        assert error["field"] == ("" if "prt" in change else [*change][-1])
    assert not (services.settings.data / "relume.toml").exists()


def test_a_good_certificate_and_a_free_port_are_saved(admin, services, tmp_path: Path):
    own = provide_certificate(services.settings)
    (tmp_path / "zoo").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    change = {
        "tls_certificate": str(own.certificate), "tls_key": str(own.key), "port": port, "host": "127.0.0.1",
        "zoo": str(tmp_path / "zoo"), "backend": "cpu",
    }  # fmt: skip
    answer = admin.patch("/api/settings", change)

    assert answer.status_code == 200, answer.text
    assert load_settings(services.settings.data).port == port
    # Stored values are not validated again: another setting can be changed whatever happened to these.
    (tmp_path / "zoo").rmdir()
    assert admin.patch("/api/settings", {"upload_days": 5}).status_code == 200


@pytest.mark.parametrize("place", ["/proc", "/proc/self", "/sys/class", "/dev", "/"])
def test_no_place_of_the_system_is_watched_or_written_to(admin, tmp_path: Path, place: str):
    (tmp_path / "in").mkdir()
    watched = admin.post("/api/folders", {"path": place, "destination": str(tmp_path / "out")})
    written = admin.post("/api/folders", {"path": str(tmp_path / "in"), "destination": place})

    for answer, field in ((watched, "path"), (written, "destination")):
        error = answer.json()["error"]
        assert (answer.status_code, error["field"]) == (422, field)
        assert "belongs to the system; choose another folder" in error["message"]


def test_a_folder_for_results_that_is_not_there_is_only_created_when_that_is_meant(admin, tmp_path: Path):
    (tmp_path / "in").mkdir()
    body = {"path": str(tmp_path / "in"), "destination": str(tmp_path / "tpyo")}

    refused = admin.post("/api/folders", {**body, "create": False})

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["field"]) == (422, "folder_missing", "destination")
    assert not (tmp_path / "tpyo").exists()
    assert admin.get("/api/folders").json() == []
    assert admin.post("/api/folders", {**body, "create": True}).status_code == 201


def test_folders_of_the_server_are_listed_for_choosing(admin, operator, tmp_path: Path):
    for name in ("Recordings", "archive", ".hidden", "data"):
        (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / "film.mp4").touch()

    found = admin.get("/api/folders/places", params={"path": str(tmp_path)}).json()

    assert [place["name"] for place in found["folders"]] == ["archive", "Recordings"], "not Relume's own data"
    assert (found["parent"], found["writable"], found["more"]) == (str(tmp_path.parent), True, False)
    root = admin.get("/api/folders/places").json()
    assert (root["parent"], "proc" in [place["name"] for place in root["folders"]]) == (None, False)
    for path in ("relative", "/proc", str(tmp_path / "gone")):
        assert admin.get("/api/folders/places", params={"path": path}).status_code == 422
    assert operator.get("/api/folders/places").status_code == 403


def test_jobs_name_their_watch_folder_and_are_found_by_it(admin, viewer, tmp_path: Path, services, add_job):
    (tmp_path / "recorder").mkdir()
    folder = services.folders.add(FolderConfig(tmp_path / "recorder", tmp_path / "out"))
    add_job()
    new = NewJob(tmp_path / "recorder/a.mp4", "a.mp4", EnhanceOptions(), origin=Origin.WATCH, folder=folder.id)
    job = services.queue.add(new)

    assert [(one["id"], one["folder_name"]) for one in viewer.get(f"/api/jobs?folder={folder.id}").json()["jobs"]] == [
        (job.id, "recorder")
    ]
    assert len(viewer.get("/api/jobs").json()["jobs"]) == 2
    assert admin.get("/api/folders").json()[0]["activity"]["waiting"] == 1
    services.folders.remove(folder.id)
    assert viewer.get(f"/api/jobs/{job.id}").json()["folder_name"] is None


def test_files_that_failed_are_retried_or_ignored(admin, tmp_path: Path, services):
    (tmp_path / "in").mkdir()
    folder = services.folders.add(FolderConfig(tmp_path / "in", tmp_path / "out"))
    for name in ("a.mp4", "b.mp4"):
        broken = WatchedFile(name, 1, 1, FileState.FAILED, reason="damaged", tries=4)
        services.folders.files(folder.id).put(broken)

    ignored = admin.post(f"/api/folders/{folder.id}/ignore", {"file": "a.mp4"})
    retried = admin.post(f"/api/folders/{folder.id}/retry", {})

    assert [problem["file"] for problem in ignored.json()["problems"]] == ["b.mp4"]
    assert retried.status_code == 200
    (retry,) = services.folders.files(folder.id).files(FileState.FAILED)
    assert (retry.name, retry.retry_at is not None) == ("b.mp4", True)
    again = admin.post(f"/api/folders/{folder.id}/ignore", {"file": "a.mp4"})
    assert (again.status_code, again.json()["error"]["field"]) == (422, "file")
    assert admin.post("/api/folders/none/retry", {}).status_code == 404


def test_the_password_of_the_mail_server_is_saved_and_never_shown(admin, services):
    answer = admin.patch("/api/settings", {"smtp_password": "a secret of the mail server"})

    assert answer.status_code == 200
    assert "a secret of the mail server" not in answer.text + admin.get("/api/settings").text
    assert "smtp_password" in answer.json()["pending"]
    assert load_settings(services.settings.data).smtp_password == "a secret of the mail server"
    admin.patch("/api/settings", {"upload_days": 5})
    assert load_settings(services.settings.data).smtp_password == "a secret of the mail server"
