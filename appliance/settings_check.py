"""Checks of changed settings against this machine: address, certificate, own models, backend and devices."""

import os
import socket
from collections.abc import Collection
from typing import Final

from appliance.errors import SettingsError
from appliance.settings import Settings
from appliance.validation_messages import quote_value

_ADDRESS: Final = frozenset({"host", "port", "plain_port", "tls"})
_CERTIFICATE: Final = frozenset({"tls", "tls_certificate", "tls_key"})


def check_settings(wanted: Settings, running: Settings, changed: Collection[str]) -> None:
    """Reject settings with which the server could not start or run jobs.

    Args:
        wanted: All settings including the changes.
        running: The settings of the running server, whose own ports are not in conflict.
        changed: The names of the changed settings; the others are not checked.

    Raises:
        SettingsError: A setting is not usable on this machine.
    """
    names = set(changed)
    if names & _ADDRESS:
        _check_address(wanted, running, names)
    if names & _CERTIFICATE and wanted.tls:
        _check_certificate(wanted)
    if "zoo" in names and wanted.zoo is not None and not wanted.zoo.is_dir():
        raise _invalid("zoo", f"Own models: the folder {wanted.zoo} does not exist on this server; create it first")
    if names & {"backend", "device"}:
        _check_backends(wanted, names)


def available_devices() -> list[str]:
    """Return the valid values of the setting `device` on this machine."""
    from runtime.hardware import detect_hardware

    return ["auto", "cpu", *(f"gpu:{number}" for number, _ in enumerate(detect_hardware().gpus))]


def available_backends() -> list[str]:
    """Return the valid values of the setting `backend` on this machine."""
    from runtime.engine.backends import list_backends

    return ["auto", *(backend.name for backend in list_backends() if backend.available)]


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        SettingsError: The address does not belong to this machine, or the port is in use or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Binding is not enough: another server may have bound the port as well, and listen later.
        listening.listen(512)
    except (OSError, UnicodeError) as error:
        listening.close()
        raise _address_error(error, host, port) from error
    return listening


def _address_error(error: Exception, host: str, port: int) -> SettingsError:
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror | UnicodeError):
        return _invalid("host", f"unknown listen address {quote_value(host)}; enter an address such as 0.0.0.0")
    if number == 99:  # EADDRNOTAVAIL
        return _invalid("host", f"this machine does not have the address {host}; use 0.0.0.0 for all its addresses")
    if number == 13:  # EACCES
        return _invalid("port", f"cannot listen on port {port}: ports below 1024 are not allowed here; choose another")
    if number == 98:  # EADDRINUSE
        return _invalid("port", f"cannot listen on port {port}: it is already in use; choose another with --port")
    return _invalid("port", f"cannot listen on port {port} of {host}: {os.strerror(number or 0)}")


def _check_address(wanted: Settings, running: Settings, names: set[str]) -> None:
    if wanted.tls and wanted.plain_port == wanted.port:
        raise _invalid("plain_port", f"port {wanted.port} cannot serve both https and http; choose two ports")
    own = {running.port, running.plain_port if running.tls else 0}
    ports = {"port": wanted.port} | ({"plain_port": wanted.plain_port} if wanted.tls and wanted.plain_port else {})
    for name, port in ports.items():
        # A port of this server counts as free; a new address is then tested with any free port.
        tested = 0 if port in own else port
        if tested == 0 and "host" not in names:
            continue
        try:
            listen(wanted.host, tested).close()
        except SettingsError as error:
            error.field = name if error.field == "port" else error.field
            raise


def _check_certificate(wanted: Settings) -> None:
    from appliance.web.tls import check_certificate

    if wanted.tls_certificate is None or wanted.tls_key is None:
        return
    for name, path in (("tls_certificate", wanted.tls_certificate), ("tls_key", wanted.tls_key)):
        title = Settings.model_fields[name].title
        if not path.is_file():
            raise _invalid(name, f"{title}: the file {path} does not exist on this server")
        if not os.access(path, os.R_OK):
            raise _invalid(name, f"{title}: permission denied for {path}; make it readable for the user of the server")
    check_certificate(wanted.tls_certificate, wanted.tls_key)


def _check_backends(wanted: Settings, names: set[str]) -> None:
    backends, devices = available_backends(), available_devices()
    if "backend" in names and wanted.backend not in backends:
        unknown = f"unknown backend {quote_value(wanted.backend)}; this machine has: {', '.join(backends)}"
        raise _invalid("backend", unknown)
    given = wanted.device.split(",")
    if "device" in names and (not set(given) <= set(devices) or len(set(given)) < len(given)):
        unknown = f"unknown or repeated device in {quote_value(wanted.device)}"
        raise _invalid("device", f"{unknown}; this machine has: {', '.join(devices)}")


def _invalid(field: str, message: str) -> SettingsError:
    return SettingsError(message, code="setting_refused", field=field)
