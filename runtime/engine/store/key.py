"""The key of an engine: everything that it depends on, as one digest and a name that can be read."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict

from runtime.engine.flavour import Flavour
from runtime.engine.store.device import EngineDevice
from runtime.engine.store.request import EngineRequest

BUILDER_VERSION: Final = 1
"""Raised whenever engines are built or proven in another way, so that those of before are built again."""
_DIGITS: Final = 12


class KeyParts(BaseModel):
    """Everything that an engine depends on; see `EngineRequest` and `EngineDevice`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    source_sha256: str
    calibration: str
    dimensions: tuple[tuple[str, int], ...]
    precision: str
    flavour: Flavour
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
    """Make the key of a request on a device."""
    parts = KeyParts(
        model=request.model,
        source_sha256=request.sha256,
        calibration=request.calibration,
        dimensions=request.dimensions,
        precision=request.precision,
        flavour=request.flavour,
        builder_version=BUILDER_VERSION,
        runtime_version=device.runtime_version,
        product=device.product,
        capability=device.capability,
        memory_bytes=device.memory_bytes,
        driver=device.driver,
        cuda=device.cuda,
    )
    text = json.dumps(parts.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    words = [parts.model, parts.precision, describe_dimensions(parts.dimensions)]
    words += [str(parts.flavour), parts.runtime_version, parts.product, digest[:_DIGITS]]
    return EngineKey(parts, digest, "-".join(_plain(word) for word in words if word))


def describe_dimensions(dimensions: tuple[tuple[str, int], ...]) -> str:
    """Give sizes as words: `320x180` (width, then height) for a picture, `samples 1024` for anything else."""
    sizes = {name: size for name, size in dimensions if (name, size) != ("batch", 1)}
    picture = [str(sizes.pop(name)) for name in ("width", "height") if name in sizes]
    return " ".join([*(["x".join(picture)] if picture else []), *(f"{name} {size}" for name, size in sizes.items())])


def _plain(word: str) -> str:
    """Keep what every file system takes."""
    return re.sub(r"[^a-z0-9._]+", "-", word.lower()).strip("-.")[:48]
