"""The settings: one model, read once at start and passed on as arguments.

A value comes from the command line, or else from `RELUME_<NAME>` in the environment, `relume.toml` in the data
directory, or the default here. The settings page and the comments in the file are generated from this model.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import InitSettingsSource

PREFIX: Final = "RELUME_"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_DEFAULT_DATA: Final = Path("~/.local/share/relume")
_GIB: Final = 1024**3


class Settings(BaseSettings):
    """All settings with their bounds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True, title="Settings"
    )

    data: Path = Field(
        default_factory=_DEFAULT_DATA.expanduser,
        title="Data directory",
        description="Where jobs, uploads, results and users are stored.",
    )

    host: str = Field(
        "0.0.0.0",
        min_length=1,
        max_length=255,
        title="Listen address",
        description="0.0.0.0: all networks; 127.0.0.1: this machine only.",
    )
    port: int = Field(8443, ge=1, le=65535, title="Port", description="Port of the web page.")
    plain_port: int = Field(
        8080,
        ge=0,
        le=65535,
        title="HTTP port",
        description="Redirects http:// to https:// (0 = off).",
    )
    tls: bool = Field(
        True,
        title="Encrypt (TLS)",
        description="Use https:// with a certificate. Without it, passwords are sent unencrypted.",
    )
    tls_certificate: Path | None = Field(
        None,
        title="Certificate",
        description="File on the server: your certificate with its chain (PEM). Empty: Relume creates its own.",
    )
    tls_key: Path | None = Field(
        None, title="Certificate key", description="File on the server: the private key (PEM)."
    )
    host_names: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        max_length=50,
        title="Host names",
        description="Additional names of this server, for example relume.studio.example.",
    )
    announce: bool = Field(
        True,
        title="Announce relume.local",
        description="Make this server known as relume.local on the local network (mDNS).",
    )

    backend: str = Field(
        "auto",
        pattern=r"^[a-z0-9-]{1,40}$",
        title="Backend",
        description="Software that runs the models. Automatic: the fastest on this machine.",
    )
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        "auto",
        title="Precision",
        description="Numeric precision of the video model. Automatic: the fastest with full quality.",
    )
    zoo: Path | None = Field(None, title="Own models", description="Folder on the server with your own models.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|(cpu|gpu:[0-9]{1,2})(,(cpu|gpu:[0-9]{1,2})){0,15})$",
        title="Device",
        description="Devices that run jobs in parallel: auto, cpu, or a list such as gpu:0,gpu:1.",
    )
    threads: int = Field(0, ge=0, le=1024, title="Threads", description="Processor threads per job (0 = all).")
    worker_memory_gib: float = Field(
        0.0, ge=0, le=100_000, title="Memory for a job (GiB)", description="Memory limit per job (0 = no limit)."
    )
    disk_reserve_gib: float = Field(
        2.0,
        ge=0,
        le=100_000,
        title="Disk reserve (GiB)",
        description="Disk space that is always kept free.",
    )
    engines_gib: float = Field(
        8.0,
        ge=0,
        le=100_000,
        title="Engines (GiB)",
        description="Disk space for optimised engines; the least recently used are removed first.",
    )

    upload_limit_gib: float = Field(
        200.0, gt=0, le=100_000, title="Largest upload (GiB)", description="Larger files are rejected."
    )
    open_uploads: int = Field(
        200, ge=1, le=10_000, title="Files per user", description="Uploaded files without a job, per user."
    )
    upload_days: int = Field(
        7,
        ge=1,
        le=365,
        title="Keep uploads (days)",
        description="Uploaded files without a job are deleted after this many days.",
    )
    probe_timeout_s: float = Field(
        20.0, ge=1, le=600, title="Check timeout (s)", description="Maximum time to check an uploaded file."
    )

    own_jobs_only: bool = Field(
        False,
        title="Users see only their own jobs",
        description="Jobs, previews and results are visible only to the user who added them and to administrators.",
    )
    session_idle_hours: float = Field(
        24.0,
        ge=0.1,
        le=720,
        title="Log out when idle (h)",
        description="Users are logged out after this time without activity.",
    )
    session_days: float = Field(
        14.0,
        ge=0.1,
        le=365,
        title="Maximum session (days)",
        description="Users are logged out after this time even when active.",
    )
    login_attempts: int = Field(
        8,
        ge=3,
        le=1000,
        title="Failed logins",
        description="Failed logins of a user from one address before logins from there are locked.",
    )
    login_attempts_address: int = Field(
        40,
        ge=3,
        le=10_000,
        title="Failed logins per address",
        description="Failed logins before a network address is locked.",
    )
    login_window_minutes: float = Field(
        15.0, ge=0.01, le=1440, title="Lock time (minutes)", description="How long logins stay locked."
    )

    smtp_host: str = Field(
        "", max_length=255, title="Mail server", description="Name of the SMTP server; empty: no e-mail is sent."
    )
    smtp_port: int = Field(587, ge=1, le=65535, title="Mail server port", description="Usually 587, or 465 with TLS.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", title="Mail encryption", description="STARTTLS, TLS from the start, or none (local networks only)."
    )
    smtp_user: str = Field("", max_length=255, title="Mail user", description="Login at the mail server; empty: none.")
    smtp_password: str = Field(
        "",
        max_length=500,
        title="Mail password",
        description="Never shown once saved; leave empty to keep it.",
        json_schema_extra={"format": "password"},
    )
    smtp_from: str = Field("", max_length=255, title="Sender", description="E-mail address of the sender.")

    webhook_timeout_s: float = Field(
        10.0, ge=0.1, le=120, title="Webhook timeout (s)", description="Maximum time to wait for a response."
    )
    webhook_attempts: int = Field(8, ge=1, le=20, title="Webhook attempts", description="Maximum delivery attempts.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", title="Log level", description="Level of detail of the server log."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_characters(cls, value: object, info: ValidationInfo) -> object:
        """Reject control characters and invalid Unicode in text, and booleans for numbers."""
        texts = value if isinstance(value, list | tuple) else (value,)
        if info.field_name != "data" and any(_UNPRINTABLE.search(str(text)) for text in texts):
            raise ValueError("contains control characters or invalid Unicode; remove them")
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are not valid here")
        return value

    @field_validator("data", "tls_certificate", "tls_key", "zoo")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return None if path is None else Path(os.path.abspath(path.expanduser()))

    @field_validator("host_names", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        """Split `a.example, b.example`, the form for an environment variable."""
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @field_validator("host_names")
    @classmethod
    def _lower(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if len(name) > 253 or not _HOST_NAME.fullmatch(name):
                raise ValueError(
                    f"invalid host name {name!r}; enter a name such as relume.studio.example, "
                    "with other letters in Punycode (xn--...)"
                )
        return tuple(name.lower().rstrip(".") for name in names)

    @model_validator(mode="after")
    def _pair(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set both the certificate and its key, or neither (tls_certificate, tls_key)")
        return self

    @property
    def database(self) -> Path:
        """The database file."""
        return self.data / "relume.db"

    @property
    def uploads(self) -> Path:
        """The folder of uploaded files."""
        return self.data / "uploads"

    @property
    def secrets(self) -> Path:
        """The folder of private keys, readable by its owner alone."""
        return self.data / "secrets"

    @property
    def log_file(self) -> Path:
        """The log of the server."""
        return self.data / "logs" / "relume.log"

    @property
    def engines(self) -> Path:
        """The folder of the engines and benchmarks of this machine."""
        return engines_folder(self.data)

    @property
    def engines_bytes(self) -> int:
        """The disk space for engines."""
        return int(self.engines_gib * _GIB)

    @property
    def disk_reserve_bytes(self) -> int:
        """The disk space that stays free."""
        return int(self.disk_reserve_gib * _GIB)

    @property
    def worker_memory_bytes(self) -> int | None:
        """The memory limit of a job; None for no limit."""
        return int(self.worker_memory_gib * _GIB) or None

    @property
    def upload_limit_bytes(self) -> int:
        """The maximum size of an upload."""
        return int(self.upload_limit_gib * _GIB)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: command line, environment, file."""
        del dotenv_settings, file_secret_settings
        given = dict(init_settings()) if isinstance(init_settings, InitSettingsSource) else {}
        file = given.pop("_file", {})
        return (
            InitSettingsSource(settings_cls, init_kwargs=given),
            env_settings,
            InitSettingsSource(settings_cls, init_kwargs=file),
        )


def find_data_directory(data: Path | None = None) -> Path:
    """Return the absolute path of the data directory; None means `RELUME_DATA` or the default."""
    chosen = data or Path(os.environ.get(f"{PREFIX}DATA") or _DEFAULT_DATA)
    return Path(os.path.abspath(chosen.expanduser()))


def engines_folder(data: Path) -> Path:
    """Return the folder of engines and benchmarks in a data directory."""
    return data / "engines"
