import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509

from appliance.errors import SettingsError
from appliance.settings_file import load_settings
from appliance.web import tls
from appliance.web.tls import provide_certificate


def alternatives(path: Path) -> x509.SubjectAlternativeName:
    held = x509.load_pem_x509_certificate(path.read_bytes())
    return held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_the_server_makes_a_certificate_for_its_names_and_addresses_once(tmp_path: Path):
    settings = load_settings(tmp_path, host_names=("box.studio.example",))

    made = provide_certificate(settings)

    names = alternatives(made.certificate)
    assert {"relume.local", "localhost", "box.studio.example", socket.gethostname().lower()} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    assert ipaddress.ip_address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)
    held = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    assert held.not_valid_after_utc - held.not_valid_before_utc <= datetime.timedelta(days=398)
    assert made.fingerprint.count(":") == 31
    assert provide_certificate(settings) == made


def test_the_key_is_for_the_own_eyes_alone(tmp_path: Path):
    made = provide_certificate(load_settings(tmp_path))

    assert os.stat(made.key).st_mode & 0o777 == 0o600
    assert os.stat(made.key.parent).st_mode & 0o777 == 0o700


def test_a_new_name_or_a_near_end_makes_a_new_certificate(tmp_path: Path, monkeypatch):
    first = provide_certificate(load_settings(tmp_path))

    second = provide_certificate(load_settings(tmp_path, host_names=("new.example",)))
    assert second.fingerprint != first.fingerprint

    monkeypatch.setattr(tls, "_RENEW_DAYS", 1000)
    assert provide_certificate(load_settings(tmp_path, host_names=("new.example",))).fingerprint != second.fingerprint


def test_a_broken_certificate_is_replaced(tmp_path: Path):
    made = provide_certificate(load_settings(tmp_path))
    made.certificate.write_text("broken")

    assert provide_certificate(load_settings(tmp_path)).fingerprint != made.fingerprint


def test_a_browser_that_trusts_it_reaches_the_server_by_name(tmp_path: Path):
    made = provide_certificate(load_settings(tmp_path))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(made.certificate, made.key)
    trusting = ssl.create_default_context(cafile=str(made.certificate))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            line, _ = listening.accept()
            with serving.wrap_socket(line, server_side=True) as secure:
                secure.sendall(b"hello")

        thread = threading.Thread(target=accept)
        thread.start()
        with (
            socket.create_connection(listening.getsockname()) as line,
            trusting.wrap_socket(line, server_hostname="relume.local") as secure,
        ):
            assert secure.recv(5) == b"hello"
        thread.join()


def test_the_owners_certificate_is_used_and_checked(tmp_path: Path):
    made = provide_certificate(load_settings(tmp_path))
    own = load_settings(tmp_path / "other", tls_certificate=made.certificate, tls_key=made.key)

    given = provide_certificate(own)

    assert (given.certificate, given.is_own, given.fingerprint) == (made.certificate, False, made.fingerprint)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("broken", ["missing", "not pem", "another key", "encrypted"])
def test_an_owners_certificate_that_cannot_be_used_is_refused_with_a_message(tmp_path: Path, broken):
    made = provide_certificate(load_settings(tmp_path))
    key = tmp_path / "key.pem"
    if broken == "not pem":
        key.write_text("no key")
    elif broken == "another key":
        key.write_bytes(provide_certificate(load_settings(tmp_path / "b")).key.read_bytes())
    elif broken == "encrypted":
        command = ["openssl", "ec", "-in", str(made.key), "-aes256", "-passout", "pass:x", "-out", str(key)]
        subprocess.run(command, check=True, capture_output=True)

    with pytest.raises(SettingsError, match="cannot be used"):
        provide_certificate(load_settings(tmp_path, tls_certificate=made.certificate, tls_key=key))
