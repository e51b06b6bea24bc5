"""The certificate of the server: a provided one, or its own self-signed one, created on the first start."""

import asyncio
import datetime
import ipaddress
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.settings_check import listen
from appliance.web.connections import ConnectionLimiter, limit_connections
from runtime.atomic_files import write_durably

_DAYS: Final = 397
"""Browsers reject certificates with a longer lifetime."""
_RENEW_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate and its key; `fingerprint` is the SHA-256 fingerprint that browsers show."""

    certificate: Path
    key: Path
    fingerprint: str
    is_own: bool


def own_names() -> frozenset[str]:
    """Return the host names of this machine."""
    name = socket.gethostname().lower()
    return frozenset({"localhost", "relume.local", name, f"{name.partition('.')[0]}.local"})


def provide_certificate(settings: Settings) -> Certificate:
    """Return the provided certificate, or the server's own, which is created or renewed as needed.

    Raises:
        SettingsError: The provided files cannot be read, or do not match.
    """
    if settings.tls_certificate is not None and settings.tls_key is not None:
        return check_certificate(settings.tls_certificate, settings.tls_key)
    certificate, key = settings.secrets / "box.crt", settings.secrets / "box.key"
    names = sorted(own_names() | set(settings.host_names))
    if not _is_valid(certificate, key, names):
        _make(certificate, key, names, own_addresses())
    return Certificate(certificate, key, _fingerprint(certificate), is_own=True)


def own_addresses() -> list[str]:
    """Return the IP addresses of this machine."""
    found = {"127.0.0.1", "::1"}
    with suppress(OSError):
        found |= {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(socket.gethostname(), None)}
    # The address of the default route; connecting a datagram socket sends nothing.
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.add(probe.getsockname()[0])
        except OSError:
            continue
    return sorted(found)


def _is_valid(certificate: Path, key: Path, names: list[str]) -> bool:
    from cryptography import x509

    try:
        held = x509.load_pem_x509_certificate(certificate.read_bytes())
        known = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        there = key.is_file()
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    left = held.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    # Addresses are not compared: they change with the network, and users would have to accept each new certificate.
    return there and left.days >= _RENEW_DAYS and set(names) <= set(known.get_values_for_type(x509.DNSName))


def _make(certificate: Path, key: Path, names: list[str], addresses: list[str]) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Relume server")])
    now = datetime.datetime.now(datetime.UTC)
    usable = [name for name in names if name.isascii() and 0 < len(name) < 254]
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in usable]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    created = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        # A day earlier, for clients whose clock is slow.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    text = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key, text)
    _write(certificate, created.public_bytes(serialization.Encoding.PEM))


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, content, mode=0o600)
    except OSError as error:
        raise SettingsError(f"cannot write the certificate to {path}: {error.strerror}") from error


def check_certificate(certificate: Path, key: Path) -> Certificate:
    """Load a provided certificate.

    Raises:
        SettingsError: The files cannot be read, or do not match.
    """
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise SettingsError(
            f"the certificate {certificate} with the key {key} cannot be used: both must be matching PEM files, and "
            "the key must have no password",
            code="setting_refused",
            field="tls_certificate",
        ) from error
    return Certificate(certificate, key, _fingerprint(certificate), is_own=False)


def _fingerprint(certificate: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    digest = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    return ":".join(f"{byte:02X}" for byte in digest)


_MAX_HEAD: Final = 8192
_WAIT_S: Final = 5.0
_HOST = re.compile(rb"(?im)^host:[ \t]*([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?[ \t]*\r?$")


async def serve_redirects(host: str, port: int, tls_port: int, limiter: ConnectionLimiter) -> asyncio.Server:
    """Listen on the http port and redirect every request to the https start page.

    Connections count towards the same limits as those to the page.

    Raises:
        SettingsError: The port is in use.
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

    listening = limit_connections(listen(host, port), limiter)
    return await asyncio.start_server(answer, sock=listening, limit=_MAX_HEAD)


def _answer(head: bytes, tls_port: int) -> bytes:
    found = _HOST.search(head)
    if found is None:
        return b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    place = b"https://%b:%d/" % (found[1], tls_port)
    return (
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %b\r\nConnection: close\r\nContent-Length: 0\r\n"
        b"Cache-Control: no-store\r\n\r\n" % place
    )
