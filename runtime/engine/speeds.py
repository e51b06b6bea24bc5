"""The speeds of the models on the backends of this machine, as `relume doctor` measured them, stored in a file."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.engine.backends import BackendInfo
from runtime.hardware import Hardware
from runtime.manifest import Model, QuantScheme

logger = logging.getLogger(__name__)

_FILE: Final = "speeds.json"
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Speed:
    """One model on one backend in one precision: the median of interleaved runs, the engine alone.

    size: The input of one run, such as 320x180 for a frame or 1024 for a block.
    sha256: `digest_files` of the model in that precision; with `library` and `device` it determines whether the
    measurement is current.
    problem: Why it did not run; `ms` is 0 then.
    waits: Only its engine is not built yet. That is no measurement, and is not stored as one.
    """

    model: str
    sha256: str
    backend: str
    precision: str
    library: str
    device: str
    threads: int
    size: str
    runs: int
    ms: float
    measured: str
    problem: str = ""
    waits: bool = False


@dataclass(frozen=True, slots=True)
class _File:
    schema: int
    speeds: tuple[Speed, ...]


def describe_device(hardware: Hardware, backend: BackendInfo) -> str:
    """Return the name of the device that a backend runs on; a measurement is valid for it alone."""
    if backend.on_gpu:
        return hardware.gpus[0] if hardware.gpus else hardware.board or "an unknown GPU"
    return f"{hardware.cpu}, {hardware.cores} cores"


def is_current(speed: Speed, model: Model, backend: BackendInfo, hardware: Hardware) -> bool:
    """Return whether a measurement is current: of the same file, library and device."""
    return (speed.model, speed.backend) == (model.manifest.name, backend.name) and (
        speed.sha256 == digest_files(model, speed.precision, backend.quant_scheme)
        and speed.library == backend.library_version
        and speed.device == describe_device(hardware, backend)
    )


def digest_files(model: Model, precision: str, scheme: QuantScheme = QuantScheme.ASYMMETRIC_U8) -> str:
    """Return the SHA-256 of a model's file in a precision; of several the SHA-256 of all of theirs, in their order."""
    digests = [file.sha256 for file in model.manifest.files if file.precision == precision and file.fits(scheme)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def read_speeds(folder: Path | None) -> tuple[Speed, ...]:
    """Read the measurements; empty if there are none, or if the file cannot be read, which is logged."""
    from pydantic import TypeAdapter, ValidationError

    if folder is None:
        return ()
    try:
        file = TypeAdapter(_File).validate_json((folder / _FILE).read_bytes(), extra="forbid")
    except FileNotFoundError:
        return ()
    except (OSError, ValidationError) as error:
        logger.warning("ignoring %s, which cannot be read; `relume doctor` rewrites it: %s", folder / _FILE, error)
        return ()
    return file.speeds if file.schema == _SCHEMA else ()


def write_speeds(folder: Path, speeds: tuple[Speed, ...]) -> None:
    """Store measurements in place of those of the same models.

    Raises:
        OutputError: The folder cannot be written.
    """
    from pydantic import TypeAdapter

    from runtime.atomic_files import convert_os_errors, write_durably

    models = {speed.model for speed in speeds}
    kept = tuple(speed for speed in read_speeds(folder) if speed.model not in models)
    measured = tuple(speed for speed in speeds if not speed.waits)
    with convert_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / _FILE, TypeAdapter(_File).dump_json(_File(_SCHEMA, kept + measured), indent=1))
