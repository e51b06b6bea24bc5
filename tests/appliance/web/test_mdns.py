import logging
import socket
import time

import pytest
from zeroconf import AddressResolverIPv4, DNSQuestionType, Zeroconf

from appliance.web.mdns import announce, describe_service

LOOPBACK = ["127.0.0.1"]


def find(kind: str, name: str, *, within_s: float = 20.0):
    """Ask on the loopback network, as another machine would on a real one."""
    with Zeroconf(interfaces=LOOPBACK) as zeroconf:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = zeroconf.get_service_info(kind, f"{name}.{kind}", 1000, DNSQuestionType.QM)
            if found is not None:
                return found
    return None


def resolve(host: str, *, within_s: float = 20.0) -> list[str]:
    """Ask for the address of a host alone, as a browser does."""
    with Zeroconf(interfaces=LOOPBACK) as zeroconf:
        asked = AddressResolverIPv4(host)
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and not asked.request(zeroconf, 1000, DNSQuestionType.QM):
            pass
        return asked.parsed_addresses()


@pytest.fixture
def multicast() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(
                socket.IPPROTO_IP,
                socket.IP_ADD_MEMBERSHIP,
                socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1"),
            )
        except OSError:
            pytest.skip("this machine has no multicast")


@pytest.mark.usefixtures("multicast")
def test_the_page_is_found_under_relume_local_while_the_block_runs():
    with announce(8443, tls=True, name="Relume-test", interfaces=LOOPBACK):
        found = find("_https._tcp.local.", "Relume-test")
        resolved = resolve("relume.local.")

    assert found is not None
    assert found.server == "relume.local."
    assert resolved == LOOPBACK
    assert (found.port, found.parsed_addresses()) == (8443, LOOPBACK)
    assert find("_https._tcp.local.", "Relume-test", within_s=0.5) is None


def test_without_tls_it_is_an_http_service():
    info = describe_service(8080, tls=False, name="Relume", addresses=["192.0.2.7"])

    assert (info.type, info.port, info.parsed_addresses()) == ("_http._tcp.local.", 8080, ["192.0.2.7"])


def test_a_network_that_refuses_does_not_fail_the_server(monkeypatch, caplog):
    def refuse(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("zeroconf.Zeroconf.__init__", refuse)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING), announce(8443, tls=True, interfaces=LOOPBACK):
        pass

    assert time.monotonic() - begun < 3.0
    assert "cannot announce relume.local on the network" in caplog.text


def test_no_network_is_no_error(monkeypatch):
    monkeypatch.setattr("appliance.web.mdns.own_addresses", list)
    with announce(8443, tls=True):
        pass
