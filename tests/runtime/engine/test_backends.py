"""Which backends there are, and what is missing for the others, without importing anything heavy."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from runtime.engine import backends
from runtime.engine.backends import find_backend, list_backends
from runtime.errors import OptionError, SessionError


@pytest.fixture
def box(monkeypatch, tmp_path):
    """Simulate a machine with these modules and distributions, and perhaps a GPU."""

    def pretend(*there, distributions=(), gpu=False):
        def version(name):
            if name in distributions:
                return "1.0"
            raise PackageNotFoundError(name)

        driver = tmp_path / "nvidia0"
        if gpu:
            driver.touch()
        monkeypatch.setattr(backends, "find_spec", lambda name: name if name in there else None)
        monkeypatch.setattr(backends, "version", version)
        monkeypatch.setattr(backends, "_GPU_FILES", (str(driver),))
        return {backend.name: backend for backend in list_backends()}

    return pretend


def test_without_libraries_every_backend_names_its_remedy(box):
    found = box()

    assert list(found) == ["cpu", "openvino", "cuda", "tensorrt", "rtx"]
    assert not any(backend.available for backend in found.values())
    assert found["cpu"].reason == "onnxruntime is missing; pip install 'relume[cpu]'"
    assert found["cuda"].reason == "no NVIDIA GPU is visible; install its driver"


def test_on_a_gpu_the_library_that_is_missing_is_named(box):
    found = box("onnxruntime", "openvino", "cupy", "tensorrt_rtx", distributions=["tensorrt-rtx-cu13"], gpu=True)

    assert [name for name, backend in found.items() if backend.available] == ["cpu", "openvino", "rtx"]
    assert found["cuda"].reason == "onnxruntime-gpu is missing; pip install 'relume[cuda]'"
    assert found["tensorrt"].reason == "tensorrt is missing; pip install 'relume[tensorrt]'"
    assert found["rtx"].library_version == "tensorrt-rtx-cu13 1.0"
    assert [backend.on_gpu for backend in found.values()] == [False, False, True, True, True]


def test_two_onnx_runtimes_at_once_are_reported_and_not_treated_as_one_with_a_gpu(box):
    found = box("onnxruntime", distributions=["onnxruntime", "onnxruntime-gpu"], gpu=True)
    only_cpu = box("onnxruntime", distributions=["onnxruntime"], gpu=True)

    assert not found["cuda"].available
    assert "pip uninstall both, then pip install 'relume[cuda]'" in found["cuda"].reason
    assert only_cpu["cuda"].reason == (
        "onnxruntime-gpu is missing; pip uninstall onnxruntime, then pip install 'relume[cuda]'"
    )


def test_the_onnx_runtime_of_a_gpu_server_runs_its_processor_too(box):
    found = box("onnxruntime", distributions=["onnxruntime-gpu"], gpu=True)

    assert found["cpu"].library_version == "onnxruntime-gpu 1.0"
    assert found["cuda"].available


def test_a_backend_that_cannot_be_used_is_refused_with_the_remedy(box):
    box("onnxruntime")

    with pytest.raises(SessionError, match="backend openvino cannot be used: openvino is missing; pip install"):
        find_backend("openvino")


def test_an_unknown_backend_is_refused_with_those_there_are():
    with pytest.raises(OptionError, match="no backend named 'quantum'; there are: auto, cpu"):
        find_backend("quantum")


def test_a_backend_opens_files_with_its_own_session(tiny_network, tensors):
    sizes = {"height": 20, "width": 24}
    for backend in list_backends():
        if backend.available and not backend.on_gpu:
            with backend.open_file(tiny_network, sizes, precision="fp32", threads=1) as session:
                assert session.run(tensors)["output"].shape == (1, 3, 40, 48)


def test_looking_for_backends_imports_nothing_heavy():
    program = (
        "import sys\nfrom runtime.engine.backends import list_backends\nlist_backends()\n"
        "print({'onnxruntime', 'openvino', 'cupy', 'tensorrt', 'tensorrt_rtx', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
