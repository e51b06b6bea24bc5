"""E-mail over a real SMTP conversation on this machine."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from appliance.jobs.job import JobState
from appliance.settings import Settings
from appliance.web.mail import Email, Mailer, send


class Conversation(socketserver.StreamRequestHandler):
    """Speaks as much SMTP as a client needs to hand over a message."""

    def handle(self) -> None:
        self.say("220 test")
        body: list[str] | None = None
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if body is not None:
                if line == ".":
                    self.server.letters.append("\n".join(body))  # type: ignore[attr-defined]
                    body = None
                    self.say("250 taken")
                else:
                    body.append(line)
                continue
            word = line.split(" ")[0].split(":")[0].upper()
            if word == "EHLO":
                self.say("250-test\r\n250 SIZE 1000000")
            elif word == "RCPT" and "refused" in line:
                self.say("550 no such user")
            elif word == "DATA":
                body = []
                self.say("354 go on")
            elif word == "QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def letters() -> Iterator[tuple[int, list[str]]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Conversation) as server:
        server.letters = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1], server.letters  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def with_mail(settings: Settings, port: int) -> Settings:
    change = {
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        "smtp_security": "none",
        "smtp_from": "relume@studio.example",
    }
    return settings.model_copy(update=change)


def test_only_the_owner_is_notified_of_the_selected_events(settings, services, operator, viewer, add_job, letters):
    port, got = letters
    users = services.users
    users.set_profile(operator.user.id, email="olga@studio.example", events=("failed", "queue_empty"))
    users.set_profile(viewer.user.id, email="vera@studio.example", events=("done",))
    mailer = Mailer(users, services.queue, with_mail(settings, port))
    jobs = [add_job(operator.user, title=f"clip {n}.mp4") for n in range(2)]
    add_job(viewer.user)
    mailer.work()
    assert got == []

    for job in jobs:
        services.queue.lease("cpu").claim()
        services.queue.lease("cpu").fail(job.id, f"{job.source} is damaged", code="source_damaged")
        mailer.work()
        mailer.work()

    assert [next(line for line in letter.splitlines() if line.startswith("Subject")) for letter in got] == [
        "Subject: Failed: clip 0.mp4",
        "Subject: Failed: clip 1.mp4",
        "Subject: All your jobs are done",
    ]
    assert all("To: olga@studio.example" in letter for letter in got)
    assert str(jobs[0].source) not in got[0], "titles, not the server's paths"
    assert services.queue.get(jobs[0].id).state is JobState.FAILED


def test_what_the_mail_server_says_is_reported(settings, letters):
    port, got = letters
    letter = Email("anna@studio.example", "Hello", "Text")
    own = with_mail(settings, port)

    assert send(own, letter) is None
    assert "From: relume@studio.example" in got[0]
    assert send(own, replace(letter, to="refused@studio.example")) == (
        "the mail server does not accept mail to refused@studio.example"
    )
    assert "encryption" in str(send(own.model_copy(update={"smtp_security": "starttls"}), letter))
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    said = send(with_mail(settings, closed), letter)
    assert said == "cannot reach the mail server: connection refused; nothing is listening at this address"


def test_a_test_message_says_what_is_missing(operator, services):
    first = operator.post("/api/me/test-mail")
    services.users.set_profile(operator.user.id, email="olga@studio.example")
    second = operator.post("/api/me/test-mail")

    assert (first.status_code, first.json()["error"]["message"]) == (422, "save your e-mail address first")
    assert (second.status_code, "no mail server is configured" in second.json()["error"]["message"]) == (422, True)
