"""Serialised engines on NVIDIA GPUs: TensorRT 10 and 11, and TensorRT for RTX, through one path.

An engine has fixed shapes and was built for one kind of GPU by one version; the engine store ensures both.
"""

import logging
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from runtime.atomic_files import write_durably
from runtime.closing import Closing
from runtime.engine.device import EngineType
from runtime.engine.device_memory import Buffers, check_device_memory, count_free_bytes, open_buffers, tensor_bytes
from runtime.engine.session import Array, Binding, DeviceTensors, check_tensors, prepare_outputs
from runtime.errors import SessionError

logger = logging.getLogger(__name__)

_MODULES: Final = {EngineType.RTX: "tensorrt_rtx", EngineType.TENSORRT: "tensorrt"}
_CACHE: Final = ".runtime-cache"


class TensorRtSession(Closing):
    """An engine in an execution context of its own, its tensors at fixed addresses, run from one non-blocking stream.

    After a first run its work is a CUDA graph: captured here for TensorRT, by the library itself for RTX. If that fails
    it runs kernel by kernel; `graph_problem` and the log report it. RTX compiles kernels when an engine is opened; they
    are kept beside the engine, in a file of the engine's name and `.runtime-cache`.

    Args:
        path: The serialised engine.
        engine_type: The engine's type; not OpenVINO.
        precision: Of the network in it.

    Raises:
        SessionError: A library is missing, or the engine is not for this GPU and version, or does not fit.
    """

    def __init__(self, path: Path, *, engine_type: EngineType, precision: str) -> None:
        library, cupy = _load(engine_type), _load_cupy()
        self._errors = _ErrorLog(library)
        self._cache: Any = None
        self._cache_path = path.with_name(path.name + _CACHE)
        try:
            self._stream = cupy.cuda.Stream(non_blocking=True)
        except RuntimeError as error:
            raise SessionError(
                f"no NVIDIA GPU can be used: {error}; install its driver, or use --backend cpu"
            ) from error
        self._engine = self._deserialise(library, path)
        self.backend, self.precision = f"{engine_type}-gpu", precision
        self.inputs, self.outputs = read_tensors(library, self._engine, path)
        needed = tensor_bytes(self.inputs) + tensor_bytes(self.outputs) + _count_context_bytes(self._engine)
        check_device_memory(needed, count_free_bytes(cupy), what="the engine's tensors")
        self._context = self._open_context(library, engine_type)
        self._buffers: Buffers = open_buffers(self.inputs, self.outputs, self._stream)
        for name, address in self._buffers.addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise SessionError(f"{path.name} rejected the address of {name}: {self._errors.first_error()}")
        self.graph_problem = ""
        self._graph: Any = self._warm_up(capture=engine_type is EngineType.TENSORRT)
        self.device_tensors: DeviceTensors | None = None
        if self._buffers.arrays is not None:
            self.device_tensors = DeviceTensors(*self._buffers.arrays, self._enqueue)

    def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run the network once; see `Session.run`."""
        check_tensors(self.inputs, tensors)
        filled = None if out is None else prepare_outputs(self.outputs, out)
        try:
            self._buffers.upload(tensors)
            self._enqueue(self._stream)
            results = self._buffers.download()
        except RuntimeError as error:
            if isinstance(error, SessionError):
                raise
            raise SessionError(f"TensorRT failed while running: {error}") from error
        if filled is None:
            return results
        for name, array in filled.items():
            np.copyto(array, results[name])
        return filled

    def close(self) -> None:
        """Store the compiled kernels, and release the device's memory."""
        if self._cache is not None:
            self._store_cache()
        # The order matters in TensorRT: an object is released before the one that created it.
        self._graph = self._cache = self._context = self._engine = self.device_tensors = None
        self._buffers.close()

    def _deserialise(self, library: Any, path: Path) -> Any:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SessionError(f"engine {path} cannot be read: {error.strerror}; build it again") from error
        self._runtime = library.Runtime(self._errors.logger)
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise SessionError(
                f"{path.name} is not an engine for this GPU and {library.__name__} {library.__version__}: "
                f"{self._errors.first_error()}; build it again with `relume engines build`"
            )
        return engine

    def _open_context(self, library: Any, engine_type: EngineType) -> Any:
        if engine_type is not EngineType.RTX:
            context = self._engine.create_execution_context()
        else:
            config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._cache = config.create_runtime_cache()
            if self._cache_path.is_file() and not self._cache.deserialize(self._cache_path.read_bytes()):
                logger.info(
                    "runtime cache %s was built by another driver or version; recompiling kernels",
                    self._cache_path.name,
                )
            config.set_runtime_cache(self._cache)
            context = self._engine.create_execution_context(config)
        if context is None:
            raise SessionError(f"the engine's execution context cannot be created: {self._errors.first_error()}")
        return context

    def _warm_up(self, *, capture: bool) -> Any:
        """Run once on zeros, for the library's late allocations, then capture the run as a CUDA graph."""
        self._buffers.upload({one.name: np.zeros(one.shape, one.dtype) for one in self.inputs})
        self._execute(self._stream)
        self._buffers.download()
        if not capture:
            return None
        try:
            self._stream.begin_capture()
            try:
                self._execute(self._stream)
            finally:
                graph = self._stream.end_capture()
        except RuntimeError as error:
            self.graph_problem = f"no CUDA graph: {error}"
            logger.warning("running the engine without a CUDA graph, slightly slower; %s", self.graph_problem)
            return None
        return graph

    def _enqueue(self, stream: Any) -> None:
        """Enqueue a run: the captured graph, or kernel by kernel."""
        if self._graph is None:
            self._execute(stream)
        else:
            self._graph.launch(stream=stream)

    def _execute(self, stream: Any) -> None:
        if not self._context.execute_async_v3(stream.ptr):
            raise SessionError(f"TensorRT failed while running: {self._errors.first_error()}")

    def _store_cache(self) -> None:
        """Write the compiled kernels beside the engine; without them only the next start is slower."""
        try:
            write_durably(self._cache_path, bytes(self._cache.serialize()), is_shared=True)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._cache_path, error.strerror)


def read_tensors(library: Any, engine: Any, path: Path) -> tuple[tuple[Binding, ...], tuple[Binding, ...]]:
    """Return an engine's inputs and outputs.

    Raises:
        SessionError: A dimension is open.
    """
    inputs: list[Binding] = []
    outputs: list[Binding] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))
        if any(size < 0 for size in shape):
            raise SessionError(f"{path.name} has an open dimension in {name} {shape}; build it with fixed shapes")
        binding = Binding(name, np.dtype(library.nptype(engine.get_tensor_dtype(name))), shape)
        is_input = engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(binding)
    return tuple(inputs), tuple(outputs)


class _ErrorLog:
    """Collects the errors that the library logs."""

    def __init__(self, library: Any) -> None:
        lines: list[str] = []

        class Logger(library.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                library.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= library.ILogger.ERROR:
                    lines.append(message)

        self._lines = lines
        self.logger = Logger()

    def first_error(self) -> str:
        """Return the first error since the last call; later ones are its consequences."""
        cause = self._lines[0] if self._lines else "no reason given by the library"
        self._lines.clear()
        return cause


def _count_context_bytes(engine: Any) -> int:
    """Return the memory that an execution context takes on the GPU; the name of the count depends on the release."""
    return int(getattr(engine, "device_memory_size_v2", 0) or getattr(engine, "device_memory_size", 0))


def _load(engine_type: EngineType) -> Any:
    if engine_type not in _MODULES:
        raise SessionError(f"engines of {engine_type} cannot be run by TensorRT; use the session of their backend")
    module = _MODULES[engine_type]
    if find_spec(module) is None:
        raise SessionError(f"{module} is not installed; pip install 'relume[{engine_type}]', or use another backend")
    return import_module(module)


def _load_cupy() -> Any:
    if find_spec("cupy") is None:
        raise SessionError("cupy is not installed; pip install 'relume[cuda]', or use --backend cpu")
    import cupy

    return cupy
