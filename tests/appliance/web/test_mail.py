"""E-mail over a real SMTP connection on this machine."""

import base64
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

import pytest

from appliance.jobs.job import JobState
from appliance.settings import Settings
from appliance.web.mail import Email, Mailer, send
from appliance.web.tls import provide_certificate

GOOD_LOGIN = base64.b64encode(b"\0relume\0secret").decode()


class Conversation(socketserver.StreamRequestHandler):
    """Speaks as much SMTP as a client needs to hand over a message."""

    def handle(self) -> None:
        if self.server.mode == "tls":  # type: ignore[attr-defined]
            self.secure()
        self.say("220 test")
        self.handle_lines()

    def secure(self) -> None:
        """Continue the conversation over TLS."""
        self.request = self.server.tls.wrap_socket(self.request, server_side=True)  # type: ignore[attr-defined]
        self.setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def is_secure(self) -> bool:
        return isinstance(self.request, ssl.SSLSocket)

    def offers(self) -> list[str]:
        return ["STARTTLS"] if self.server.mode == "starttls" and not self.is_secure() else []  # type: ignore[attr-defined]

    def handle_lines(self) -> None:
        body: list[str] | None = None
        for raw in self.rfile:
            line = raw.decode().rstrip("\r\n")
            if body is not None:
                if line == ".":
                    self.server.letters.append("\n".join(body))  # type: ignore[attr-defined]
                    self.server.secure_letters += self.is_secure()  # type: ignore[attr-defined]
                    body = None
                    self.say("250 taken")
                else:
                    body.append(line)
                continue
            word = line.split(" ")[0].split(":")[0].upper()
            if word == "EHLO":
                offers = ["SIZE 1000000", *(["AUTH PLAIN"] if self.is_secure() else []), *self.offers()]
                self.say("\r\n".join(f"250-{offer}" for offer in ["test", *offers[:-1]]) + f"\r\n250 {offers[-1]}")
            elif word == "STARTTLS" and self.offers():
                self.say("220 go on")
                self.secure()
                self.handle_lines()
                return
            elif word == "AUTH":
                self.say("235 welcome" if line.split()[-1] == GOOD_LOGIN else "535 no")
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


class MailServer(socketserver.ThreadingTCPServer):
    """A mail server on a free port; `mode` is the setting of its clients."""

    daemon_threads = True

    def __init__(self, mode: str = "none", tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.mode, self.tls = mode, tls
        self.letters: list[str] = []
        self.secure_letters = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that refuse the certificate end the conversation."""

    @contextmanager
    def running(self) -> Iterator[Self]:
        with self:
            thread = threading.Thread(target=self.serve_forever, args=(0.05,))
            thread.start()
            yield self
            self.shutdown()
            thread.join()


@pytest.fixture
def letters() -> Iterator[tuple[int, list[str]]]:
    with MailServer().running() as server:
        yield server.server_address[1], server.letters


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


def test_the_answer_of_the_mail_server_is_reported(settings, letters):
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


@pytest.mark.parametrize("mode", ["tls", "starttls"])
def test_mail_goes_over_tls_to_a_server_whose_certificate_is_trusted(
    settings: Settings, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = provide_certificate(settings)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate.certificate, certificate.key)
    letter = Email("anna@studio.example", "Hello", "Text")

    with MailServer(mode, tls).running() as server:
        change = {"smtp_security": mode, "smtp_user": "relume", "smtp_password": "secret"}
        own = with_mail(settings, server.server_address[1]).model_copy(update=change)
        # The certificate is signed by nobody whom this machine knows.
        assert "certificate" in str(send(own, letter))
        assert server.letters == []

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
        assert send(own, letter) is None
        assert "Subject: Hello" in server.letters[0]
        assert server.secure_letters == 1
        wrong = own.model_copy(update={"smtp_password": "guess"})
        assert send(wrong, letter) == "the mail server rejected the user name or password"
        other = own.model_copy(update={"smtp_host": "localhost.localdomain"})
        assert send(other, letter) is not None
        assert len(server.letters) == 1


def test_a_password_is_never_sent_before_the_connection_is_secure(settings: Settings) -> None:
    with MailServer("none").running() as server:
        change = {"smtp_security": "starttls", "smtp_user": "relume", "smtp_password": "secret"}
        own = with_mail(settings, server.server_address[1]).model_copy(update=change)

        assert "encryption" in str(send(own, Email("anna@studio.example", "Hello", "Text")))
        assert server.letters == []
