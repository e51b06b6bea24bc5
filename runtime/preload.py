"""Loads the libraries that a job loads late, for a process whose memory is limited afterwards."""

from contextlib import suppress
from importlib import import_module

import numpy as np

import runtime.enhance  # noqa: F401  (for the modules that it imports)
from kernels.__main__ import compile_all
from runtime.engine.onnxruntime import load_onnxruntime
from runtime.errors import SessionError


def load_libraries() -> None:
    """Load and compile everything that a job on the CPU needs.

    A library that runs out of memory while it is loaded may end the process (LLVM, which compiles the kernels) or wait
    for ever (OpenBLAS, which Numba loads through SciPy, and which takes its buffer with the first matrix product);
    afterwards its functions report the refused allocation.
    """
    import_module("soxr")
    with suppress(SessionError):
        load_onnxruntime()
    compile_all()
    square = np.ones((256, 256), np.float32)
    np.matmul(square, square)
