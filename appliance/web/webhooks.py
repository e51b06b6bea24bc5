"""One message to another program: its address checked, its body signed, its answer judged.

`X-Relume-Delivery` names the message. The signature is
`X-Relume-Signature: t=<seconds>,v1=<HMAC-SHA256 of "t.body" with the webhook's secret>`. An
administrator names the address, and programs on the LAN are meant: private addresses are allowed. Nothing but http and
https is spoken, no redirect is followed, and of the answer only the status counts.
"""

import hashlib
import hmac
import http.client
import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from appliance.accounts.audit import Actor, record
from appliance.accounts.credentials import new_id, new_secret
from appliance.errors import WebhookError, WebhookNotFoundError
from appliance.jobs.job import FINISHED, JobRecord
from appliance.jobs.job_files import JobFiles
from appliance.jobs.queue import JobQueue
from appliance.settings import Settings
from appliance.store.database import Database
from appliance.store.errors import StoreError
from appliance.validation_messages import describe_connection_error, quote_value
from appliance.web.views import plain_message
from runtime.version import relume_version

_LOOK_S: Final = 0.1


def check_url(url: str) -> None:
    """Refuse an address that is not plain http or https.

    Raises:
        WebhookError: It says what is expected.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or len(url) > 2000 or any(mark <= " " or mark == "\x7f" for mark in url) or not url.isascii():
        raise WebhookError(
            f"{quote_value(url)} is not a URL such as https://server.example/hook", code="webhook_url", field="url"
        )
    if parts.username is not None or parts.password is not None:
        raise WebhookError(
            "leave the password out of the URL: it would be shown in lists and logs", code="webhook_url", field="url"
        )


def sign(secret: str, body: str, at: int) -> str:
    """Return the signature header's value for a body sent at a time."""
    digest = hmac.new(secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def send(
    url: str,
    secret: str,
    event: str,
    body: str,
    *,
    timeout_s: float,
    delivery: str = "",
    stop: threading.Event | None = None,
) -> str | None:
    """Send one message; None if it was taken, else what went wrong.

    Args:
        url: Where to.
        secret: Signs it.
        event: Its kind.
        body: The message.
        timeout_s: For the whole exchange: one who answers a byte at a time gets no more.
        delivery: Names the message: one that is sent again has the same.
        stop: Ends the exchange early.
    """
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"relume/{relume_version()}",
        "X-Relume-Event": event,
        "X-Relume-Signature": sign(secret, body, int(time.time())),
        "X-Relume-Delivery": delivery,
    }
    try:
        check_url(url)
        status = _post(url, body.encode(), headers, timeout_s, stop or threading.Event())
    except WebhookError as error:
        return str(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"could not be reached: {describe_connection_error(error, timeout_s=timeout_s)}"
    if 200 <= status < 300:
        return None
    return f"answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, stop: threading.Event) -> int:
    """Make one request and give the answer's status; no redirects, no proxies."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=timeout_s)
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        ends = time.monotonic() + timeout_s
        while not done.wait(_LOOK_S):
            if stop.is_set() or time.monotonic() >= ends:
                late.set()
                with suppress(OSError):
                    if connection.sock is not None:
                        # Not only the time between two bytes counts: this ends a read that is under way.
                        connection.sock.shutdown(socket.SHUT_RDWR)
                        return

    watcher = threading.Thread(target=watch, name="relume-webhook-limit", daemon=True)
    watcher.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        return connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        done.set()
        watcher.join()
        connection.close()


def shown(url: str) -> str:
    """Shorten an address for logs: the path and query may hold a secret of the other side."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/..."


logger = logging.getLogger(__name__)

EVENTS: Final = ("job.done", "job.failed", "job.cancelled")
LOOK_EVERY_S: Final = 2.0
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 3600.0
_KEPT_DELIVERIES: Final = 1000
_MAX_WEBHOOKS: Final = 50
_MAX_IN_TURN: Final = 20


@dataclass(frozen=True, slots=True)
class Webhook:
    """One address that is told."""

    id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    created_at: float
    last_status: str | None


class Webhooks:
    """The webhooks of a box, and the thread that serves them."""

    def __init__(self, database: Database, queue: JobQueue, settings: Settings) -> None:
        self._database, self._queue, self._settings = database, queue, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def list(self) -> list[Webhook]:
        """Return every webhook, the oldest first; their secrets are not shown."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, url, events, enabled, created_at, last_status FROM webhooks ORDER BY created_at"
            ).fetchall()
        return [_webhook(row) for row in rows]

    def add(self, url: str, events: Collection[str], *, actor: Actor) -> tuple[Webhook, str]:
        """Add a webhook; its secret is never shown again.

        Raises:
            WebhookError: The address or an event is not accepted.
        """
        check_url(url)
        unknown = sorted(set(events) - set(EVENTS))
        if unknown or not events:
            raise WebhookError(f"select at least one event: {', '.join(EVENTS)}", code="webhook_events", field="events")
        kept = tuple(event for event in EVENTS if event in events)
        webhook, secret = Webhook(new_id(), url, kept, True, time.time(), None), new_secret()
        with self._database.transaction() as connection:
            (there,) = connection.execute("SELECT COUNT(*) FROM webhooks").fetchone()
            if there >= _MAX_WEBHOOKS:
                raise WebhookError(f"there are already {there} webhooks, which is the maximum; remove one first")
            connection.execute(
                "INSERT INTO webhooks (id, url, events, secret, created_at) VALUES (?, ?, ?, ?, ?)",
                (webhook.id, url, json.dumps(kept), secret, webhook.created_at),
            )
            # What ended before there was a webhook is not told.
            connection.execute("INSERT OR IGNORE INTO webhook_mark VALUES (1, (SELECT revision FROM job_revision))")
            record(connection, actor, "webhook_added", shown(url))
        return webhook, secret

    def remove(self, webhook_id: str, *, actor: Actor) -> None:
        """Remove a webhook and what was still to be delivered to it.

        Raises:
            WebhookNotFoundError: There is none of that id.
        """
        with self._database.transaction() as connection:
            row = connection.execute("DELETE FROM webhooks WHERE id = ? RETURNING url", (webhook_id,)).fetchone()
            if row is None:
                raise WebhookNotFoundError("there is no such webhook; it may have been removed")
            record(connection, actor, "webhook_removed", shown(row["url"]))

    def test(self, webhook_id: str) -> str | None:
        """Send a message with the event `test`; None if it was taken, else what went wrong.

        Raises:
            WebhookNotFoundError: There is none of that id.
        """
        with self._database.read() as connection:
            row = connection.execute("SELECT url, secret FROM webhooks WHERE id = ?", (webhook_id,)).fetchone()
        if row is None:
            raise WebhookNotFoundError("there is no such webhook; it may have been removed")
        body = json.dumps({"event": "test", "message": "This is a test message of Relume."})
        problem = send(row["url"], row["secret"], "test", body, timeout_s=self._settings.webhook_timeout_s)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE webhooks SET last_status = ? WHERE id = ?", (problem or "delivered (test)", webhook_id)
            )
        return problem

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what was not delivered is delivered after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.webhook_timeout_s + 5)

    def work(self) -> int:
        """Turn jobs that ended into deliveries, and deliver what is due; give how many were due.

        Every webhook has a thread of its own for it: a slow one holds up no other. One that fails ends its turn.
        """
        self._collect()
        with self._database.read() as connection:
            due = connection.execute(
                "SELECT * FROM (SELECT deliveries.id, webhook, url, secret, event, body, attempts, "
                "ROW_NUMBER() OVER (PARTITION BY webhook ORDER BY next_at, deliveries.id) AS turn FROM deliveries "
                "JOIN webhooks ON webhooks.id = webhook WHERE done = 0 AND enabled = 1 AND next_at <= ?) "
                "WHERE turn <= ? ORDER BY webhook, turn",
                (time.time(), _MAX_IN_TURN),
            ).fetchall()
        if due:
            groups = [tuple(rows) for _, rows in groupby(due, key=lambda row: row["webhook"])]
            with ThreadPoolExecutor(len(groups), thread_name_prefix="relume-webhook") as pool:
                for ended in [pool.submit(self._deliver_all, rows) for rows in groups]:
                    ended.result()
        return len(due)

    def _deliver_all(self, rows: Sequence[sqlite3.Row]) -> None:
        for row in rows:
            if self._stop.is_set() or not self._deliver(row):
                return

    def _collect(self) -> None:
        with self._database.read() as connection:
            mark = connection.execute("SELECT revision FROM webhook_mark").fetchone()
        if mark is None:
            return
        revision = self._queue.revision()
        if revision == mark["revision"]:
            return
        with self._database.transaction() as connection:
            hooks = [
                _webhook(row)
                for row in connection.execute(
                    "SELECT id, url, events, enabled, created_at, last_status FROM webhooks WHERE enabled = 1"
                )
            ]
            for job in self._queue.changed_since(mark["revision"]) if hooks else []:
                if job.state in FINISHED:
                    self._put(connection, job, hooks)
                revision = max(revision, job.revision)
            connection.execute("UPDATE webhook_mark SET revision = ?", (revision,))
            connection.execute(
                "DELETE FROM deliveries WHERE done = 1 AND id <= (SELECT MAX(id) FROM deliveries) - ?",
                (_KEPT_DELIVERIES,),
            )

    def _put(self, connection: sqlite3.Connection, job: JobRecord, hooks: Sequence[Webhook]) -> None:
        event = f"job.{job.state}"
        body = json.dumps(_describe(event, job, self._settings.data), ensure_ascii=False)
        connection.executemany(
            "INSERT OR IGNORE INTO deliveries (webhook, occasion, event, body, next_at) VALUES (?, ?, ?, ?, ?)",
            [
                (hook.id, f"{event} {job.id} {job.finished_at}", event, body, time.time())
                for hook in hooks
                if event in hook.events
            ],
        )

    def _deliver(self, row: sqlite3.Row) -> bool:
        """Deliver one message; tell whether it was taken."""
        problem = send(
            row["url"],
            row["secret"],
            row["event"],
            row["body"],
            timeout_s=self._settings.webhook_timeout_s,
            delivery=str(row["id"]),
            stop=self._stop,
        )
        if problem is not None and self._stop.is_set():
            return False  # the server stops: that was no attempt
        attempts, now = row["attempts"] + 1, time.time()
        ends = problem is None or attempts >= self._settings.webhook_attempts
        if problem is not None:
            logger.warning("webhook %s: attempt %d failed: %s", shown(row["url"]), attempts, problem)
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 3 ** (attempts - 1))
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET attempts = ?, done = ?, next_at = ? WHERE id = ?",
                (attempts, ends, now + wait_s, row["id"]),
            )
            connection.execute(
                "UPDATE webhooks SET last_status = ? WHERE id = ?", (problem or "delivered", row["webhook"])
            )
        return problem is None

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self.work()
            except StoreError as error:
                logger.warning("webhooks wait: %s", error)
            except Exception:
                logger.exception("webhooks failed")


def _describe(event: str, job: JobRecord, data: Path) -> dict[str, Any]:
    return {
        "event": event,
        "job": {
            "id": job.id,
            "title": job.title.encode("utf-8", "replace").decode(),
            "state": job.state,
            "origin": job.origin,
            "preset": job.options.preset,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "message": plain_message(job, JobFiles(data, job.id)),
            "code": job.code,
            "preview": job.preview_of is not None,
            "folder": job.folder,
        },
    }


def _webhook(row: sqlite3.Row) -> Webhook:
    return Webhook(row["id"], row["url"], tuple(json.loads(row["events"])), bool(row["enabled"]), row[4], row[5])
