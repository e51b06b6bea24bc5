"""E-mail to users when their jobs end: over the SMTP server of the settings, from a thread of its own."""

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

LOOK_EVERY_S: Final = 2.0
_TIMEOUT_S: Final = 20.0
_ATTEMPTS: Final = 4
_WAIT_S: Final = 30.0
_MAX_WAITING: Final = 1000


@dataclass(frozen=True, slots=True)
class Email:
    """One message that is to be sent; `due_s` counts down the seconds until the next attempt."""

    to: str
    subject: str
    text: str
    attempts: int = 0
    due_s: float = 0.0


class Mailer:
    """Looks for jobs that ended and writes to their owners; what is not sent when the server ends is not sent."""

    def __init__(self, users: Users, queue: JobQueue, settings: Settings) -> None:
        self._users, self._queue, self._settings = users, queue, settings
        self._letters: deque[Email] = deque(maxlen=_MAX_WAITING)
        self._revision = queue.revision()
        self._told: dict[str, float | None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail", daemon=True)

    def start(self) -> None:
        """Begin to look, where a mail server is set."""
        if self._settings.smtp_host:
            self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT_S + 5)

    def test(self, to: str) -> None:
        """Send a test message at once.

        Raises:
            MailError: No mail server is set, or it did not take the message.
        """
        if not self._settings.smtp_host:
            raise MailError("no mail server is set; fill in Mail server in the settings and restart", code="mail")
        problem = send(self._settings, Email(to, "Relume test message", "E-mail notifications of Relume work."))
        if problem is not None:
            raise MailError(f"the test message was not sent: {problem}", code="mail")

    def work(self) -> None:
        """Look once, and send what is due."""
        for job in self._look():
            self._letters.extend(self._letters_for(job))
        for _ in range(len(self._letters)):
            letter = self._letters.popleft()
            if letter.due_s > 0:
                self._letters.append(replace(letter, due_s=letter.due_s - LOOK_EVERY_S))
                continue
            problem = send(self._settings, letter)
            if problem is None:
                continue
            attempts = letter.attempts + 1
            logger.warning("e-mail to %s: attempt %d failed: %s", letter.to, attempts, problem)
            if attempts < _ATTEMPTS:
                self._letters.append(replace(letter, attempts=attempts, due_s=_WAIT_S * 2**attempts))

    def _look(self) -> Sequence[JobRecord]:
        changed = self._queue.changed_since(self._revision)
        self._revision = max([self._revision, *(job.revision for job in changed)])
        ended = []
        for job in changed:
            # A job that ended can change once more, when its folder or its priority does: it is told once.
            if job.state in FINISHED and job.preview_of is None and self._told.get(job.id) != job.finished_at:
                ended.append(job)
            self._told[job.id] = job.finished_at
        while len(self._told) > _MAX_WAITING:
            del self._told[next(iter(self._told))]
        return ended

    def _letters_for(self, job: JobRecord) -> list[Email]:
        if job.owner is None or job.state is JobState.CANCELLED:
            return []
        user = next((user for user in self._users.list() if user.id == job.owner), None)
        if user is None or not user.email or not user.enabled:
            return []
        letters = []
        title = " ".join(job.title.encode("utf-8", "replace").decode().split())
        if job.state is JobState.DONE and "done" in user.email_events:
            letters.append(
                Email(user.email, f"Done: {title}", f"“{title}” is done. Open Relume to compare and download.")
            )
        if job.state is JobState.FAILED and "failed" in user.email_events:
            reason = plain_message(job, self._queue.files(job.id))
            letters.append(Email(user.email, f"Failed: {title}", f"“{title}” has failed.\n\n{reason}"))
        if "queue_empty" in user.email_events and self._is_idle(user):
            letters.append(Email(user.email, "All your jobs are done", "None of your jobs is waiting any more."))
        return letters

    def _is_idle(self, user: User) -> bool:
        counts = self._queue.counts(user.id)
        return not (counts[JobState.QUEUED] or counts[JobState.RUNNING])

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.work()
            except StoreError as error:
                logger.warning("e-mail waits: %s", error)
            except Exception:
                logger.exception("e-mail failed")


def send(settings: Settings, letter: Email) -> str | None:
    """Send one message; None if the mail server took it, else what went wrong, in words."""
    message = EmailMessage()
    message["From"] = settings.smtp_from or f"relume@{settings.smtp_host}"
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="relume.invalid")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text)
    try:
        with _connect(settings) as server:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password)
            server.send_message(message)
    except (OSError, ValueError, smtplib.SMTPException) as error:
        return _describe(error, letter.to)
    return None


def _describe(error: Exception, to: str) -> str:
    """Say in words why a message was not sent."""
    answers: tuple[tuple[type[Exception], str], ...] = (
        (smtplib.SMTPAuthenticationError, "the mail server refused the user name or the password"),
        (smtplib.SMTPRecipientsRefused, f"the mail server does not accept mail to {to}"),
        (smtplib.SMTPSenderRefused, "the mail server does not accept this sender; check Sender in the settings"),
        (smtplib.SMTPNotSupportedError, "the mail server offers no such log-in or encryption; check the settings"),
        (smtplib.SMTPException, f"the mail server refused the message ({' '.join(str(error).split())[:200]})"),
    )
    known = next((words for kind, words in answers if isinstance(error, kind)), None)
    return known or f"the mail server could not be reached: {describe_connection_error(error, timeout_s=_TIMEOUT_S)}"


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
