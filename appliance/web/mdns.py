"""Announces this server as relume.local on the local network (mDNS); a failure never stops the server."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from runtime.version import relume_version

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf


logger = logging.getLogger(__name__)

HOST_NAME: Final = "relume.local"
_STOP_S: Final = 3.0


@contextmanager
def announce(port: int, *, tls: bool, name: str = "Relume", interfaces: list[str] | None = None) -> Iterator[None]:
    """Announce the server while the block runs; a failure is only logged.

    Registering waits over a second for responses of other machines, so it runs in a thread.

    Args:
        port: The port of the web page.
        tls: Whether it uses https.
        name: The service name; if another machine has it, this one becomes "Relume-2" and so on.
        interfaces: Addresses of the networks to announce on; None for all.
    """
    stopped = threading.Event()
    thread = threading.Thread(
        target=_run, args=(port, tls, name, interfaces, stopped), name="relume-announce", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_STOP_S)


def _run(port: int, tls: bool, name: str, interfaces: list[str] | None, stopped: threading.Event) -> None:
    try:
        from zeroconf import InterfaceChoice, NonUniqueNameException, Zeroconf

        addresses = interfaces or own_addresses()
        if not addresses:
            logger.info("no network to announce %s on", HOST_NAME)
            return
        zeroconf = Zeroconf(interfaces=interfaces or InterfaceChoice.All)
    except Exception as error:  # the outermost loop of the thread
        logger.warning("cannot announce %s on the network: %s", HOST_NAME, error)
        return
    try:
        info = describe_service(port, tls=tls, name=name, addresses=addresses)
        try:
            zeroconf.register_service(info, allow_name_change=True)
        except NonUniqueNameException:
            logger.warning("another machine is already named %s; open this server by its address", HOST_NAME)
        else:
            logger.info("announced as %s, port %d", HOST_NAME, port)
            stopped.wait()
    except Exception as error:  # the outermost loop of the thread
        logger.warning("cannot announce %s on the network: %s", HOST_NAME, error)
    finally:
        _close(zeroconf)


def describe_service(port: int, *, tls: bool, name: str, addresses: list[str]) -> "ServiceInfo":
    """Return the mDNS description of the web page, with the host relume.local."""
    from zeroconf import ServiceInfo

    kind = "_https._tcp.local." if tls else "_http._tcp.local."
    return ServiceInfo(
        kind,
        f"{name}.{kind}",
        port=port,
        parsed_addresses=addresses,
        server=f"{HOST_NAME}.",
        properties={"path": "/", "version": relume_version()},
    )


def own_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine without loopback addresses."""
    from ifaddr import get_adapters

    found = {str(entry.ip) for adapter in get_adapters() for entry in adapter.ips if entry.is_IPv4}
    return sorted(address for address in found if not address.startswith("127."))


def _close(zeroconf: "Zeroconf") -> None:
    try:
        zeroconf.close()
    except Exception as error:  # the outermost loop of the thread
        logger.debug("could not withdraw the mDNS announcement: %s", error)
