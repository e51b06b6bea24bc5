"""Sends visitors who typed the address without https:// on to the page under TLS."""

import asyncio
import re
from typing import Final

from appliance.settings_check import listen
from appliance.web.connections import Visitors, limit_connections

_MOST_HEAD: Final = 8192
_WAIT_S: Final = 5.0
_HOST = re.compile(rb"(?im)^host:[ \t]*([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?[ \t]*\r?$")


async def serve_redirects(host: str, port: int, tls_port: int, visitors: Visitors) -> asyncio.Server:
    """Listen on a plain port and answer every request with the https address of the start page.

    Connections count with those to the page itself.

    Raises:
        SettingsError: The port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head, tls_port))
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    listening = limit_connections(listen(host, port), visitors)
    return await asyncio.start_server(answer, sock=listening, limit=_MOST_HEAD)


def _answer(head: bytes, tls_port: int) -> bytes:
    found = _HOST.search(head)
    if found is None:
        return b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    place = b"https://%b:%d/" % (found[1], tls_port)
    return (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nConnection: close\r\nContent-Length: 0\r\n"
        b"Cache-Control: no-store\r\n\r\n" % place
    )
