"""A request for an engine (a file of a model at fixed sizes), and its key: everything that an engine depends on."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from runtime.engine.device import EngineDevice, EngineType
from runtime.errors import ManifestError
from runtime.manifest import Model, ModelFile, load_model


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """A file of a model at fixed sizes, to be run as an engine.

    Attributes:
        model: The model's name.
        source: Its ONNX file.
        sha256: Of that file.
        dimensions: Sorted pairs of a named dimension and its size.
        precision: Of the file: `fp32`, `fp16` or `int8`.
        calibration: Digest of its calibration; empty for a file that is not quantised.
        engine_type: The type of the engine.
    """

    model: str
    source: Path
    sha256: str
    dimensions: tuple[tuple[str, int], ...]
    precision: str
    calibration: str
    engine_type: EngineType


def request_engine(source: Path, *, dimensions: Mapping[str, int], engine_type: EngineType) -> EngineRequest:
    """Return the request for the engine of one file of a model, which is checked against its manifest.

    Args:
        source: An ONNX file beside its manifest.
        dimensions: The size of every named dimension; names that the model does not have are ignored.
        engine_type: The type of the engine.

    Raises:
        ManifestError: The manifest does not name the file, or the file was altered; or a dimension has no size.
    """
    model, entry = find_file(source)
    names = {side for tensor in model.manifest.inputs for side in tensor.shape if isinstance(side, str)}
    missing = sorted(names - dimensions.keys())
    if missing:
        raise ManifestError(
            f"got sizes for {', '.join(sorted(dimensions)) or 'nothing'}, but an engine of model {model.manifest.name} "
            f"also needs {', '.join(missing)}"
        )
    return EngineRequest(
        model=model.manifest.name,
        source=model.file(role=entry.role, precision=entry.precision, form=entry.form),
        sha256=entry.sha256,
        dimensions=tuple(sorted((name, dimensions[name]) for name in names)),
        precision=entry.precision,
        calibration="" if entry.calibration is None else entry.calibration.digest,
        engine_type=engine_type,
    )


def find_file(source: Path) -> tuple[Model, ModelFile]:
    """Return the model that a file belongs to, and the file's entry in its manifest.

    Raises:
        ManifestError: There is no manifest beside it, or it does not name the file.
    """
    model = load_model(source.parent)
    for entry in model.manifest.files:
        if entry.path == source.name:
            return model, entry
    named = ", ".join(entry.path for entry in model.manifest.files)
    raise ManifestError(f"{source} is not a file of model {model.manifest.name}; its files are {named}")


BUILDER_VERSION: Final = 1
"""Incremented whenever engines are built or tested differently, so that all are rebuilt."""
_DIGITS: Final = 12


class KeyParts(BaseModel):
    """Everything that an engine depends on; see `EngineRequest` and `EngineDevice`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    source_sha256: str
    calibration: str
    dimensions: tuple[tuple[str, int], ...]
    precision: str
    engine_type: EngineType = Field(
        validation_alias=AliasChoices("engine_type", "flavour"), serialization_alias="flavour"
    )
    builder_version: int
    runtime_version: str
    product: str
    capability: str
    memory_bytes: int
    driver: str
    cuda: str


@dataclass(frozen=True, slots=True)
class EngineKey:
    """A key: its parts, their SHA-256, and the engine's name in the store."""

    parts: KeyParts
    digest: str
    name: str


def make_key(request: EngineRequest, device: EngineDevice) -> EngineKey:
    """Return the key of a request on a device."""
    parts = KeyParts(
        model=request.model,
        source_sha256=request.sha256,
        calibration=request.calibration,
        dimensions=request.dimensions,
        precision=request.precision,
        engine_type=request.engine_type,
        builder_version=BUILDER_VERSION,
        runtime_version=device.runtime_version,
        product=device.product,
        capability=device.capability,
        memory_bytes=device.memory_bytes,
        driver=device.driver,
        cuda=device.cuda,
    )
    text = json.dumps(parts.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    words = [parts.model, parts.precision, describe_dimensions(parts.dimensions)]
    words += [str(parts.engine_type), parts.runtime_version, parts.product, digest[:_DIGITS]]
    return EngineKey(parts, digest, "-".join(_plain(word) for word in words if word))


def describe_dimensions(dimensions: tuple[tuple[str, int], ...]) -> str:
    """Return sizes as words: `320x180` (width, then height) for video, `samples 1024` for anything else."""
    sizes = {name: size for name, size in dimensions if (name, size) != ("batch", 1)}
    frame = [str(sizes.pop(name)) for name in ("width", "height") if name in sizes]
    return " ".join([*(["x".join(frame)] if frame else []), *(f"{name} {size}" for name, size in sizes.items())])


def _plain(word: str) -> str:
    """Replace characters that some file systems refuse."""
    return re.sub(r"[^a-z0-9._]+", "-", word.lower()).strip("-.")[:48]
