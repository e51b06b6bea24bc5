"""The kernels on NVIDIA GPUs: CUDA C++ compiled by NVRTC when first used, on CuPy arrays and CuPy's current stream.

Nothing here allocates or waits when its outputs are passed in, so that a CUDA graph can capture it. The functions of
`kernels.colour`, `kernels.flow`, `kernels.tiles` and `kernels.warp` come here with CuPy arrays.
"""
