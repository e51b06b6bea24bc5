"""Kernels in CUDA C++ emulated on a CPU: built by the C++ compiler behind a shim, and run thread by thread.

Emulated results have the bits that a GPU computes, for the kernels use nothing but IEEE arithmetic without contraction.
What this cannot show: races that both orders of threads hide, speed, and faults of a GPU's compiler.
"""

import ctypes
import fcntl
import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.nvrtc import KERNEL

SHIM = Path(__file__).with_name("emulated_cuda.hpp")
SANITIZE = "RELUME_EMULATED_SANITIZE"
"""With this variable set kernels are built with the address sanitiser, which the process must have preloaded."""
_FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w")
_SANITIZER_FLAGS = ("-g", "-O0", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")


class EmulatedModule:
    """The kernels of one source, compiled for the CPU.

    Args:
        code: CUDA C++, complete.
        folder: Where compiled libraries are kept; several processes may share it.
    """

    def __init__(self, code: str, folder: Path) -> None:
        self.names = tuple(KERNEL.findall(code))
        self._library = ctypes.PyDLL(str(_build(code, self.names, folder)))

    def signature(self, name: str) -> str:
        """Return one letter for each parameter of a kernel: P pointer, f float, i int, q int64, I and Q unsigned."""
        function = self._library[f"signature_{name}"]
        function.restype = ctypes.c_char_p
        return function().decode()

    def launch(
        self, name: str, grid: Sequence[int], block: Sequence[int], arguments: Sequence[bytes], *, falling: bool = False
    ) -> None:
        """Run every thread of a launch; each argument as the bytes of its value."""
        sizes = [*grid, *(1 for _ in range(3 - len(grid))), *block, *(1 for _ in range(3 - len(block)))]
        # One spare element: an array of none is no array to C.
        kept = [ctypes.create_string_buffer(value, 8) for value in arguments]
        pointers = (ctypes.c_void_p * (len(kept) + 1))(*(ctypes.addressof(one) for one in kept))
        self._library[f"launch_{name}"]((ctypes.c_uint * 6)(*sizes), ctypes.c_int(falling), pointers)


def _build(code: str, names: Sequence[str], folder: Path) -> Path:
    flags = (*_FLAGS, *(_SANITIZER_FLAGS if SANITIZE in os.environ else ()))
    calls = "".join(
        f'extern "C" const char* signature_{name}() {{ return emulation::signature({name}); }}\n'
        f'extern "C" void launch_{name}(const unsigned* size, int falling, void** arguments) '
        f"{{ emulation::launch({name}, size, falling, arguments); }}\n"
        for name in names
    )
    text = f'#include "{SHIM.name}"\n{code}\n{calls}'
    digest = hashlib.sha256("\0".join((text, SHIM.read_text(), *flags)).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"{digest}.so"
    with (folder / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            source = folder / f"{digest}.cpp"
            source.write_text(text)
            command = ["c++", *flags, f"-I{SHIM.parent}", str(source), "-o", f"{library}.new"]
            # The sanitiser is for the kernels, not for the compiler.
            environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
            built = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if built.returncode:
                raise RuntimeError(f"the kernels do not compile for the CPU:\n{built.stderr}")
            os.replace(f"{library}.new", library)
    return library
