"""Compile the CUDA sources, launch their kernels, and check the arrays that go to them.

A kernel reads and writes raw addresses: an array of another shape, dtype or device would be read out of bounds. So each
public function of this package checks its arrays here before anything is launched.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kernels.errors import CompileError, DeviceError, DtypeError, LayoutError, ShapeError

Array = NDArray[Any]
"""Stands for `cupy.ndarray`: CuPy has no types, and what is used of its arrays is mostly what NumPy's have too."""

BLOCK: Final = 256
"""Threads of a block, as BLOCK in common.cuh."""
OPTIONS: Final = ("--std=c++17", "--fmad=false")
"""Without contraction every operation is rounded by itself, so that results do not depend on the GPU.

CuPy adds `-ftz=true`: float32 numbers below 2^-126 become zeros.
"""
BAD_RESULT, BAD_STATE, BAD_FLOW = 1, 2, 4
"""Bits of a validity flag, as in common.cuh."""

SOURCES: Final = ("colour", "degradation", "flow", "measures", "tiles")
_FOLDER: Final = Path(__file__).parent
_KERNEL: Final = re.compile(r'extern "C" __global__ void __launch_bounds__\(\w+\) (\w+)\(')
_MOST_THREADS: Final = 2**31 - BLOCK
_KINDS: Final = {"float32": 0, "float16": 1}
NULL: Final = np.uint64(0)
"""No array."""


def read_source(name: str) -> str:
    """Return a source as it is compiled: after the declarations that all sources share."""
    return f'{(_FOLDER / "common.cuh").read_text()}#line 1 "{name}.cu"\n{(_FOLDER / f"{name}.cu").read_text()}'


def launch(
    source: str, name: str, threads: int, arguments: Iterable[Any], *, block: int = BLOCK, rows: int = 1
) -> None:
    """Launch a kernel on CuPy's current stream.

    Args:
        source: Name of its file, without the suffix.
        name: Name of the kernel.
        threads: Threads that are needed; 0 launches nothing.
        arguments: CuPy arrays, and NumPy scalars of exactly the parameters' types.
        block: Threads of a block.
        rows: Height of the grid.

    Raises:
        CompileError: The source cannot be compiled for this GPU, or there is none.
        ShapeError: More threads than a launch can have.
    """
    if threads == 0:
        return
    if threads > _MOST_THREADS:
        raise ShapeError(f"got arrays of {threads} elements, expected at most {_MOST_THREADS}; use smaller tiles")
    import cupy

    _load(cupy, source, name)((-(-threads // block), rows), (block,), tuple(arguments))


def compile_all() -> None:
    """Compile and load every kernel for the current GPU; CuPy keeps what was compiled on disk.

    To be called before work is captured, for a kernel cannot be loaded in a capture.

    Raises:
        CompileError: A source cannot be compiled for this GPU, or there is none.
    """
    import cupy

    for source in SOURCES:
        for name in _KERNEL.findall(read_source(source)):
            # Under CUDA's lazy loading this attribute is what loads the kernel.
            _ = _load(cupy, source, name).num_regs


@cache
def _load(cupy: Any, source: str, name: str) -> Any:
    return _load_module(cupy, source).get_function(name)


@cache
def _load_module(cupy: Any, source: str) -> Any:
    module = cupy.RawModule(code=read_source(source), options=OPTIONS)
    try:
        module.compile()
    except (RuntimeError, ImportError, cupy.cuda.compiler.CompileException) as error:
        raise CompileError(
            f"the CUDA kernels of {source}.cu cannot be compiled: {error}; check the driver and nvidia-cuda-nvrtc"
        ) from error
    return module


def is_on_gpu(*arrays: Any) -> bool:
    """Return whether any of some arrays is on a GPU; None is not.

    Kernels with an array on a GPU among others then refuse the others.
    """
    return any(hasattr(array, "__cuda_array_interface__") for array in arrays)


def require_device(*arrays: Any) -> None:
    """Refuse arrays that are not on the current GPU.

    Raises:
        DeviceError: With the kind or device of the first such array.
    """
    import cupy

    for array in arrays:
        if not isinstance(array, cupy.ndarray):
            kind = f"{type(array).__module__}.{type(array).__name__}"
            raise DeviceError(f"got a {kind} beside arrays on a GPU, expected cupy.ndarray; upload it first")
        current = cupy.cuda.runtime.getDevice()
        if array.device.id != current:
            raise DeviceError(f"got an array on GPU {array.device.id}, the current one is {current}; copy it there")


def require(array: Array, name: str, *, dtypes: Sequence[Any], shape: Sequence[int | None]) -> None:
    """Check an array on the current GPU.

    Args:
        array: The array.
        name: Its name in messages.
        dtypes: The dtypes that are allowed.
        shape: Length of each axis; None for any length.

    Raises:
        DeviceError: The array is not on the current GPU.
        ShapeError: It has another shape.
        DtypeError: It has another dtype.
    """
    require_device(array)
    if len(array.shape) != len(shape) or any(
        wanted is not None and length != wanted for length, wanted in zip(array.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ShapeError(f"got {name} {array.shape}, expected ({wanted})")
    if array.dtype not in dtypes:
        names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise DtypeError(f"got {name} of {array.dtype}, expected {names}")


def require_contiguous(*arrays: Array) -> None:
    """Refuse arrays that are not C-contiguous.

    Raises:
        LayoutError: With the strides of the first such array.
    """
    for array in arrays:
        if not array.flags.c_contiguous:
            raise LayoutError(f"got an array with strides {array.strides}, expected a C-contiguous one; copy it once")


def require_plane(array: Array, name: str, shape: Sequence[int | None]) -> None:
    """Check for a C-contiguous float32 array of a shape on the current GPU; raises as `require`, and `LayoutError`."""
    require(array, name, dtypes=(np.float32,), shape=shape)
    require_contiguous(array)


def kind_of(array: Array) -> np.int32:
    """Return how a float array is stored, as kernels name it."""
    return np.int32(_KINDS[array.dtype.name])


def pitches(array: Array) -> list[np.int64]:
    """Return the distances between planes and rows, in elements, of (..., rows, columns) with adjacent columns.

    Raises:
        LayoutError: The elements of a row are not adjacent.
    """
    size = array.itemsize
    if array.size and array.shape[-1] > 1 and array.strides[-1] != size:
        raise LayoutError(f"got strides {array.strides}, expected rows of adjacent elements; copy it once")
    return [np.int64(stride // size) for stride in array.strides[:-1]]


def int32s(*values: int) -> list[np.int32]:
    """Return integers as kernels take them."""
    return [np.int32(value) for value in values]


def float32s(*values: float) -> list[np.float32]:
    """Return numbers as kernels take them."""
    return [np.float32(value) for value in values]
