"""What the store writes beside an engine, about one that failed, and about one that is wanted."""

import os
import shutil
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.atomic_files import sync_path
from runtime.engine.store.key import EngineRequest, KeyParts
from runtime.errors import EngineStoreError

ENTRY: Final = "manifest.json"
SETBACK: Final = "reason.json"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a document.

        Raises:
            FileNotFoundError: There is none.
            EngineStoreError: It cannot be read, or is no such document.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise EngineStoreError(f"{path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            raise EngineStoreError(f"{path} is not what the store writes: {error.error_count()} errors") from error

    def dump(self) -> bytes:
        """Return the document's bytes."""
        return self.model_dump_json(indent=2).encode() + b"\n"


class Proof(_Document):
    """What the golden test measured; `agreement_db` is against ONNX Runtime in FP32.

    `quality_loss_db` is how much farther from the truth than FP32, for video; `seam_ratio` the error at the joint of
    two tiles as a multiple of the error elsewhere. None where it was not measured.
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
    """The manifest of an engine; times are seconds since 1970. Without a proof it is for another device."""

    name: str
    digest: str
    parts: KeyParts
    source: Path
    file: EngineFile
    built_at: float
    build_time_s: float
    proof: Proof | None


class SetbackKind(StrEnum):
    """Why there is no engine: the builder refused, the golden test failed, or the file changed on the disk."""

    REFUSED = "refused"
    UNSOUND = "unsound"
    DAMAGED = "damaged"


class Setback(_Document):
    """An engine in quarantine, or one that could not be built."""

    kind: SetbackKind
    reason: str
    at: float
    source: Path
    parts: KeyParts


class Wish(_Document):
    """An engine that is to be built; `again` builds it although there is one, or although it failed before."""

    request: EngineRequest
    again: bool = False


def request_of(parts: KeyParts, source: Path) -> EngineRequest:
    """Return the request that a key was made of."""
    return EngineRequest(
        parts.model, source, parts.source_sha256, parts.dimensions, parts.precision, parts.calibration, parts.flavour
    )


_FOLDERS: Final = ("ready", "unproven", "partial", "quarantine", "wanted", "locks", "cache")


class Shelves:
    """Where everything lies in a store's folder.

    Attributes:
        ready: Proven engines, a folder each.
        unproven: Engines that were built for another device; never used here.
        partial: Engines that are being built; without a builder it is litter.
        quarantine: What failed, with the reason.
        wanted: Engines that are to be built, a file each.
        locks: A lock for each key.
        cache: What builders remember of their own between builds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ready, self.unproven, self.partial = folder / "ready", folder / "unproven", folder / "partial"
        self.quarantine, self.wanted = folder / "quarantine", folder / "wanted"
        self.locks, self.cache = folder / "locks", folder / "cache"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            EngineStoreError: They cannot be made.
        """
        try:
            for name in _FOLDERS:
                (self.folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise EngineStoreError(
                f"the engine store {self.folder} cannot be used: {error.strerror}; give it to the user that runs "
                "Relume, or choose another data directory"
            ) from error

    def lock(self, name: str) -> Path:
        """Return the lock of a key."""
        return self.locks / f"{name}.lock"

    def wish(self, name: str) -> Path:
        """Return the file in which a wish is written down."""
        return self.wanted / f"{name}.json"


def move_folder(source: Path, target: Path) -> None:
    """Put a folder in the place of another; after any crash the target is the old one, the new one, or missing."""
    sync_path(source)
    remove_folder(target)
    os.rename(source, target)
    sync_path(target.parent)
    sync_path(source.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder that may be missing: first its name, so that nobody finds half of it."""
    doomed = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(doomed, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder that may be missing, but for those that are being removed."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []
