import asyncio

import pytest

from appliance.web.connections import ConnectionLimiter
from appliance.web.tls import serve_redirects


def ask(text: bytes) -> bytes:
    async def run() -> bytes:
        server = await serve_redirects("127.0.0.1", 0, 8443, ConnectionLimiter())
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(text)
            writer.write_eof()
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await writer.wait_closed()
        return answer

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("host", "place"),
    [
        (b"relume.local:8080", b"https://relume.local:8443/"),
        (b"192.168.1.7", b"https://192.168.1.7:8443/"),
        (b"[fe80::1]:8080", b"https://[fe80::1]:8443/"),
    ],
)
def test_a_visitor_without_tls_is_sent_on_to_the_page(host, place):
    answer = ask(b"GET /x?token=secret HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 307 ")
    assert b"\r\nLocation: " + place + b"\r\n" in answer
    assert b"secret" not in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example/@\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@host\r\n\r\n",
    ],
)
def test_a_request_without_a_usable_host_leads_nowhere(request_):
    assert ask(request_).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("request_", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000])
def test_what_is_no_request_is_dropped(request_):
    assert ask(request_) == b""
