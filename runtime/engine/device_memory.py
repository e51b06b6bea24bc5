"""The memory of a GPU session's tensors: on the card with page-locked staging, or shared by CPU and GPU.

Addresses are fixed for the life of a session, which a CUDA graph needs, and nothing is allocated while it runs except
the arrays that it returns.
"""

import logging
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from math import prod
from typing import Any, Protocol

import numpy as np

from runtime.engine.session import Array, Binding
from runtime.errors import SessionError

logger = logging.getLogger(__name__)

Arrays = Mapping[str, Any]


class Buffers(Protocol):
    """The tensors of one session.

    addresses: Device addresses, by name.
    arrays: The inputs and the outputs as CuPy arrays, by name; None where the memory cannot be seen as such.
    """

    addresses: dict[str, int]
    arrays: tuple[Arrays, Arrays] | None

    def upload(self, tensors: Mapping[str, Array]) -> None:
        """Copy the inputs to the device, in the order of the session's stream."""
        ...

    def download(self) -> dict[str, Array]:
        """Wait for the stream, and return the outputs as new arrays."""
        ...

    def close(self) -> None:
        """Release the memory; nothing may use the addresses any more."""
        ...


class StagedBuffers:
    """Tensors on the card; copies go through page-locked memory, so that they are asynchronous."""

    def __init__(self, inputs: Iterable[Binding], outputs: Iterable[Binding], stream: Any) -> None:
        import cupy
        import cupyx

        self._stream = stream
        self._inputs = {one.name: cupy.empty(one.shape, one.dtype) for one in inputs}
        self._outputs = {one.name: cupy.empty(one.shape, one.dtype) for one in outputs}
        tensors = self._inputs | self._outputs
        self._staging = {name: cupyx.empty_pinned(array.shape, array.dtype) for name, array in tensors.items()}
        self.addresses = {name: int(array.data.ptr) for name, array in tensors.items()}
        self.arrays: tuple[Arrays, Arrays] | None = (self._inputs, self._outputs)
        # The arrays were made on CuPy's own stream.
        cupy.cuda.get_current_stream().synchronize()

    def upload(self, tensors: Mapping[str, Array]) -> None:
        """See `Buffers.upload`."""
        for name, array in self._inputs.items():
            np.copyto(self._staging[name], tensors[name])
            array.set(self._staging[name], stream=self._stream)

    def download(self) -> dict[str, Array]:
        """See `Buffers.download`."""
        for name, array in self._outputs.items():
            array.get(stream=self._stream, out=self._staging[name], blocking=False)
        self._stream.synchronize()
        return {name: self._staging[name].copy() for name in self._outputs}

    def close(self) -> None:
        """See `Buffers.close`."""
        import cupy

        for arrays in (self._inputs, self._outputs, self._staging):
            arrays.clear()
        self.arrays = None
        release_pools(cupy)


class MappedBuffers:
    """Tensors in page-locked host memory that an integrated GPU reads and writes in place: no copy to a card."""

    def __init__(self, inputs: Iterable[Binding], outputs: Iterable[Binding], stream: Any) -> None:
        # Importing it retains the primary context, which is the one that CuPy and TensorRT use.
        import_module("pycuda.autoprimaryctx")
        from pycuda import driver

        self._stream = stream
        flags = driver.host_alloc_flags.DEVICEMAP
        self._inputs = {one.name: driver.pagelocked_empty(one.shape, one.dtype, mem_flags=flags) for one in inputs}
        self._outputs = {one.name: driver.pagelocked_empty(one.shape, one.dtype, mem_flags=flags) for one in outputs}
        tensors = self._inputs | self._outputs
        self.addresses = {name: int(array.base.get_device_pointer()) for name, array in tensors.items()}
        self.arrays = self._view()

    def upload(self, tensors: Mapping[str, Array]) -> None:
        """See `Buffers.upload`; the device must be idle, as it is after `download`."""
        for name, array in self._inputs.items():
            np.copyto(array, tensors[name])

    def download(self) -> dict[str, Array]:
        """See `Buffers.download`."""
        self._stream.synchronize()
        return {name: array.copy() for name, array in self._outputs.items()}

    def close(self) -> None:
        """See `Buffers.close`."""
        self.arrays = None
        self._inputs.clear()
        self._outputs.clear()

    def _view(self) -> tuple[Arrays, Arrays] | None:
        import cupy

        try:
            inputs, outputs = (
                {name: cupy.asarray(_MappedMemory(array, self.addresses[name])) for name, array in tensors.items()}
                for tensors in (self._inputs, self._outputs)
            )
        except (RuntimeError, ValueError) as error:
            logger.warning("CuPy cannot use the memory that is shared with the GPU, so frames are copied: %s", error)
            return None
        return inputs, outputs


class _MappedMemory:
    """Page-locked memory as the GPU sees it, in the form that CuPy takes without a copy."""

    def __init__(self, array: Array, address: int) -> None:
        self._array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (address, False), "strides": None, "version": 3,
        }  # fmt: skip


def open_buffers(inputs: tuple[Binding, ...], outputs: tuple[Binding, ...], stream: Any) -> Buffers:
    """Allocate a session's tensors on the current device, once.

    Raises:
        SessionError: The device has not enough memory for them.
    """
    import cupy

    try:
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
        if is_shared(integrated=bool(properties["integrated"]), has_pycuda=find_spec("pycuda") is not None):
            return MappedBuffers(inputs, outputs, stream)
        check_device_memory(tensor_bytes(inputs) + tensor_bytes(outputs), count_free_bytes(cupy))
        return StagedBuffers(inputs, outputs, stream)
    except (RuntimeError, MemoryError) as error:
        raise SessionError(f"the tensors cannot be allocated on the GPU: {error}") from error


def count_free_bytes(cupy: Any) -> int:
    """Return how much memory can be allocated on the current device; blocks that CuPy's pool keeps are free too."""
    free_bytes, _ = cupy.cuda.runtime.memGetInfo()
    return int(free_bytes + cupy.get_default_memory_pool().free_bytes())


def release_pools(cupy: Any) -> None:
    """Return released memory to the device and the host; CuPy keeps it in pools, where other programs miss it."""
    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def is_shared(*, integrated: bool, has_pycuda: bool) -> bool:
    """Return whether tensors lie in memory shared by CPU and GPU: on an integrated GPU, if pycuda is installed."""
    if integrated and not has_pycuda:
        logger.warning("this GPU shares its memory with the processor; pip install 'relume[jetson]' to avoid copies")
    return integrated and has_pycuda


def tensor_bytes(bindings: Iterable[Binding]) -> int:
    """Count the bytes of some tensors."""
    return sum(prod(binding.shape) * binding.dtype.itemsize for binding in bindings)


def check_device_memory(needed: int, free: int, *, what: str = "the tensors") -> None:
    """Refuse memory that is larger than what is free.

    Raises:
        SessionError: With both sizes.
    """
    if needed > free:
        raise SessionError(
            f"{what} take {needed >> 20} MiB and the GPU has {free >> 20} MiB free; "
            "close other programs that use it, or choose a smaller tile"
        )
