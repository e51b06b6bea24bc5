"""Writes `relume.toml` for the settings page: with a note on every setting, complete or not at all."""

import fcntl
import os
import socket
import tomllib
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import tomlkit

from appliance.errors import SettingsError
from appliance.settings import FILE_NAME, LAST_GOOD_NAME, PREFIX, Settings, build_settings, read_file
from appliance.validation_messages import quote_value, suggest
from runtime.atomic_files import write_durably


def fixed_settings() -> frozenset[str]:
    """Name the settings that the environment fixes, so that the file cannot change them."""
    return frozenset(name for name in Settings.model_fields if os.environ.get(f"{PREFIX}{name.upper()}"))


def save_settings(
    data: Path, changes: Mapping[str, Any], *, check: Callable[[Settings], None] | None = None
) -> Settings:
    """Write changed settings to `relume.toml`, complete or not at all; they take effect at the next start.

    Args:
        data: The data directory.
        changes: New values by name; None takes a setting back to its default.
        check: Looks at all settings as they would be, and may refuse them.

    Raises:
        SettingsError: A value is unknown or outside its bounds, or the file cannot be written; nothing is changed then.
    """
    fixed = sorted(set(changes) & (fixed_settings() | {"data"}))
    if fixed:
        raise SettingsError(
            f"{', '.join(fixed)} cannot be changed here: the command line or the environment sets it",
            code="setting_locked",
            field=fixed[0],
        )
    unknown = sorted(set(changes) - set(Settings.model_fields))
    if unknown:
        near = suggest(unknown[0], list(Settings.model_fields))
        raise SettingsError(f"there is no setting named {quote_value(unknown[0])}{near}", code="setting_unknown")
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _lock(data):
            values = {name: value for name, value in {**_saved(data), **changes}.items() if value is not None}
            settings = build_settings({"data": data}, values)
            if check is not None:
                check(settings)
            written = settings.model_dump(mode="json", include=set(values))
            _replace(data, _as_toml(written), written)
    except OSError as error:
        raise SettingsError(f"the settings cannot be written to {data / FILE_NAME}: {error.strerror}") from error
    return settings


@contextmanager
def _lock(data: Path) -> Generator[None]:
    """Keep every other writer of the settings out, in this process and in others."""
    handle = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(data: Path, text: str, values: Mapping[str, Any]) -> None:
    """Put a new file in the old one's place once it is known to be read back as it was meant."""
    found = tomllib.loads(text)
    if found != values:
        wrong = sorted(name for name in {*found, *values} if found.get(name) != values.get(name))
        raise SettingsError(f"{', '.join(wrong)} cannot be kept in {FILE_NAME} as it is; choose another value")
    write_complete(data / FILE_NAME, text)


def write_complete(path: Path, text: str) -> None:
    """Write a file, for its owner alone, so that it is there complete or as it was before."""
    write_durably(path, text.encode(), mode=0o600)


def _saved(data: Path) -> dict[str, Any]:
    """Return the values of the file; those of the last start that worked where it was edited into something useless."""
    try:
        values = read_file(data)
        build_settings({"data": data}, values)
    except SettingsError:
        if not (data / LAST_GOOD_NAME).exists():
            raise
        return read_file(data, LAST_GOOD_NAME)
    return values


def _as_toml(values: Mapping[str, Any]) -> str:
    lines = [
        "# Settings of this Relume server. The settings page writes this file; changes take effect after a restart.",
        "# A line that begins with # is a note or a default.\n",
    ]
    for name, field in Settings.model_fields.items():
        if name == "data":
            continue
        lines.append(f"# {field.title}: {field.description}")
        default = Settings.model_fields[name].default
        shown = values.get(name, list(default) if isinstance(default, tuple) else default)
        lines.append(
            f"{'' if name in values else '# '}{name} = {'' if shown is None else tomlkit.item(shown).as_string()}\n"
        )
    return "\n".join(lines)


_ADDRESS: Final = frozenset({"host", "port", "plain_port", "tls"})
_CERTIFICATE: Final = frozenset({"tls", "tls_certificate", "tls_key"})


def check_settings(wanted: Settings, running: Settings, changed: Collection[str]) -> None:
    """Refuse settings with which the server could not start, or could not work.

    Args:
        wanted: All settings as they would be.
        running: The settings that the server runs with: its own port is no port that is taken.
        changed: The names of those that are to change; others are not looked at.

    Raises:
        SettingsError: It names the setting and says what is wrong.
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
    """Return what the setting `device` may name on this machine."""
    from runtime.hardware import look_at_hardware

    return ["auto", "cpu", *(f"gpu:{number}" for number, _ in enumerate(look_at_hardware().gpus))]


def available_backends() -> list[str]:
    """Name what can run the models on this machine, `auto` first."""
    from runtime.engine.backends import list_backends

    return ["auto", *(backend.name for backend in list_backends() if backend.available)]


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket to the address of the server.

    Raises:
        SettingsError: The address is not one of this machine, or the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        # Bound is not enough: another server may hold the port and listen later.
        listening.listen(512)
    except (OSError, UnicodeError) as error:
        listening.close()
        raise _address_error(error, host, port) from error
    return listening


def _address_error(error: Exception, host: str, port: int) -> SettingsError:
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror | UnicodeError):
        return _invalid("host", f"the listen address {quote_value(host)} is not known; type an address such as 0.0.0.0")
    if number == 99:  # EADDRNOTAVAIL
        return _invalid("host", f"this server does not have the address {host}; 0.0.0.0 listens on all that it has")
    if number == 13:  # EACCES
        return _invalid("port", f"cannot listen on port {port}: ports below 1024 are not allowed here; choose another")
    if number == 98:  # EADDRINUSE
        return _invalid("port", f"cannot listen on port {port}: another program uses it; choose another with --port")
    return _invalid("port", f"cannot listen on port {port} of {host}: {os.strerror(number or 0)}")


def _check_address(wanted: Settings, running: Settings, names: set[str]) -> None:
    if wanted.tls and wanted.plain_port == wanted.port:
        raise _invalid("plain_port", f"port {wanted.port} cannot serve both https and plain http; choose two ports")
    own = {running.port, running.plain_port if running.tls else 0}
    ports = {"port": wanted.port} | ({"plain_port": wanted.plain_port} if wanted.tls and wanted.plain_port else {})
    for name, port in ports.items():
        # The port that this server holds is free for it; another address of the same port is tried with any port.
        tried = 0 if port in own else port
        if tried == 0 and "host" not in names:
            continue
        try:
            listen(wanted.host, tried).close()
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
            raise _invalid(name, f"{title}: there is no file {path} on this server")
        if not os.access(path, os.R_OK):
            raise _invalid(name, f"{title}: the server may not read {path}; give its user the right to")
    check_certificate(wanted.tls_certificate, wanted.tls_key)


def _check_backends(wanted: Settings, names: set[str]) -> None:
    backends, devices = available_backends(), available_devices()
    if "backend" in names and wanted.backend not in backends:
        unknown = f"unknown backend {quote_value(wanted.backend)}; this machine has: {', '.join(backends)}"
        raise _invalid("backend", unknown)
    given = wanted.device.split(",")
    if "device" in names and (not set(given) <= set(devices) or len(set(given)) < len(given)):
        unknown = f"{quote_value(wanted.device)} are not devices of this machine, each named once"
        raise _invalid("device", f"{unknown}; it has: {', '.join(devices)}")


def _invalid(field: str, message: str) -> SettingsError:
    return SettingsError(message, code="setting_refused", field=field)


def save_last_good(data: Path, file_name: str) -> None:
    """Keep the settings that the server started with, for the day when newer ones keep it from starting."""
    if file_name == LAST_GOOD_NAME:
        return
    try:
        text = (data / file_name).read_text(encoding="utf-8")
    except OSError:
        text = ""
    good = data / LAST_GOOD_NAME
    try:
        if not good.exists() or good.read_text(encoding="utf-8") != text:
            write_complete(good, text)
    except OSError:
        return
