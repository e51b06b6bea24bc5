"""NVIDIA's run-time compiler, which needs no GPU: the resources of each kernel of a source, by architecture."""

import ctypes
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

KERNEL = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\(\w+\))? (\w+)\(')
"""The name of each kernel of a source."""
_USAGE = re.compile(
    r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)


@dataclass(frozen=True)
class Usage:
    """The resources of a kernel's thread: registers, and bytes of local memory."""

    registers: int
    stack_bytes: int
    spilled_bytes: int


def find_library() -> Path | None:
    """Return the library of the wheel `nvidia-cuda-nvrtc`, if it is installed."""
    spec = find_spec("nvidia")
    folders = () if spec is None else spec.submodule_search_locations or ()
    return next((path for folder in folders for path in Path(folder).glob("cu13/lib/libnvrtc.so.13")), None)


@cache
def _library() -> ctypes.CDLL:
    path = find_library()
    assert path is not None
    return ctypes.CDLL(str(path))


def read_version() -> str:
    """Return the compiler's version."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def compile_source(code: str, options: tuple[str, ...], architecture: int) -> dict[str, Usage]:
    """Compile CUDA C++ to machine code of an architecture, with warnings as errors; return each kernel's resources."""
    library, program = _library(), ctypes.c_void_p()
    all_options = [f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v", *options]
    encoded = (ctypes.c_char_p * len(all_options))(*(one.encode() for one in all_options))
    library.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"common.cuh", 0, None, None)
    try:
        failed = library.nvrtcCompileProgram(program, len(all_options), encoded)
        log = _read(program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog).decode()
        if failed or "warning" in log:
            raise RuntimeError(f"the source does not compile cleanly for sm_{architecture}:\n{log}")
        assert _read(program, library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN).startswith(b"\x7fELF")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return {
        name: Usage(int(registers), int(stack), int(stores) + int(loads))
        for name, stack, stores, loads, registers in _USAGE.findall(log)
    }


def _read(program: ctypes.c_void_p, size: Any, content: Any) -> bytes:
    length = ctypes.c_size_t()
    size(program, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    content(program, buffer)
    return buffer.raw
