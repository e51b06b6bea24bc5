"""Errors of the kernels.

KernelError
├── ShapeError       an array has another shape than the kernel takes (also a ValueError)
├── DtypeError       an array has another dtype than the kernel takes (also a TypeError)
├── LayoutError      an array is not C-contiguous (also a ValueError)
├── NotFiniteError   an array holds NaN or infinity where positions are computed from it (also a ValueError)
├── DeviceError      an array lies on another device than the kernel runs on (also a TypeError)
└── CompileError     a CUDA kernel cannot be compiled or loaded (also a RuntimeError)
"""


class KernelError(Exception):
    """Root of every error that a kernel raises."""


class ShapeError(KernelError, ValueError):
    """An array has another shape than the kernel takes."""


class DtypeError(KernelError, TypeError):
    """An array has another dtype than the kernel takes."""


class LayoutError(KernelError, ValueError):
    """An array is not C-contiguous."""


class NotFiniteError(KernelError, ValueError):
    """An array holds NaN or infinity where positions are computed from it."""


class DeviceError(KernelError, TypeError):
    """An array lies on another device than the kernel runs on."""


class CompileError(KernelError, RuntimeError):
    """A CUDA kernel cannot be compiled or loaded."""
