"""The kernels emulated on a CPU: free of races that two orders show, and of accesses out of bounds."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.emulated_cuda import SANITIZE, EmulatedModule
from tests.fake_cupy import FakeCupy
from tests.kernels.cuda.every_kernel import digest, run_every_kernel

SHARED = """
extern "C" __global__ void reverse(int* values) {
    __shared__ int row[64];
    row[threadIdx.x] = values[threadIdx.x];
    BARRIER
    values[threadIdx.x] = row[63 - threadIdx.x];
}
"""
BEYOND = 'extern "C" __global__ void beyond(int* values) { values[threadIdx.x] = 1; }'
RUN_BEYOND = """
import sys
from pathlib import Path
import numpy as np
from tests.emulated_cuda import EmulatedModule
values = np.zeros(64, np.int32)
argument = values.__array_interface__["data"][0].to_bytes(8, "little")
EmulatedModule(sys.argv[1], Path(sys.argv[2])).launch(sys.argv[3], (1,), (int(sys.argv[4]),), [argument])
"""


def run_alone(folder, *arguments, sanitized):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    if sanitized:
        libraries = [
            subprocess.check_output(["c++", f"-print-file-name={name}"], text=True).strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        if not all(os.path.isabs(library) for library in libraries):
            pytest.skip("needs the compiler's address sanitiser")
        environment |= {SANITIZE: "1", "LD_PRELOAD": ":".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


@pytest.fixture(scope="module")
def rising(kernel_folder):
    with pytest.MonkeyPatch.context() as patch:
        cupy = FakeCupy(kernel_folder)
        patch.setitem(sys.modules, "cupy", cupy)
        return run_every_kernel(cupy)


def test_results_do_not_depend_on_the_order_of_threads_and_blocks(rising, kernel_folder, monkeypatch):
    cupy = FakeCupy(kernel_folder, falling=True)
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    falling = run_every_kernel(cupy)

    for name, array in rising.items():
        np.testing.assert_array_equal(falling[name], array, name)


def test_every_kernel_stays_within_its_arrays(rising, kernel_folder, request):
    found = run_alone(
        request.config.rootpath, "-m", "tests.kernels.cuda.every_kernel", str(kernel_folder), sanitized=True
    )

    assert found.returncode == 0, found.stderr[-4000:]
    assert found.stdout.strip() == digest(rising)


@pytest.mark.slow
def test_an_access_out_of_bounds_is_found(kernel_folder, request):
    arguments = ["-c", RUN_BEYOND, BEYOND, str(kernel_folder), "beyond"]

    assert run_alone(request.config.rootpath, *arguments, "64", sanitized=True).returncode == 0
    found = run_alone(request.config.rootpath, *arguments, "65", sanitized=True)

    assert found.returncode != 0
    assert "heap-buffer-overflow" in found.stderr


def test_a_missing_barrier_is_seen_by_the_order_of_threads(kernel_folder):
    def reverse(code, *, falling):
        values = np.arange(64, dtype=np.int32)
        argument = values.__array_interface__["data"][0].to_bytes(8, "little")
        EmulatedModule(code, kernel_folder).launch("reverse", (1,), (64,), [argument], falling=falling)
        return values.tolist()

    right, wrong = (SHARED.replace("BARRIER", barrier) for barrier in ("__syncthreads();", ""))

    assert reverse(right, falling=False) == reverse(right, falling=True) == list(range(63, -1, -1))
    assert reverse(wrong, falling=False) != reverse(wrong, falling=True)


@pytest.mark.slow
def test_a_barrier_that_only_some_threads_reach_ends_the_process(kernel_folder, request):
    code = SHARED.replace("BARRIER", "if (threadIdx.x < 32) __syncthreads();")

    found = run_alone(
        request.config.rootpath, "-c", RUN_BEYOND, code, str(kernel_folder), "reverse", "64", sanitized=False
    )

    assert found.returncode == -6
    assert "some threads of a block wait for others" in found.stderr


def test_a_source_that_does_not_compile_is_refused_with_the_compilers_words(kernel_folder):
    with pytest.raises(RuntimeError, match=r"do not compile for the CPU:[\s\S]*nothing"):
        EmulatedModule('extern "C" __global__ void broken(int n) { nothing; }', kernel_folder)
