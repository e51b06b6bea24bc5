"""The documents and folders of an engine store."""

import os
import shutil
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from runtime.atomic_files import sync_path
from runtime.engine.store.key import EngineRequest, KeyParts
from runtime.errors import EngineStoreError

ENTRY: Final = "manifest.json"
FAILURE: Final = "reason.json"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a document.

        Raises:
            FileNotFoundError: There is none.
            EngineStoreError: It cannot be read, or is not such a document.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise EngineStoreError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise EngineStoreError(f"{path} is not a valid store file: {error.error_count()} errors") from error

    def dump(self) -> bytes:
        """Return the document's bytes."""
        return self.model_dump_json(indent=2, by_alias=True).encode() + b"\n"


class GoldenTestResult(_Document):
    """The measurements of the golden test.

    `agreement_db` is the PSNR against ONNX Runtime in FP32. `quality_loss_db` is the loss of PSNR against the ground
    truth compared with FP32, for video; `seam_ratio` is the error where two tiles meet as a multiple of the error
    elsewhere. None where it was not measured.
    """

    agreement_db: float
    quality_loss_db: float | None = None
    seam_ratio: float | None = None
    time_s: float


class EngineFile(_Document):
    """The engine itself, beside its manifest."""

    path: str
    size_bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class EngineEntry(_Document):
    """The manifest of an engine; times are seconds since 1970. One for another device was not tested here."""

    name: str
    digest: str
    parts: KeyParts
    source: Path
    file: EngineFile
    built_at: float
    build_time_s: float
    golden_test: GoldenTestResult | None = Field(
        validation_alias=AliasChoices("golden_test", "proof"), serialization_alias="proof"
    )


class FailureKind(StrEnum):
    """The reason for which there is no engine: the build or the golden test failed, or the file changed on the disk."""

    REFUSED = "refused"
    FAILED_TEST = "unsound"
    DAMAGED = "damaged"


class BuildFailure(_Document):
    """An engine in quarantine, or a failed build."""

    kind: FailureKind
    reason: str
    at: float
    source: Path
    parts: KeyParts


class BuildRequest(_Document):
    """The request for a build; `again` builds the engine even if there is one, or if its build failed before."""

    request: EngineRequest
    again: bool = False


def request_of(parts: KeyParts, source: Path) -> EngineRequest:
    """Return the request that a key was made from."""
    return EngineRequest(
        parts.model,
        source,
        parts.source_sha256,
        parts.dimensions,
        parts.precision,
        parts.calibration,
        parts.engine_type,
    )


_FOLDERS: Final = ("ready", "unproven", "partial", "quarantine", "wanted", "locks", "cache")


class StoreLayout:
    """The folders of a store.

    Attributes:
        ready: Validated engines, a folder each.
        unverified: Engines for other devices; never used here.
        partial: Engines that are being built; without a running builder they are stale.
        quarantine: Failed engines with the reason.
        requests: Build requests, a file each.
        locks: A lock for each key.
        cache: The builders' own caches.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready, self.unverified, self.partial = folder / "ready", folder / "unproven", folder / "partial"
        self.quarantine, self.requests = folder / "quarantine", folder / "wanted"
        self.locks, self.cache = folder / "locks", folder / "cache"

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            EngineStoreError: They cannot be created.
        """
        try:
            for name in _FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EngineStoreError(
                f"the engine store {self.folder} cannot be used: {error.strerror}; make it writable for the "
                "user that runs Relume, or choose another data directory"
            ) from error

    def lock(self, name: str) -> Path:
        """Return the path of the lock of a key."""
        return self.locks / f"{name}.lock"

    def request_file(self, name: str) -> Path:
        """Return the file of a build request."""
        return self.requests / f"{name}.json"


def move_folder(source: Path, target: Path) -> None:
    """Replace a folder by another one; after a crash the target is the old one, the new one, or missing."""
    sync_path(source)
    remove_folder(target)
    os.rename(source, target)
    sync_path(target.parent)
    sync_path(source.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder that may be missing; it is renamed first, so that no partial folder is visible."""
    doomed = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder that may be missing, without those that are being removed."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
