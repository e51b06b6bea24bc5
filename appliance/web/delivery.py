"""One message to another program: its address checked, its body signed, its answer judged.

The signature is `X-Relume-Signature: t=<seconds>,v1=<HMAC-SHA256 of "t.body" with the webhook's secret>`. An
administrator names the address, and programs on the LAN are meant: private addresses are allowed. Nothing but http and
https is spoken, no redirect is followed, and of the answer only the status counts.
"""

import hashlib
import hmac
import http.client
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from appliance.errors import WebhookError
from appliance.faults import describe_unreachable, show_value
from runtime.version import relume_version


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


def send(url: str, secret: str, event: str, body: str, *, timeout_s: float) -> str | None:
    """Send one message; None if it was taken, else what went wrong."""
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"relume/{relume_version()}",
        "X-Relume-Event": event,
        "X-Relume-Signature": sign(secret, body, int(time.time())),
    }
    try:
        check_url(url)
        request = urllib.request.Request(url, body.encode(), headers, method="POST")
        with _opener().open(request, timeout=timeout_s) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        status = error.code
    except WebhookError as error:
        return str(error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"could not be reached: {describe_unreachable(error, timeout_s=timeout_s)}"
    if 200 <= status < 300:
        return None
    return f"answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else "")


def _opener() -> urllib.request.OpenerDirector:
    """Make an opener that speaks http and https alone: no redirects, no proxies, no files."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


def shown(url: str) -> str:
    """Shorten an address for logs: the path and query may hold a secret of the other side."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/..."
