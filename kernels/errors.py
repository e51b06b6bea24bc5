"""Errors of the kernels.

KernelError
├── ShapeError   an array has another shape than the kernel takes (also a ValueError)
└── DtypeError   an array has another dtype than the kernel takes (also a TypeError)
"""


class KernelError(Exception):
    """Root of every error that a kernel raises."""


class ShapeError(KernelError, ValueError):
    """An array has another shape than the kernel takes."""


class DtypeError(KernelError, TypeError):
    """An array has another dtype than the kernel takes."""
