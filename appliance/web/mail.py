"""E-mail notifications about finished jobs, sent by a thread through the configured SMTP server."""

import logging
import smtplib
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Final

from appliance.accounts.users import User, Users
from appliance.errors import MailError
from appliance.jobs.job import FINISHED, JobRecord, JobState
from appliance.jobs.queue import JobQueue
from appliance.settings import Settings
from appliance.store.errors import StoreError
from appliance.validation_messages import describe_connection_error
from appliance.web.views import plain_message

logger = logging.getLogger(__name__)

POLL_EVERY_S: Final = 2.0
_TIMEOUT_S: Final = 20.0
_ATTEMPTS: Final = 4
_WAIT_S: Final = 30.0
_MAX_WAITING: Final = 1000


@dataclass(frozen=True, slots=True)
class Email:
    """A message to send; `due_s` is the time until the next attempt."""

    to: str
    subject: str
    text: str
    attempts: int = 0
    due_s: float = 0.0


class Mailer:
    """Notifies the owners of finished jobs; unsent messages are discarded when the server stops."""

    def __init__(self, users: Users, queue: JobQueue, settings: Settings) -> None:
        self._users, self._queue, self._settings = users, queue, settings
        self._emails: deque[Email] = deque(maxlen=_MAX_WAITING)
        self._revision = queue.revision()
        self._notified: dict[str, float | None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)

    def start(self) -> None:
        """Start the thread if a mail server is configured."""
        if self._settings.smtp_host:
            self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_S + 5)

    def test(self, to: str) -> None:
        """Send a test message immediately.

        Raises:
            MailError: No mail server is configured, or it did not accept the message.
        """
        if not self._settings.smtp_host:
            raise MailError("no mail server is configured; set Mail server in the settings and restart", code="mail")
        problem = send(
            self._settings, Email(to, "Relume test message", "E-mail notifications from Relume are working.")
        )
        if problem is not None:
            raise MailError(f"cannot send the test message: {problem}", code="mail")

    def work(self) -> None:
        """Create messages for finished jobs, and send those that are due."""
        for job in self._find_finished():
            self._emails.extend(self._emails_for(job))
        for _ in range(len(self._emails)):
            email = self._emails.popleft()
            if email.due_s > 0:
                self._emails.append(replace(email, due_s=email.due_s - POLL_EVERY_S))
                continue
            problem = send(self._settings, email)
            if problem is None:
                continue
            attempts = email.attempts + 1
            logger.warning("e-mail to %s: attempt %d failed: %s", email.to, attempts, problem)
            if attempts < _ATTEMPTS:
                self._emails.append(replace(email, attempts=attempts, due_s=_WAIT_S * 2**attempts))

    def _find_finished(self) -> Sequence[JobRecord]:
        changed = self._queue.changed_since(self._revision)
        self._revision = max([self._revision, *(job.revision for job in changed)])
        ended = []
        for job in changed:
            # A finished job can change again, for example its priority, but is announced only once.
            if job.state in FINISHED and job.preview_of is None and self._notified.get(job.id) != job.finished_at:
                ended.append(job)
            self._notified[job.id] = job.finished_at
        while len(self._notified) > _MAX_WAITING:
            del self._notified[next(iter(self._notified))]
        return ended

    def _emails_for(self, job: JobRecord) -> list[Email]:
        if job.owner is None or job.state is JobState.CANCELLED:
            return []
        user = next((user for user in self._users.list() if user.id == job.owner), None)
        if user is None or not user.email or not user.enabled:
            return []
        emails = []
        title = " ".join(job.title.encode("utf-8", "replace").decode().split())
        if job.state is JobState.DONE and "done" in user.email_events:
            emails.append(Email(user.email, f"Done: {title}", f"“{title}” is done. Open Relume to see the result."))
        if job.state is JobState.FAILED and "failed" in user.email_events:
            reason = plain_message(job, self._queue.files(job.id))
            emails.append(Email(user.email, f"Failed: {title}", f"“{title}” failed.\n\n{reason}"))
        if "queue_empty" in user.email_events and self._is_idle(user):
            emails.append(Email(user.email, "All your jobs are done", "All your jobs have finished."))
        return emails

    def _is_idle(self, user: User) -> bool:
        counts = self._queue.counts(user.id)
        return not (counts[JobState.QUEUED] or counts[JobState.RUNNING])

    def _run(self) -> None:
        while not self._stop.wait(POLL_EVERY_S):
            try:
                self.work()
            except StoreError as error:
                logger.warning("e-mail postponed: %s", error)
            except Exception:
                logger.exception("sending e-mail failed")


def send(settings: Settings, email: Email) -> str | None:
    """Send one message; return None if the mail server accepted it, otherwise the problem."""
    message = EmailMessage()
    message["From"] = settings.smtp_from or f"relume@{settings.smtp_host}"
    message["To"] = email.to
    message["Subject"] = email.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="relume.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(email.text)
    try:
        with _connect(settings) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password)
            server.send_message(message)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        return _describe(error, email.to)
    return None


def _describe(error: Exception, to: str) -> str:
    """Describe why a message was not sent."""
    messages: tuple[tuple[type[Exception], str], ...] = (
        (smtplib.SMTPAuthenticationError, "the mail server rejected the user name or password"),
        (smtplib.SMTPRecipientsRefused, f"the mail server does not accept mail to {to}"),
        (smtplib.SMTPSenderRefused, "the mail server does not accept the sender; check Sender in the settings"),
        (
            smtplib.SMTPNotSupportedError,
            "the mail server does not support this login or encryption; check the settings",
        ),
        (smtplib.SMTPException, f"the mail server rejected the message ({' '.join(str(error).split())[:200]})"),
    )
    known = next((words for kind, words in messages if isinstance(error, kind)), None)
    return known or f"cannot reach the mail server: {describe_connection_error(error, timeout_s=_TIMEOUT_S)}"


def _connect(settings: Settings) -> smtplib.SMTP:
    host, port = settings.smtp_host, settings.smtp_port
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT_S, context=ssl.create_default_context())
    server = smtplib.SMTP(host, port, timeout=_TIMEOUT_S)
    if settings.smtp_security == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server
