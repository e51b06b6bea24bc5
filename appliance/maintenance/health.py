"""Container health check, `python -m appliance.maintenance.health`: asks the server on this machine."""

import http.client
import json
import ssl
import sys
from typing import Final

from appliance.settings import Settings
from appliance.settings_file import load_settings
from runtime.errors import RelumeError

_TIMEOUT_S: Final = 5.0


def ask(settings: Settings) -> str:
    """Request the health of the server.

    Returns:
        Its version.

    Raises:
        OSError: It does not respond, or is not healthy.
    """
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    connection = _connect(host, settings)
    try:
        connection.request("GET", "/health")
        response = connection.getresponse()
        body = response.read(65536)
        if response.status != http.client.OK:
            raise OSError(f"the server responded with status {response.status}")
        found = json.loads(body)
        if found.get("status") != "ok":
            raise OSError(f"the server reports the status {found.get('status')}")
        return str(found.get("version"))
    except (http.client.HTTPException, ValueError, AttributeError) as error:
        raise OSError(f"the response of the server cannot be read: {error}") from error
    finally:
        connection.close()


def _connect(host: str, settings: Settings) -> http.client.HTTPConnection:
    if not settings.tls:
        return http.client.HTTPConnection(host, settings.port, timeout=_TIMEOUT_S)
    # The certificate is for the server's name, but the connection uses the loopback address.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, settings.port, timeout=_TIMEOUT_S, context=context)


def main() -> int:
    """Print the health of the server; return 0 if it is healthy."""
    try:
        print(f"healthy, Relume {ask(load_settings())}")
    except (OSError, RelumeError) as error:
        print(f"unhealthy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
