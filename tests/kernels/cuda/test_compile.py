"""Every CUDA source compiles to machine code without a GPU, within limits of resources per thread."""

import pytest

from kernels.cuda.module import OPTIONS, SOURCES, read_source
from tests.nvrtc import KERNEL, compile_source, find_library, read_version

ARCHITECTURES = {
    75: "Turing", 86: "Ampere", 87: "Jetson Orin", 89: "Ada", 90: "Hopper", 110: "Jetson Thor", 120: "Blackwell"
}  # fmt: skip
MOST_REGISTERS = {"search": 80}
"""Per thread; four blocks of 256 threads with 64 registers fit on a multiprocessor."""

pytestmark = pytest.mark.skipif(find_library() is None, reason="needs the wheel nvidia-cuda-nvrtc for CUDA 13")


@pytest.mark.parametrize(
    "architecture",
    [one if one == 87 else pytest.param(one, marks=pytest.mark.slow) for one in ARCHITECTURES],
)
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_compiles_and_no_kernel_spills(source, architecture):
    usage = compile_source(read_source(source), (*OPTIONS, "-ftz=true"), architecture)  # as CuPy does

    assert usage.keys() == set(KERNEL.findall(read_source(source)))
    for name, one in usage.items():
        print(f"{source}.cu {name} sm_{architecture} NVRTC {read_version()}: {one.registers} registers")
        assert (one.stack_bytes, one.spilled_bytes) == (0, 0), name
        assert one.registers <= MOST_REGISTERS.get(name, 64), name
