"""Sends one webhook message: checks the URL, signs the body, and judges the response by its status.

The header `X-Relume-Delivery` is the id of the message. The signature is
`X-Relume-Signature: t=<seconds>,v1=<HMAC-SHA256 of "t.body" with the webhook's secret>`. Administrators set the URL,
and programs on the local network are intended targets, so private addresses are allowed. Only http and https are used,
and redirects are not followed.
"""

import hashlib
import hmac
import http.client
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from appliance.errors import WebhookError
from appliance.validation_messages import describe_connection_error, quote_value
from runtime.version import relume_version

_POLL_S: Final = 0.1


def check_url(url: str) -> None:
    """Check that a URL is a plain http or https URL without credentials.

    Raises:
        WebhookError: It is not; the message says what is expected.
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
            "the URL must not contain a password: lists and logs would show it",
            code="webhook_url",
            field="url",
        )


def sign(secret: str, body: str, at: int) -> str:
    """Return the value of the signature header for a body that is sent at a time."""
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
    """Send one message.

    Args:
        url: The URL.
        secret: The key of the signature.
        event: The event name.
        body: The JSON body.
        timeout_s: The limit for the whole exchange, however slowly the response arrives.
        delivery: The id of the message, which stays the same when it is sent again.
        stop: Aborts the exchange.

    Returns:
        None if the message was accepted, otherwise the problem.
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
        return f"cannot be reached: {describe_connection_error(error, timeout_s=timeout_s)}"
    if 200 <= status < 300:
        return None
    return f"responded with status {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, stop: threading.Event) -> int:
    """Send one request without redirects and proxies; return the status of the response."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=timeout_s)
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        ends = time.monotonic() + timeout_s
        while not done.wait(_POLL_S):
            if stop.is_set() or time.monotonic() >= ends:
                late.set()
                with suppress(OSError):
                    if connection.sock is not None:
                        # The socket timeout limits a single read only; this aborts one in progress.
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


def redact_url(url: str) -> str:
    """Shorten a URL for logs: its path and query may contain a secret of the receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/..."
