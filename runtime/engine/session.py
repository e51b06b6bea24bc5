"""One interface to every engine: named tensors in and out, fixed shapes, explicit state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from runtime.errors import SessionError
from runtime.manifest import Model, Role

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """One tensor of a session: its name, dtype and fixed shape."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DeviceTensors:
    """The tensors of a session on a GPU, at addresses that never change.

    inputs, outputs: CuPy arrays by name, of the bindings' dtypes and shapes.
    enqueue: Enqueues a run on a CuPy stream: it neither copies nor waits. Raises `SessionError`.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    enqueue: Callable[[Any], None]


class Session(Protocol):
    """A network opened on one device at one set of shapes.

    A session is a context manager; `run` may be called from one thread at a time.
    """

    backend: str
    """Its name in the report: `onnxruntime-cpu`, ..."""
    precision: str
    inputs: tuple[Binding, ...]
    outputs: tuple[Binding, ...]

    def run(self, tensors: Mapping[str, Array], out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Run the network once.

        Arrays that are given again are bound once, so a caller who fills its own buffers pays for no copy.

        Args:
            tensors: One C-contiguous array per input, of the binding's dtype and shape.
            out: One C-contiguous array per output to fill, of the binding's dtype and shape; new ones without it.

        Returns:
            One array per output, owned by the caller: those of `out`, or new ones.

        Raises:
            SessionError: A tensor is missing, unknown, or of another dtype or shape; or the backend failed.
        """
        ...

    def close(self) -> None:
        """Release the device memory; `run` may not be called after it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Backend(Protocol):
    """Opens the files of models as sessions; its precision and threads are fixed."""

    def open(self, model: Model, role: Role, shape: Mapping[str, int]) -> Session:
        """Open a session.

        Args:
            model: A model of a zoo.
            role: Selects the model's file.
            shape: The size of every named dimension of the file; empty where all sizes are fixed.

        Raises:
            ManifestError: The model has no such file, or the file was altered.
            SessionError: The file cannot be opened.
        """
        ...


def get_device_tensors(session: Session) -> DeviceTensors | None:
    """Return a session's tensors on its GPU; None where it has none that can be offered."""
    tensors: DeviceTensors | None = getattr(session, "device_tensors", None)
    return tensors


def check_tensors(bindings: tuple[Binding, ...], tensors: Mapping[str, Array], *, kind: str = "input") -> None:
    """Check arrays against a session's inputs, or outputs, by name, dtype and shape.

    Raises:
        SessionError: A tensor is missing, unknown, or of another dtype or shape.
    """
    expected = {binding.name for binding in bindings}
    if tensors.keys() != expected:
        raise SessionError(f"got {kind}s {sorted(tensors)}, expected {sorted(expected)}")
    for binding in bindings:
        array = tensors[binding.name]
        if array.dtype != binding.dtype or array.shape != binding.shape:
            raise SessionError(
                f"{kind} {binding.name} is {array.dtype} {array.shape}, expected {binding.dtype} {binding.shape}"
            )


def prepare_outputs(bindings: tuple[Binding, ...], out: Mapping[str, Array] | None) -> dict[str, Array]:
    """Return the arrays that a run fills, in the order of the bindings: those of `out`, or new ones.

    Raises:
        SessionError: An array is missing, unknown, of another dtype or shape, or cannot be written to as a whole.
    """
    if out is None:
        return {binding.name: np.empty(binding.shape, binding.dtype) for binding in bindings}
    check_tensors(bindings, out, kind="output")
    for name, array in out.items():
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise SessionError(f"output {name} is read-only or a view with gaps, expected a C-contiguous array")
    return {binding.name: out[binding.name] for binding in bindings}
