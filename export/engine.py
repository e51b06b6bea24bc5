"""An ONNX file to a TensorRT engine: one path for TensorRT and TensorRT for RTX, with or without a GPU.

TensorRT for RTX builds for another GPU than the machine's, or with none at all. TensorRT 11 and RTX take the precision
from the file; TensorRT 10 does so when told that the network is strongly typed.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class Flavour(StrEnum):
    """Which builder."""

    RTX = "rtx"
    TENSORRT = "tensorrt"


class EngineBuildError(RuntimeError):
    """The builder is missing, or refused the file."""


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """What a build made; `target` is the compute capability, such as `sm86`, or `this GPU`."""

    path: Path
    flavour: Flavour
    version: str
    target: str
    size_bytes: int
    time_s: float


def build_engine(
    source: Path, target: Path, *, flavour: Flavour = Flavour.RTX, capability: str | None = None
) -> EngineBuild:
    """Build an engine and put it in place when it is whole.

    Args:
        source: ONNX file of fixed shapes.
        target: Where the engine goes.
        flavour: The builder.
        capability: `sm86`, `sm89`, `sm120`, ... for TensorRT for RTX; without it the machine's own GPU.

    Raises:
        EngineBuildError: With what the builder said.
    """
    started = time.monotonic()
    library = _load(flavour)
    said = _Said(library)
    builder = library.Builder(said.logger)
    network = builder.create_network(_creation_flags(library))
    parser = library.OnnxParser(network, said.logger)
    if not parser.parse_from_file(str(source)):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineBuildError(f"{source.name} cannot be parsed: {reasons}")
    config = builder.create_builder_config()
    if capability is not None:
        _aim(library, config, flavour, capability)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineBuildError(f"{source.name} cannot be built for {capability or 'this GPU'}: {said.last()}")
    _put(target, bytes(serialized))
    return EngineBuild(
        target,
        flavour,
        library.__version__,
        capability or "this GPU",
        target.stat().st_size,
        time.monotonic() - started,
    )


def has_builder(flavour: Flavour) -> bool:
    """Tell whether a builder is installed."""
    return find_spec(_MODULES[flavour]) is not None


_MODULES = {Flavour.RTX: "tensorrt_rtx", Flavour.TENSORRT: "tensorrt"}
_PACKAGES = {Flavour.RTX: "tensorrt-rtx-cu13", Flavour.TENSORRT: "tensorrt-cu13"}


def _load(flavour: Flavour) -> Any:
    if not has_builder(flavour):
        raise EngineBuildError(f"{_MODULES[flavour]} is not installed; install {_PACKAGES[flavour]}")
    return import_module(_MODULES[flavour])


def _creation_flags(library: Any) -> int:
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _aim(library: Any, config: Any, flavour: Flavour, capability: str) -> None:
    known = getattr(library, "ComputeCapability", None)
    wanted = getattr(known, capability.upper(), None)
    if wanted is None:
        raise EngineBuildError(
            f"{flavour} cannot build for {capability}; leave it out to build for this machine's GPU, or take TensorRT "
            "for RTX and one of sm75, sm80, sm86, sm89, sm120, sm121"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)


class _Said:
    """Keeps what the builder says, for the error."""

    def __init__(self, library: Any) -> None:
        lines: list[str] = []

        class Logger(library.ILogger):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                library.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= library.ILogger.ERROR:
                    lines.append(message)

        self.lines = lines
        self.logger = Logger()

    def last(self) -> str:
        return self.lines[-1] if self.lines else "the builder gave no reason"


def _put(target: Path, content: bytes) -> None:
    """Write beside the target, flush to the disk, and rename."""
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
