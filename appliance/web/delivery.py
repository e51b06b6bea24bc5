"""One message to another program: its address checked, its body signed, its answer judged.

`X-Relume-Delivery` names the message. The signature is
`X-Relume-Signature: t=<seconds>,v1=<HMAC-SHA256 of "t.body" with the webhook's secret>`. An
administrator names the address, and programs on the LAN are meant: private addresses are allowed. Nothing but http and
https is spoken, no redirect is followed, and of the answer only the status counts.
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
from appliance.faults import describe_unreachable, show_value
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
            f"{show_value(url)} is not a URL such as https://server.example/hook", code="webhook_url", field="url"
        )
    if parts.username is not None or parts.password is not None:
        raise WebhookError(
            "leave the password out of the URL: it would be shown in lists and logs", code="webhook_url", field="url"
        )


def sign(secret: str, body: str, at: int) -> str:
    """Give the signature header's value for a body sent at a time."""
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
        return f"could not be reached: {describe_unreachable(error, timeout_s=timeout_s)}"
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
