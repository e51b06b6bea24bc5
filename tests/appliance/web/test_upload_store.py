import base64
import io
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from appliance.accounts.audit import COMMAND_LINE
from appliance.accounts.principal import Role
from appliance.settings_file import load_settings
from appliance.store.database import Database
from appliance.watch.errors import UnreadableError
from appliance.watch.integrity import check_media
from appliance.web import upload_writer
from appliance.web.services import open_services
from appliance.web.upload_probe import ProbeQueue
from runtime.options import EnhanceOptions

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


def offset(person, place):
    answer = person.request("HEAD", place, headers=TUS)
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def wait_for(question, *, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come true in time")


def test_the_server_declares_which_uploads_it_accepts(operator, settings):
    headers = operator.request("OPTIONS", "/api/uploads").headers

    assert headers["tus-version"] == "1.0.0"
    assert headers["tus-extension"] == "creation,termination"
    assert int(headers["tus-max-size"]) == settings.upload_limit_bytes


def test_a_file_arrives_in_parts_and_is_checked(operator, write_clip, tmp_path, stored):
    content = write_clip(tmp_path / "clip.mp4").read_bytes()
    begun = operator.begin_upload("holiday.mp4", len(content))
    place = begun.headers["location"]
    assert (begun.status_code, begun.headers["tus-resumable"], offset(operator, place)) == (201, "1.0.0", 0)

    for start in range(0, len(content), 5000):
        answer = operator.send(place, start, content[start : start + 5000])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(min(start + 5000, len(content))))

    file = operator.checked(place.rpartition("/")[2])
    assert file["name"] == "holiday.mp4"
    assert file["error"] is None
    assert (file["probe"]["width"], file["probe"]["height"], file["probe"]["frames"]) == (64, 48, 12)
    assert file["probe"]["damage"] is None
    assert (file["probe"]["fps"], file["probe"]["has_sound"], file["probe"]["codec"]) == (25.0, True, "h264")
    assert stored(file["id"]).read_bytes() == content


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Upload-Offset": "1"}, 409),
        ({"Upload-Offset": "-1"}, 422),
        ({"Upload-Offset": "x"}, 422),
        ({"Upload-Offset": None}, 400),
        ({"Content-Type": "application/json"}, 415),
        ({"Tus-Resumable": "0.2.2"}, 412),
    ],
)
def test_bytes_with_wrong_headers_are_refused_and_change_nothing(operator, change, status):
    place = operator.begin_upload("a.mp4", 10).headers["location"]
    headers = {name: value for name, value in {**BYTES, "Upload-Offset": "0", **change}.items() if value is not None}

    answer = operator.patch(place, content=b"12345", headers=headers)

    assert answer.status_code == status
    assert offset(operator, place) == 0


@pytest.mark.parametrize("length", ["0", "-5", "x", None, "9" * 30, str(1 << 40)])
def test_a_length_that_cannot_be_is_refused(operator, services, length):
    headers = TUS if length is None else {**TUS, "Upload-Length": length}

    answer = operator.post("/api/uploads", headers=headers)

    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]["message"]
    assert list(services.settings.uploads.iterdir()) == []


def test_a_file_over_the_limit_is_refused_with_its_size(operator):
    answer = operator.begin_upload("film.mov", 11 * 1024**2)

    assert answer.status_code == 413
    assert "11.5 MB" in answer.json()["error"]["message"]
    assert "the limit is 10.7 MB" in answer.json()["error"]["message"]


def test_what_comes_beyond_the_announced_size_is_cut_off(operator, stored):
    place = operator.begin_upload("a.mp4", 10).headers["location"]

    answer = operator.send(place, 0, b"0123456789 and more")

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_much")
    assert stored(place.rpartition("/")[2]).stat().st_size in (0, 10)  # 0: checked and refused


def test_an_endless_upload_is_cut_off_while_it_is_sent(live, log_in, services):
    sent = []
    with httpx.Client(base_url=live, timeout=60) as client:
        operator = log_in(Role.OPERATOR, client=client)
        place = operator.begin_upload("a.mp4", 3_000_000).headers["location"]

        def endless():
            while len(sent) < 5000:
                sent.append(1)
                yield b"x" * 65536

        # The answer is 413; a client that keeps sending may find the connection closed before reading it.
        with suppress(httpx.TransportError):
            assert operator.send(place, 0, endless()).status_code == 413

    assert len(sent) < 5000
    with services.database.read() as connection:
        assert connection.execute("SELECT offset_bytes FROM uploads").fetchone()[0] == 3_000_000


def test_a_lost_connection_loses_nothing_that_arrived(live, log_in, stored):
    content = os.urandom(3_000_000)
    with httpx.Client(base_url=live, timeout=60) as client:
        operator = log_in(Role.OPERATOR, client=client)
        place = operator.begin_upload("a.mp4", len(content)).headers["location"]
        path = stored(place.rpartition("/")[2])
        host, _, port = live.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(
                f"PATCH {place} HTTP/1.1\r\nHost: {host}\r\nCookie: relume_session={operator.secret}\r\n"
                f"X-CSRF-Token: {operator.csrf}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n"
                f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            )
            line.sendall(content[:2_000_000])
            wait_for(lambda: path.stat().st_size > 0)

        wait_for(lambda: offset(operator, place) == 2_000_000)
        assert operator.send(place, 2_000_000, content[2_000_000:]).status_code == 204

        wait_for(lambda: operator.get("/api/files").json() != [])


def test_a_connection_that_hangs_is_taken_over_by_a_new_one(live, log_in, stored):
    content = os.urandom(2_500_000)
    with httpx.Client(base_url=live, timeout=60) as client, socket.socket() as hanging:
        operator = log_in(Role.OPERATOR, client=client)
        place = operator.begin_upload("a.mp4", len(content)).headers["location"]
        path = stored(place.rpartition("/")[2])
        host, _, port = live.removeprefix("http://").partition(":")
        hanging.connect((host, int(port)))
        hanging.sendall(
            f"PATCH {place} HTTP/1.1\r\nHost: {host}\r\nCookie: relume_session={operator.secret}\r\n"
            f"X-CSRF-Token: {operator.csrf}\r\nUpload-Offset: 0\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        )
        hanging.sendall(content[:2_000_000])
        wait_for(lambda: path.stat().st_size >= 1_000_000)

        arrived = offset(operator, place)

        assert 1_000_000 <= arrived <= 2_000_000
        assert operator.send(place, arrived, content[arrived:]).status_code == 204
        hanging.settimeout(20)
        assert b"204" in hanging.recv(100)  # the old request was ended


def test_bytes_that_come_again_take_over_and_arrive_once(live, log_in, stored):
    content = os.urandom(1_000_000)
    with httpx.Client(base_url=live, timeout=60) as client, socket.socket() as hanging:
        operator = log_in(Role.OPERATOR, client=client)
        place = operator.begin_upload("a.mp4", len(content)).headers["location"]
        host, _, port = live.removeprefix("http://").partition(":")
        hanging.connect((host, int(port)))
        hanging.sendall(
            f"PATCH {place} HTTP/1.1\r\nHost: {host}\r\nCookie: relume_session={operator.secret}\r\n"
            f"X-CSRF-Token: {operator.csrf}\r\nUpload-Offset: 0\r\nExpect: 100-continue\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        )
        hanging.settimeout(20)
        assert b"100 Continue" in hanging.recv(100)  # it is being read from

        half = content[: len(content) // 2]
        assert operator.send(place, 0, half).status_code == 204

        assert b"204" in hanging.recv(100)
        assert stored(place).read_bytes() == half
        assert operator.send(place, 0, half).status_code == 409
        assert operator.send(place, len(half), content[len(half) :]).status_code == 204


def test_many_uploads_at_once_arrive_whole(live, log_in, write_clip, tmp_path, stored):
    clip = write_clip(tmp_path / "clip.mp4").read_bytes()
    contents = [clip + bytes([number]) * 200_000 for number in range(6)]
    ids: dict[int, str] = {}
    with httpx.Client(base_url=live, timeout=60) as client:
        operator = log_in(Role.OPERATOR, client=client)
        threads = [
            threading.Thread(target=lambda n=number: ids.update({n: operator.upload(f"{n}.mp4", contents[n])}))
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        files = [operator.checked(ids[number]) for number in range(6)]

    assert [stored(file["id"]).read_bytes() for file in files] == contents


def test_after_a_crash_the_upload_resumes_where_it_is_certain(operator, stored):
    place = operator.begin_upload("a.mp4", 20).headers["location"]
    operator.send(place, 0, b"0123456789")
    path = stored(place.rpartition("/")[2])
    with path.open("ab") as file:
        file.write(b"was written, but the database did not hear of it")

    assert offset(operator, place) == 10
    assert operator.send(place, 10, b"abcde").status_code == 204

    assert path.read_bytes() == b"0123456789abcde"


def test_a_file_that_is_shorter_than_what_was_certain_is_sent_again_from_there(operator, stored):
    place = operator.begin_upload("a.mp4", 20).headers["location"]
    operator.send(place, 0, b"0123456789")
    os.truncate(stored(place.rpartition("/")[2]), 4)

    answer = operator.send(place, 10, b"abcde")

    assert int(answer.headers["upload-offset"]) == offset(operator, place)
    assert stored(place.rpartition("/")[2]).read_bytes()[:4] == b"0123"


def test_nobody_sees_or_touches_the_uploads_of_others(operator, admin, log_in):
    other = log_in(Role.OPERATOR, "Otto")
    place = operator.begin_upload("a.mp4", 10).headers["location"]
    upload_id = place.rpartition("/")[2]

    for person in (other, admin):
        assert person.request("HEAD", place, headers=TUS).status_code == 404
        assert person.send(place, 0, b"12345").status_code == 404
        assert person.delete(place, headers=TUS).status_code == 404
        assert person.post("/api/jobs", {"file": upload_id}).status_code == 404
        assert person.get("/api/files").json() == []
    assert offset(operator, place) == 0


@pytest.mark.parametrize("upload_id", ["../relume.db", "..%2frelume.db", "a" * 15, "a" * 17, "%00" * 16, "relume.lock"])
def test_an_id_is_never_a_path(operator, services, upload_id):
    before = services.database.path.stat().st_ino

    for method in ("HEAD", "PATCH", "DELETE"):
        answer = operator.request(method, f"/api/uploads/{upload_id}", headers={**BYTES, "Upload-Offset": "0"})
        assert answer.status_code in (404, 405, 422)

    assert services.database.path.stat().st_ino == before


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd.mp4", "passwd.mp4"),
        ("..\\..\\windows\\clip.mp4", "clip.mp4"),
        ("/absolute/clip.mp4", "clip.mp4"),
        ("<img src=x onerror=alert(1)>.mp4", "img src=x onerror=alert(1) .mp4"),
        ("a\x00b\nc\r\n.mp4", "abc.mp4"),
        ("exe\u202e4pm.mp4", "exe4pm.mp4"),
        ("..", "file"),
        ("", "file"),
        ("CON.mp4", "file CON.mp4"),
        ("n" * 400 + ".mp4", "n" * 139 + ".mp4"),
        ("Überraschung 视频.mp4", "Überraschung 视频.mp4"),
    ],
)
def test_a_name_is_only_shown_and_never_a_path(operator, services, sent, shown, stored):
    upload_id = operator.begin_upload(sent, 4).headers["location"].rpartition("/")[2]

    assert services.uploads.get(upload_id, operator.user.id).name == shown
    assert [path.stem for path in services.settings.uploads.iterdir()] == [upload_id]
    assert stored(upload_id).parent == services.settings.uploads


def test_metadata_that_is_garbage_is_no_error(operator):
    for metadata in ("filename", "filename !!!", ",,,", "a b,c", "filename " + base64.b64encode(b"\xff\xfe").decode()):
        answer = operator.post("/api/uploads", headers={**TUS, "Upload-Length": "5", "Upload-Metadata": metadata})
        assert answer.status_code == 201


def test_an_upload_is_removed_by_its_owner(operator, services):
    place = operator.begin_upload("a.mp4", 10).headers["location"]
    operator.send(place, 0, b"12345")

    assert operator.delete(place, headers=TUS).status_code == 204

    assert list(services.settings.uploads.iterdir()) == []
    assert operator.request("HEAD", place, headers=TUS).status_code == 404


def test_the_reserve_of_the_disk_is_not_touched(services, operator, settings):
    full = load_settings(settings.data, tls=False, disk_reserve_gib=100_000.0)
    object.__setattr__(services.uploads, "_settings", full)

    answer = operator.begin_upload("a.mp4", 10)

    assert answer.status_code == 413
    assert "not enough disk space" in answer.json()["error"]["message"]
    assert operator.get("/api/files").json() == []


def test_a_disk_that_fills_up_meanwhile_ends_the_upload_with_words(services, operator, settings, monkeypatch):
    monkeypatch.setattr(upload_writer, "_BLOCK_BYTES", 1000)
    place = operator.begin_upload("a.mp4", 10_000).headers["location"]
    full = load_settings(settings.data, tls=False, disk_reserve_gib=100_000.0)
    object.__setattr__(services.uploads, "_settings", full)

    answer = operator.send(place, 0, b"x" * 10_000)

    assert answer.status_code == 413
    assert "not enough disk space" in answer.json()["error"]["message"]
    assert offset(operator, place) == 0


def test_a_person_can_have_so_many_files_and_no_more(services, operator, settings):
    few = load_settings(settings.data, tls=False, disk_reserve_gib=0.0, open_uploads=2)
    object.__setattr__(services.uploads, "_settings", few)

    codes = [operator.begin_upload("a.mp4", 10).status_code for _ in range(3)]

    assert codes == [201, 201, 413]


def test_forgotten_uploads_and_unknown_files_are_tidied_away(services, operator):
    kept = operator.begin_upload("new.mp4", 10).headers["location"].rpartition("/")[2]
    old = operator.begin_upload("old.mp4", 10).headers["location"].rpartition("/")[2]
    (services.settings.uploads / "nobody-knows-this").touch()
    with services.database.transaction() as connection:
        # Long ago, but at a plausible clock time.
        long_ago = time.time() - 30 * 86_400
        connection.execute("UPDATE uploads SET created_at = ?1, touched_at = ?1 WHERE id = ?2", (long_ago, old))

    services.uploads.clean_up()

    assert [path.stem for path in services.settings.uploads.iterdir()] == [kept]


def test_a_file_not_checked_before_a_crash_is_checked_later(settings, write_clip, tmp_path, stored):
    clip = write_clip(tmp_path / "clip.mp4")
    with Database(settings.database) as database:
        services = open_services(database, settings)
        with database.transaction() as connection:
            connection.execute(
                "INSERT INTO users (id, name, name_key, password_hash, role, created_at) "
                "VALUES ('u', 'u', 'u', '', 'operator', 0)"
            )
            connection.execute(
                "INSERT INTO uploads VALUES ('AAAAAAAAAAAAAAAA', 'u', 'a.mp4', 1, 1, 1e12, 1e12, 1, NULL, NULL, NULL)"
            )
        stored("AAAAAAAAAAAAAAAA").write_bytes(clip.read_bytes())

        services.uploads.resume_checks()

        wait_for(lambda: services.uploads.get_checked("AAAAAAAAAAAAAAAA", "u") is not None)
        assert services.uploads.get("AAAAAAAAAAAAAAAA", "u").probe["width"] == 64
        services.uploads.close()


@pytest.mark.parametrize("end", ["disabled", "removed", "logged out"])
def test_an_upload_in_flight_ends_with_the_login_and_leaves_nothing_of_a_removed_account(
    live, log_in, services, settings, monkeypatch, end
):
    monkeypatch.setattr(upload_writer, "CHECK_EVERY_S", 0.1)
    ended, arrived = threading.Event(), threading.Event()
    with httpx.Client(base_url=live, timeout=60) as client:
        operator = log_in(Role.OPERATOR, client=client)
        place = operator.begin_upload("a.mp4", 5_000_000).headers["location"]

        def drip():
            while not ended.is_set():
                yield b"12345"
                arrived.set()
                time.sleep(0.02)

        def finish():
            assert arrived.wait(30)
            wait_for(lambda: any(write.chunks for write in services.upload_writer._writers.values()))
            users, sessions = services.users, services.sessions
            if end == "disabled":
                users.change(operator.user.id, enabled=False, actor=COMMAND_LINE)
            elif end == "removed":
                users.remove(operator.user.id, actor=COMMAND_LINE)
            else:
                sessions.end(sessions.find(operator.secret, ""), actor=COMMAND_LINE)

        thread = threading.Thread(target=finish)
        thread.start()
        try:
            answer = operator.send(place, 0, drip())
        finally:
            ended.set()
            thread.join()

    assert answer.status_code == (404 if end == "removed" else 401)
    wait_for(lambda: services.upload_writer.busy == frozenset())
    assert len(list(settings.uploads.iterdir())) == (0 if end == "removed" else 1)


def test_announced_uploads_that_never_arrive_reserve_no_space(services, operator, log_in, settings, monkeypatch):
    other = log_in(Role.OPERATOR, "Other")
    services.uploads._settings = settings.model_copy(update={"upload_limit_gib": 1.0})
    monkeypatch.setattr(services.uploads, "_free_bytes", lambda: 100_000_000)

    assert [operator.begin_upload("mine.mp4", 30_000_000).status_code for _ in range(4)] == [201, 201, 201, 413]
    assert other.begin_upload("hers.mp4", 15_000_000).status_code == 413  # just announced: it may still arrive
    with services.database.transaction() as connection:
        connection.execute("UPDATE uploads SET touched_at = touched_at - 3601")

    assert operator.begin_upload("mine.mp4", 30_000_000).status_code == 413
    assert other.begin_upload("hers.mp4", 15_000_000).status_code == 201


def test_an_upload_that_is_gone_is_not_said_to_belong_to_a_job(operator):
    place = operator.begin_upload("a.mp4", 5).headers["location"]

    assert operator.delete(place, headers=TUS).status_code == 204
    again = operator.delete(place, headers=TUS)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "not_found")


def test_an_upload_that_begins_while_the_server_tidies_is_kept(services, operator, settings, monkeypatch):
    """Its file may be there before the look at the folder, and its row must be too."""
    listing = Path.iterdir

    def list_slowly(path):
        found = list(listing(path))
        if path == settings.uploads and threading.current_thread() is threading.main_thread():
            place = operator.begin_upload("a.mp4", 10).headers["location"]
            assert operator.send(place, 0, b"12345").status_code == 204
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", list_slowly)
    services.uploads.clean_up()
    monkeypatch.undo()

    (kept,) = settings.uploads.iterdir()
    assert kept.read_bytes() == b"12345"


def test_files_that_take_long_hold_up_no_other_user():
    seen: list[str] = []
    free = threading.Event()

    def look(upload_id):
        seen.append(upload_id)
        if upload_id.startswith("slow"):
            assert free.wait(60)

    turns = ProbeQueue(look)
    try:
        for number in range(5):
            turns.add("one", f"slow{number}")
        turns.add("two", "a")
        turns.add("two", "b")
        wait_for(lambda: {"a", "b"} <= set(seen))
        assert set(seen) == {"slow0", "slow1", "a", "b"}
        free.set()
        wait_for(lambda: len(seen) == 7)
    finally:
        free.set()
        turns.close()


def test_users_take_turns():
    seen: list[str] = []
    free = threading.Event()

    def look(upload_id):
        assert free.wait(60)
        seen.append(upload_id)

    turns = ProbeQueue(look)
    try:
        for owner, count in (("one", 20), ("two", 2), ("three", 2)):
            for number in range(count):
                turns.add(owner, f"{owner}{number}")
        free.set()
        wait_for(lambda: len(seen) == 24)
    finally:
        turns.close()

    assert max(seen.index("two1"), seen.index("three1")) < seen.index("one6")


def test_a_format_known_only_by_its_suffix_is_accepted(operator, services):
    with io.BytesIO() as content:
        with av.open(content, "w", format="g722") as output:
            stream = output.add_stream("g722", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16000
            output.mux([*stream.encode(frame), *stream.encode(None)])
        upload = operator.upload("memo.g722", content.getvalue())

    assert operator.checked(upload)["probe"]["codec"] == "adpcm_g722"
    assert [path.name for path in services.settings.uploads.iterdir()] == [f"{upload}.g722"]


@pytest.mark.parametrize("noted", [0.0, 3600.0, 4_000_000_000.0])
def test_what_was_uploaded_while_the_clock_was_wrong_is_kept_from_now_on(services, operator, settings, noted):
    operator.begin_upload("a.mp4", 10)
    with services.database.transaction() as connection:
        connection.execute("UPDATE uploads SET touched_at = ?1, created_at = ?1", (noted,))

    services.uploads.clean_up()

    assert len(list(settings.uploads.iterdir())) == 1
    with services.database.transaction() as connection:
        connection.execute("UPDATE uploads SET touched_at = touched_at - ?", (settings.upload_days * 86_400 + 60,))
    services.uploads.clean_up()
    assert list(settings.uploads.iterdir()) == []


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_an_incomplete_upload_is_reported_and_can_still_be_started(suffix, operator, services, write_clip, tmp_path):
    path = write_clip(tmp_path / f"clip{suffix}", frames=50)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(UnreadableError) as refused:
        check_media(path, EnhanceOptions())

    file = operator.checked(operator.upload(path.name, path.read_bytes()))

    assert file["error"] is None
    assert file["probe"]["damage"] == str(refused.value)
    answer = operator.post("/api/jobs", {"file": file["id"], "preset": "restore", "allow_damaged": True})
    assert answer.status_code == 201, answer.text
    assert services.queue.get(answer.json()["id"]).options.allow_damaged


def test_an_upload_that_is_too_short_to_be_opened_is_refused_with_its_sizes(operator, write_clip, tmp_path):
    data = write_clip(tmp_path / "clip.mp4", frames=50).read_bytes()[:-9000]

    file = operator.checked(operator.upload("clip.mp4", data))

    assert file["probe"] is None
    assert file["error"].startswith("clip.mp4: file is incomplete (")


def test_an_uploaded_animation_may_use_more_space_than_a_thumbnail(tmp_path, operator):
    noise = np.random.default_rng(1).integers(0, 255, (4, 400, 400, 3), np.uint8)
    frames = [Image.fromarray(one) for one in noise]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], duration=40, quality=10)

    file = operator.checked(operator.upload("film.webp", (tmp_path / "film.webp").read_bytes()))

    assert (file["error"], file["probe"]["container"], file["probe"]["frames"]) == (None, "webp", 4)
    assert file["probe"]["damage"] is None
