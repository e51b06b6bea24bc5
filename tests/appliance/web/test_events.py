import asyncio
import json
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from appliance.accounts.audit import COMMAND_LINE
from appliance.accounts.credentials import hash_secret
from appliance.accounts.principal import Role
from appliance.watch.file_state import FileState, WatchedFile
from appliance.watch.folder import FolderConfig
from appliance.web import events
from appliance.web.events import Listener, Update, make_event


@pytest.fixture
def listening(live, services):
    """Listen as a browser does, and collect the messages received."""

    @contextmanager
    def listen(person, since=None):
        received: list[tuple[str, dict]] = []
        ready, ended = threading.Event(), threading.Event()

        def read():
            headers, name = person.headers or {"Cookie": f"relume_session={person.secret}"}, ""
            with (
                httpx.Client(base_url=live, timeout=30) as client,
                client.stream(
                    "GET", "/api/events", headers=headers, params={} if since is None else {"since": since}
                ) as answer,
            ):
                assert answer.headers["content-type"].startswith("text/event-stream")
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        received.append((name, json.loads(line.removeprefix("data: "))))
                        ready.set()
            ended.set()

        thread = threading.Thread(target=read)
        thread.start()
        try:
            assert ready.wait(20)
            yield received, ended
        finally:
            # The server's loop wakes many times a second and notices it.
            services.broadcaster.drop(hash_secret(person.secret))
            thread.join(20)
            assert not thread.is_alive()

    return listen


def wait_for(question, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


def test_a_browser_receives_every_change_and_removal(listening, log_in, services, add_job):
    viewer = log_in(Role.VIEWER, client=object())
    with listening(viewer) as (received, _):
        wait_for(lambda: len(received) >= 3)
        assert [name for name, _ in received[:3]] == ["counts", "queue", "system"]
        assert received[2][1]["disk"]["total"] > 0

        job = add_job(title="<b>clip</b>.mp4")
        wait_for(lambda: any(name == "job" and data.get("state") == "queued" for name, data in received))
        services.queue.cancel(job.id)
        wait_for(lambda: any(data.get("state") == "cancelled" for _, data in received))
        services.queue.remove(job.id)
        wait_for(lambda: ("job", {"id": job.id, "removed": True}) in received)

        wait_for(lambda: [data for name, data in received if name == "counts"][-1]["queued"] == 0)


def test_changes_between_the_session_and_the_connection_are_sent(live, listening, log_in, services, add_job):
    viewer, before, removed = log_in(Role.VIEWER, client=object()), add_job(), add_job()
    with httpx.Client(base_url=live, timeout=30) as viewer.client:
        revision = viewer.get("/api/session").json()["revision"]
    changed = add_job()
    services.queue.cancel(removed.id)
    services.queue.remove(removed.id)

    with listening(viewer, since=revision) as (received, _):
        wait_for(lambda: ("job", {"id": removed.id, "removed": True}) in received)

    assert [data["id"] for name, data in received if name == "job"] == [changed.id, removed.id]
    assert before.id not in str(received)
    assert ("folders", {}) in received


@pytest.mark.parametrize("since", [0, 10_000])
def test_a_client_that_is_far_behind_or_ahead_is_asked_to_load_again(listening, log_in, services, add_job, since):
    job = add_job()
    for number in range(600):
        services.queue.set_estimate(job.id, f'{{"time_s": {number}.0}}')

    with listening(log_in(Role.VIEWER, client=object()), since=since) as (received, _):
        wait_for(lambda: ("resync", {}) in received)
        time.sleep(5 * events.POLL_EVERY_S)

    assert all(name != "job" for name, _ in received)


def test_a_job_is_reported_as_it_is_shown(live, listening, log_in, add_job):
    viewer = log_in(Role.VIEWER, client=object())
    with listening(viewer) as (received, _), httpx.Client(base_url=live, timeout=30) as client:
        viewer.client = client
        job = add_job()
        wait_for(lambda: any(name == "job" for name, _ in received))
        shown = viewer.get(f"/api/jobs/{job.id}").json()

    assert next(data for name, data in received if name == "job") == shown


def test_the_activity_of_watch_folders_is_reported(listening, log_in, services, tmp_path):
    (tmp_path / "in").mkdir()
    with listening(log_in(Role.VIEWER, client=object())) as (received, _):
        wait_for(lambda: len(received) >= 2)
        folder = services.folders.add(FolderConfig(tmp_path / "in", tmp_path / "out"))
        wait_for(lambda: ("folders", {}) in received)
        received.clear()
        services.folders.files(folder.id).put(WatchedFile("a.mp4", 1, 1, FileState.FAILED, reason="damaged"))
        wait_for(lambda: ("folders", {}) in received)


def test_a_closed_browser_is_dropped_and_nothing_is_polled_without_listeners(live, log_in, services, monkeypatch):
    viewer = log_in(Role.VIEWER, client=object())
    headers = {"Cookie": f"relume_session={viewer.secret}"}
    with (
        httpx.Client(base_url=live, timeout=30) as client,
        client.stream("GET", "/api/events", headers=headers) as answer,
    ):
        # Kept, since discarding an iterator closes its connection.
        lines = answer.iter_lines()
        next(lines)
        wait_for(lambda: services.broadcaster.listeners == 1)

    wait_for(lambda: services.broadcaster.listeners == 0)
    looked: list[int] = []
    monkeypatch.setattr(type(services.queue), "revision", lambda _: looked.append(1) or 0)
    time.sleep(10 * events.POLL_EVERY_S)
    assert len(looked) <= 1


def test_a_logout_ends_the_live_updates_of_this_browser_alone(live, listening, log_in):
    viewer, other = log_in(Role.VIEWER, client=object()), log_in(Role.VIEWER, "Other", client=object())
    with listening(viewer) as (_, ended), listening(other) as (_, other_ended):
        with httpx.Client(base_url=live, timeout=30) as client:
            viewer.client = client
            assert viewer.post("/api/logout").status_code == 204
        assert ended.wait(20)
        assert not other_ended.is_set()


@pytest.mark.parametrize("end", ["disabled", "removed", "password", "token", "owner of the token", "role"])
def test_who_would_not_be_let_in_any_more_hears_no_more(listening, log_in, services, add_job, monkeypatch, end):
    monkeypatch.setattr(events, "CHECK_EVERY_S", 0.2)
    monkeypatch.setattr(events, "SYSTEM_EVERY_S", 0.1)  # as on a busy server: events never stop
    viewer = log_in(Role.OPERATOR, client=object())
    caller = services.sessions.find(viewer.secret, "")
    other = log_in(Role.VIEWER, "Other", client=object())
    if "token" in end:
        token, secret = services.tokens.add(caller, "script", Role.VIEWER)
        viewer.headers = {"Authorization": f"Bearer {secret}"}
    with listening(other) as (_, other_ended), listening(viewer) as (received, ended):
        if end in ("disabled", "owner of the token"):
            services.users.change(viewer.user.id, enabled=False, actor=COMMAND_LINE)
        elif end == "removed":
            services.users.remove(viewer.user.id, actor=COMMAND_LINE)
        elif end == "role":
            services.users.change(viewer.user.id, role=Role.VIEWER, actor=COMMAND_LINE)
        elif end == "password":
            services.users.set_password(viewer.user.id, "another horse battery", actor=COMMAND_LINE)
        else:
            services.tokens.remove(viewer.user.id, token.id, actor=COMMAND_LINE)
        assert ended.wait(20)
        add_job(title="secret.mp4")
        assert not any("secret" in str(data) for _, data in received)
        assert not other_ended.is_set()


def test_one_person_cannot_take_all_places(services, viewer, operator):
    async def run():
        first, second = (services.sessions.find(person.secret, "") for person in (viewer, operator))
        broadcaster = services.broadcaster
        lines = [broadcaster.listen(caller) for caller in [second, *[first] * 12]]
        for line in lines:
            await anext(line)
        closed = [listener.closed for listener in broadcaster._listeners]
        for line in lines:
            await line.aclose()
        return closed

    closed = asyncio.run(asyncio.wait_for(run(), 20))

    assert closed == [False, True, True, *[False] * 10]


def test_a_slow_browser_does_not_grow_the_memory():
    listener = Listener(None)

    for number in range(10_000):
        listener.put(make_event("job", number))

    assert len(listener.queue) <= 500
    assert make_event("resync", {}) in listener.queue
    assert listener.queue[-1] == make_event("job", 9999)


def test_data_is_one_line_of_valid_unicode():
    event = make_event("job", {"title": "a\n\nevent: evil\ndata: x\r\n\udcff"})

    assert "\n" not in event.raw_data
    assert json.loads(event.raw_data) == {"title": "a\n\nevent: evil\ndata: x\r\n?"}


def test_there_is_an_end_to_how_many_may_listen(services, viewer):
    services.broadcaster._listeners.update({Listener(None): None for _ in range(500)})

    answer = viewer.get("/api/events")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many")
    services.broadcaster._listeners.clear()


def test_live_updates_end_when_the_server_stops(services, viewer):
    async def run():
        caller = services.sessions.find(viewer.secret, "")
        heard = []
        async for text in services.broadcaster.listen(caller):
            heard.append(text)
            services.broadcaster.stop()
        return heard

    assert asyncio.run(asyncio.wait_for(run(), 20))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(events, "POLL_EVERY_S", 0.05)


def test_a_message_about_a_job_reaches_its_owner_and_whoever_sees_all():
    mine, nobodys, everyones, counts = (make_event(name, {}) for name in "abcd")
    updates = (Update(mine, owner="me"), Update(nobodys, owner=""), Update(everyones), Update(counts, "me", exact=True))

    assert [update.event.event for update in updates if update.is_for("me")] == ["a", "c", "d"]
    assert [update.event.event for update in updates if update.is_for("you")] == ["c"]
    assert [update.event.event for update in updates if update.is_for(None)] == ["a", "b", "c"]
