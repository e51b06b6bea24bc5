"""Webhooks: URLs that receive a message when a job finishes, and the thread that delivers the messages."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from appliance.accounts.audit import record
from appliance.accounts.credentials import new_id, new_secret
from appliance.accounts.principal import Actor
from appliance.errors import WebhookError, WebhookNotFoundError
from appliance.jobs.job import FINISHED, JobRecord
from appliance.jobs.job_files import JobFiles
from appliance.jobs.queue import JobQueue
from appliance.settings import Settings
from appliance.store.database import Database
from appliance.store.errors import StoreError
from appliance.web.views import plain_message
from appliance.web.webhook_sender import check_url, redact_url, send

logger = logging.getLogger(__name__)

EVENTS: Final = ("job.done", "job.failed", "job.cancelled")
POLL_EVERY_S: Final = 2.0
_FIRST_WAIT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 3600.0
_KEPT_DELIVERIES: Final = 1000
_MAX_WEBHOOKS: Final = 50
_MAX_PER_TURN: Final = 20


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL and the events that it receives."""

    id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    created_at: float
    last_status: str | None


class Webhooks:
    """The webhooks of this server, and the thread that delivers their messages."""

    def __init__(self, database: Database, queue: JobQueue, settings: Settings) -> None:
        self._database, self._queue, self._settings = database, queue, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def list(self) -> list[Webhook]:
        """Return all webhooks without their secrets, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT id, url, events, enabled, created_at, last_status FROM webhooks ORDER BY created_at"
            ).fetchall()
        return [_webhook(row) for row in rows]

    def add(self, url: str, events: Collection[str], *, actor: Actor) -> tuple[Webhook, str]:
        """Add a webhook; return it and its secret, which cannot be read again.

        Raises:
            WebhookError: The URL or an event is not accepted.
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
            # Jobs that finished before the first webhook are not sent.
            connection.execute("INSERT OR IGNORE INTO webhook_mark VALUES (1, (SELECT revision FROM job_revision))")
            record(connection, actor, "webhook_added", redact_url(url))
        return webhook, secret

    def remove(self, webhook_id: str, *, actor: Actor) -> None:
        """Remove a webhook and its undelivered messages.

        Raises:
            WebhookNotFoundError: There is no such webhook.
        """
        with self._database.transaction() as connection:
            row = connection.execute("DELETE FROM webhooks WHERE id = ? RETURNING url", (webhook_id,)).fetchone()
            if row is None:
                raise WebhookNotFoundError("webhook not found; it may have been deleted")
            record(connection, actor, "webhook_removed", redact_url(row["url"]))

    def test(self, webhook_id: str) -> str | None:
        """Send a message with the event `test`; return None if it was accepted, otherwise the problem.

        Raises:
            WebhookNotFoundError: There is no such webhook.
        """
        with self._database.read() as connection:
            row = connection.execute("SELECT url, secret FROM webhooks WHERE id = ?", (webhook_id,)).fetchone()
        if row is None:
            raise WebhookNotFoundError("webhook not found; it may have been deleted")
        body = json.dumps({"event": "test", "message": "This is a test message from Relume."})
        problem = send(row["url"], row["secret"], "test", body, timeout_s=self._settings.webhook_timeout_s)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE webhooks SET last_status = ? WHERE id = ?", (problem or "delivered (test)", webhook_id)
            )
        return problem

    def start(self) -> None:
        """Start the delivery thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the delivery thread; the remaining messages are delivered after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(self._settings.webhook_timeout_s + 5)

    def work(self) -> int:
        """Create messages for finished jobs and deliver those that are due; return how many were due.

        Each webhook has its own thread, so that a slow one does not delay others. A failure ends its turn.
        """
        self._collect()
        with self._database.read() as connection:
            due = connection.execute(
                "SELECT * FROM (SELECT deliveries.id, webhook, url, secret, event, body, attempts, "
                "ROW_NUMBER() OVER (PARTITION BY webhook ORDER BY next_at, deliveries.id) AS turn FROM deliveries "
                "JOIN webhooks ON webhooks.id = webhook WHERE done = 0 AND enabled = 1 AND next_at <= ?) "
                "WHERE turn <= ? ORDER BY webhook, turn",
                (time.time(), _MAX_PER_TURN),
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
        """Deliver one message; return True if it was accepted."""
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
            return False  # aborted by the shutdown: does not count as an attempt
        attempts, now = row["attempts"] + 1, time.time()
        ends = problem is None or attempts >= self._settings.webhook_attempts
        if problem is not None:
            logger.warning("webhook %s: attempt %d failed: %s", redact_url(row["url"]), attempts, problem)
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
        while not self._stop.wait(POLL_EVERY_S):
            try:
                self.work()
            except StoreError as error:
                logger.warning("webhook delivery postponed: %s", error)
            except Exception:
                logger.exception("webhook delivery failed")


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
