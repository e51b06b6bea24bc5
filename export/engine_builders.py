"""Build an engine from an ONNX file with TensorRT, TensorRT for RTX or OpenVINO.

TensorRT for RTX also builds for other GPUs and without a GPU. TensorRT 11 and RTX take the precision from the file,
TensorRT 10 with the flag for strongly typed networks. This module needs neither torch nor onnx, since it also runs on
the target machine.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime.atomic_files import write_durably
from runtime.engine.device import EngineType


class EngineBuildError(RuntimeError):
    """The builder is missing or refused the file."""


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """The result of a build; `target` is the compute capability, such as `sm86`, or this machine's device."""

    path: Path
    engine_type: EngineType
    version: str
    target: str
    size_bytes: int
    time_s: float


def build_engine(
    source: Path,
    target: Path,
    *,
    engine_type: EngineType = EngineType.RTX,
    capability: str | None = None,
    dimensions: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> EngineBuild:
    """Build an engine and publish it atomically.

    Args:
        source: ONNX file.
        target: Path of the engine.
        engine_type: The builder.
        capability: `sm86`, `sm89`, `sm120`, ... for TensorRT for RTX; without it the machine's own device.
        dimensions: A size for every named dimension of the file.
        cache: File of TensorRT's timing cache.

    Raises:
        EngineBuildError: With the builder's message.
    """
    started = time.monotonic()
    if engine_type is EngineType.OPENVINO:
        version, content = _build_openvino(source, dimensions or {}, capability)
    else:
        version, content = _build_tensorrt(source, dimensions or {}, engine_type, capability, cache)
    write_durably(target, content)
    device = capability or ("this processor" if engine_type is EngineType.OPENVINO else "this GPU")
    return EngineBuild(target, engine_type, version, device, target.stat().st_size, time.monotonic() - started)


def has_builder(engine_type: EngineType) -> bool:
    """Return True if a builder is installed."""
    return find_spec(_MODULES[engine_type]) is not None


_MODULES = {EngineType.RTX: "tensorrt_rtx", EngineType.TENSORRT: "tensorrt", EngineType.OPENVINO: "openvino"}
_PACKAGES = {EngineType.RTX: "tensorrt-rtx-cu13", EngineType.TENSORRT: "tensorrt-cu13", EngineType.OPENVINO: "openvino"}
_BUILD_THREADS = 2
_WORKSPACE_BYTES = 1 << 30
"""Scratch memory of a layer at most; without a limit TensorRT plans with all memory of the GPU."""


def _build_openvino(source: Path, dimensions: Mapping[str, int], capability: str | None) -> tuple[str, bytes]:
    from runtime.engine.openvino import compile_onnx, load_openvino
    from runtime.errors import SessionError

    if capability is not None:
        raise EngineBuildError(f"openvino builds only for this machine's processor; remove {capability}")
    try:
        # The session that opens the engine sets its own number of threads.
        compiled = compile_onnx(source, dimensions=dimensions, threads=_BUILD_THREADS)
        return load_openvino().__version__, bytes(compiled.export_model().getbuffer())
    except SessionError as error:
        raise EngineBuildError(str(error)) from error


def _build_tensorrt(
    source: Path, dimensions: Mapping[str, int], engine_type: EngineType, capability: str | None, cache: Path | None
) -> tuple[str, bytes]:
    library = _load(engine_type)
    log = _BuilderLog(library)
    builder = library.Builder(log.logger)
    network = builder.create_network(_creation_flags(library))
    parser = library.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(source)):
        reasons = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineBuildError(f"{source.name} cannot be parsed: {reasons}")
    for index in range(network.num_inputs):
        _fix_sizes(network.get_input(index), dimensions)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    if capability is not None:
        _set_capability(library, config, engine_type, capability)
    if engine_type is EngineType.RTX:
        cache = None  # RTX measures when it opens an engine, and caches that beside it.
    if cache is not None:
        timings = config.create_timing_cache(cache.read_bytes() if cache.is_file() else b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineBuildError(f"{source.name} cannot be built for {capability or 'this GPU'}: {log.last()}")
    if cache is not None:
        write_durably(cache, bytes(timings.serialize()))
    return library.__version__, bytes(serialized)


def _fix_sizes(tensor: Any, dimensions: Mapping[str, int]) -> None:
    """Set the sizes of an input's named dimensions, such as `height` and `2*height`."""
    shape = list(tensor.shape)
    for index, size in enumerate(shape):
        if size >= 0:
            continue
        label = tensor.get_dimension_name(index) or ""
        multiple, _, name = label.rpartition("*")
        if name not in dimensions or not (multiple.isdigit() or not multiple):
            raise EngineBuildError(
                f"{tensor.name} has a dimension named {label!r}; set each size in it, got {dict(dimensions)}"
            )
        shape[index] = int(multiple or 1) * dimensions[name]
    tensor.shape = shape


def _load(engine_type: EngineType) -> Any:
    if not has_builder(engine_type):
        raise EngineBuildError(f"{_MODULES[engine_type]} is not installed; install {_PACKAGES[engine_type]}")
    return import_module(_MODULES[engine_type])


def _creation_flags(library: Any) -> int:
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _set_capability(library: Any, config: Any, engine_type: EngineType, capability: str) -> None:
    known = getattr(library, "ComputeCapability", None)
    wanted = getattr(known, capability.upper(), None)
    if wanted is None:
        raise EngineBuildError(
            f"{engine_type} cannot build for {capability}; remove it to build for this machine's GPU, or use "
            "TensorRT for RTX and one of sm75, sm80, sm86, sm89, sm120, sm121"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(wanted, 0)


class _BuilderLog:
    """Collects the builder's errors."""

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
        return self.lines[-1] if self.lines else "no reason given by the builder"


def find_target(name: str) -> tuple[EngineType, str | None]:
    """Parse an engine type and a compute capability, such as `rtx:sm86`; without one for this machine's GPU.

    Raises:
        ValueError: There is no such builder.
    """
    engine_type, _, capability = name.partition(":")
    if engine_type not in set(EngineType):
        raise ValueError(f"got --engine {name}; expected {' or '.join(EngineType)}, for example rtx:sm86")
    return EngineType(engine_type), capability or None
