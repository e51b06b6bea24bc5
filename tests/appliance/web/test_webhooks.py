import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from contextlib import suppress

import pytest

from appliance.accounts.audit import COMMAND_LINE
from appliance.errors import WebhookError
from appliance.settings_file import load_settings
from appliance.web.webhook_sender import send
from appliance.web.webhooks import Webhooks


class UploadWriter:
    """A program on the LAN that receives webhooks."""

    def __init__(self):
        self.heard: list[tuple[dict, bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.heard.append((dict(self.headers), body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)


@pytest.fixture
def receiver():
    receiver = UploadWriter()
    receiver.thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.thread.join()
    receiver.server.server_close()


@pytest.fixture
def webhooks(services):
    """The webhooks without their thread, whose work the test does."""
    return services.webhooks


def end_job(services, add_job, state="done"):
    job = add_job(title="clip <1>.mp4")
    with services.database.transaction() as connection:
        revision = connection.execute("UPDATE job_revision SET revision = revision + 1 RETURNING revision").fetchone()[
            0
        ]
        connection.execute(
            "UPDATE jobs SET state = ?, finished_at = ?, revision = ? WHERE id = ?",
            (state, time.time(), revision, job.id),
        )
    return services.queue.get(job.id)


def age(services, seconds=100_000):
    with services.database.transaction() as connection:
        connection.execute("UPDATE deliveries SET next_at = next_at - ?", (seconds,))


def test_a_message_is_delivered_once_and_signed(webhooks, services, add_job, receiver):
    end_job(services, add_job)  # before there was a webhook
    _, secret = webhooks.add(receiver.url, ["job.done"], actor=COMMAND_LINE)
    job = end_job(services, add_job)
    end_job(services, add_job, "cancelled")  # was not requested

    webhooks.work()
    webhooks.work()

    assert len(receiver.heard) == 1
    headers, body = receiver.heard[0]
    payload = json.loads(body)
    assert (payload["event"], payload["job"]["id"], payload["job"]["title"]) == ("job.done", job.id, "clip <1>.mp4")
    assert str(services.settings.data) not in body.decode()
    at, signature = (part.partition("=")[2] for part in headers["X-Relume-Signature"].split(","))
    assert abs(int(at) - time.time()) < 60
    assert hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest() == signature
    assert webhooks.list()[0].last_status == "delivered"


def test_a_failed_delivery_is_retried_with_backoff_and_given_up_eventually(webhooks, services, add_job, receiver):
    webhooks.add(receiver.url, ["job.failed"], actor=COMMAND_LINE)
    end_job(services, add_job, "failed")
    receiver.answers = [500] * 100

    waits = []
    for _ in range(12):
        webhooks.work()
        with services.database.read() as connection:
            waits.append(connection.execute("SELECT next_at FROM deliveries").fetchone()[0] - time.time())
        age(services)

    assert len(receiver.heard) == services.settings.webhook_attempts
    assert waits[0] < waits[1] < waits[2] < waits[5]
    assert webhooks.list()[0].last_status == "responded with status 500"


def test_what_was_not_delivered_is_delivered_after_a_restart(webhooks, services, add_job, receiver):
    webhooks.add(receiver.url, ["job.done"], actor=COMMAND_LINE)
    end_job(services, add_job)
    receiver.answers = [503]
    webhooks.work()
    age(services)

    Webhooks(services.database, services.queue, services.settings).work()

    assert len(receiver.heard) == 2
    assert receiver.heard[0][1] == receiver.heard[1][1]


def test_a_job_that_ended_while_the_server_was_off_is_delivered(webhooks, services, add_job, receiver):
    webhooks.add(receiver.url, ["job.done"], actor=COMMAND_LINE)
    webhooks.work()
    end_job(services, add_job)

    Webhooks(services.database, services.queue, services.settings).work()

    assert len(receiver.heard) == 1


def test_a_redirect_is_not_followed(webhooks, services, add_job, receiver):
    webhooks.add(receiver.url, ["job.done"], actor=COMMAND_LINE)
    end_job(services, add_job)
    receiver.answers = [302]

    webhooks.work()

    assert [headers["Host"] for headers, _ in receiver.heard] == [receiver.url.split("/")[2]]
    assert webhooks.list()[0].last_status == "responded with status 302; redirects are not followed"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://192.168.1.2/x",
        "gopher://127.0.0.1:6379/_x",
        "http://",
        "http:///x",
        "//host/x",
        "http://user:secret@host/x",
        "http://host:0/x",
        "http://host:99999/x",
        "http://ho st/x",
        "http://host/x\r\nX-Evil: 1",
        "http://höst/",
    ],
)
def test_an_address_that_is_none_is_refused(webhooks, url):
    with pytest.raises(WebhookError):
        webhooks.add(url, ["job.done"], actor=COMMAND_LINE)

    assert webhooks.list() == []
    assert send(url, "s", "job.done", "{}", timeout_s=1) is not None


def test_a_program_that_never_answers_does_not_hold_up_for_long(services, settings, add_job):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        quick = Webhooks(
            services.database, services.queue, load_settings(settings.data, tls=False, webhook_timeout_s=0.2)
        )
        quick.add(f"http://127.0.0.1:{silent.getsockname()[1]}/", ["job.done"], actor=COMMAND_LINE)
        end_job(services, add_job)

        begun = time.monotonic()
        quick.work()

        assert time.monotonic() - begun < 10
        assert "cannot be reached" in quick.list()[0].last_status


def test_the_administrator_adds_and_removes_webhooks_and_sees_the_secret_once(admin, services):
    made = admin.post("/api/webhooks", {"url": "http://192.168.1.2/hook?key=private", "events": ["job.done"]}).json()

    listed = admin.get("/api/webhooks").json()
    assert [hook["id"] for hook in listed] == [made["id"]]
    assert "secret" not in listed[0]
    assert len(made["secret"]) == 43
    assert admin.delete(f"/api/webhooks/{made['id']}").status_code == 204
    assert admin.get("/api/webhooks").json() == []
    entries, _ = services.audit.list()
    assert [entry.what for entry in entries[:2]] == ["webhook_removed", "webhook_added"]
    assert not any("private" in entry.detail for entry in entries)
    assert admin.post("/api/webhooks", {"url": "file:///etc/passwd"}).status_code == 422
    assert admin.post("/api/webhooks", {"url": "http://a.b/", "events": ["job.exploded"]}).status_code == 422


@pytest.mark.usefixtures("client")
def test_the_thread_delivers_automatically(services, add_job, receiver):
    services.webhooks.add(receiver.url, ["job.done"], actor=COMMAND_LINE)
    end_job(services, add_job)

    deadline = time.monotonic() + 20
    while not receiver.heard and time.monotonic() < deadline:
        time.sleep(0.05)

    assert len(receiver.heard) == 1


@pytest.fixture
def dripping():
    """A program that sends a byte now and then, forever."""
    ends = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def drip(connection):
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 ")
            while not ends.wait(0.02):
                connection.sendall(b"x")

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=drip, args=(connection,)).start()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    ends.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_a_receiver_that_answers_a_byte_at_a_time_is_dropped_in_time(dripping):
    problem = send(dripping, "secret", "job.done", "{}", timeout_s=0.3)

    assert problem == "cannot be reached: no response within 0.3 s"


def test_one_that_drips_holds_up_no_other_and_not_the_end_of_the_server(
    dripping, receiver, webhooks, services, add_job, monkeypatch
):
    webhooks._settings = services.settings.model_copy(update={"webhook_timeout_s": 60.0})
    webhooks.add(dripping, ["job.done"], actor=COMMAND_LINE)
    webhooks.add(receiver.url, ["job.done"], actor=COMMAND_LINE)
    for _ in range(3):
        end_job(services, add_job)
    monkeypatch.setattr("appliance.web.webhooks.POLL_EVERY_S", 0.02)
    webhooks.start()
    wait_for(lambda: len(receiver.heard) == 3)

    webhooks.close()

    assert not webhooks._thread.is_alive()
    with services.database.read() as connection:
        tried = dict(
            connection.execute(
                "SELECT url, MAX(attempts) FROM deliveries JOIN webhooks w ON w.id = webhook GROUP BY url"
            )
        )
    assert tried == {dripping: 0, receiver.url: 1}
    names = [headers["X-Relume-Delivery"] for headers, _ in receiver.heard]
    assert len(set(names)) == 3


def wait_for(happens):
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_webhook_is_tested_and_what_is_wrong_is_reported(admin):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hook = admin.post("/api/webhooks", {"url": f"http://127.0.0.1:{port}/hook"}).json()

    answer = admin.post(f"/api/webhooks/{hook['id']}/test")

    problem = "cannot be reached: connection refused; nothing is listening at this address"
    assert (answer.status_code, answer.json()) == (200, {"problem": problem})
    assert admin.get("/api/webhooks").json()[0]["last_status"] == problem
