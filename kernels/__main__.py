"""`python -m kernels`: compile every kernel once, so that the first job after installing does not wait for it."""

from importlib.util import find_spec

import numpy as np

from kernels.colour import YuvLayout, rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from kernels.cuda.module import compile_all as compile_cuda_kernels
from kernels.errors import CompileError
from kernels.flow import estimate_flow
from kernels.measures import block_means, largest_block_change
from kernels.warp import warp


def compile_all() -> None:
    """Call each kernel with every dtype that it takes; Numba keeps what it compiles on disk."""
    rgb = np.zeros((3, 192, 192), np.float32)
    for bit_depth in (8, 10):
        layout = YuvLayout(0.2126, 0.0722, full_range=False, bit_depth=bit_depth, chroma="420")
        yuv_to_rgb(rgb_to_yuv(rgb, layout), layout)
        # A view of a larger canvas and a whole array are different types to the compiler.
        yuv_to_rgb(rgb_to_yuv(np.zeros((3, 200, 200), np.float32)[:, :192, :192], layout), layout, np.empty_like(rgb))
    luma = rgb_to_luma(rgb, 2)
    flow = estimate_flow(luma, luma)
    warp(np.zeros((2, *luma.shape), np.float32), flow)
    warp(np.zeros((2, *luma.shape), np.float32), flow[:, 1:-1, 1:-1])
    block_means(luma, luma, 4)
    largest_block_change(rgb, rgb)


def compile_for_gpu() -> str:
    """Compile the CUDA kernels for the GPU; return why they were not, or nothing."""
    if find_spec("cupy") is None:
        return "no CUDA kernels: cupy is not installed"
    try:
        compile_cuda_kernels()
    except CompileError as error:
        return f"no CUDA kernels: {error}"
    return ""


if __name__ == "__main__":
    compile_all()
    print(compile_for_gpu() or "CUDA kernels compiled")
