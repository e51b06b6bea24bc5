"""What the store writes beside an engine, about one that failed, and about one that is wanted."""

from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.engine.store.key import KeyParts
from runtime.engine.store.request import EngineRequest
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
        """Give the document's bytes."""
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
    """Give the request that a key was made of."""
    return EngineRequest(
        parts.model, source, parts.source_sha256, parts.dimensions, parts.precision, parts.calibration, parts.flavour
    )
