"""The properties that an engine depends on are detected without loading a library."""

import shutil
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from runtime.engine import device
from runtime.engine.device import EngineType, detect_device, parse_gpu
from runtime.errors import EngineStoreError
from runtime.hardware import Gpu, detect_hardware, read_gpus


def test_a_processor_is_identified_by_its_name_and_instructions() -> None:
    detect_device.cache_clear()
    device = detect_device(EngineType.OPENVINO)

    assert device.product
    assert len(device.capability) == 16
    assert device.runtime_version.startswith("20")
    assert (device.memory_bytes, device.driver, device.cuda) == (0, "", "")


def test_a_gpu_is_read_from_nvidia_smi() -> None:
    found = parse_gpu(Gpu("NVIDIA RTX A2000 12GB", "12282 MiB", "580.65.06", "8.6"))

    assert found == ("NVIDIA RTX A2000 12GB", "sm86", 12282 << 20, "580.65.06")
    with pytest.raises(ValueError, match="N/A"):
        parse_gpu(Gpu("Orin (nvgpu)", "[N/A]", "540.4.0", "8.7"))


def test_nvidia_smi_runs_once_a_minute_at_most(monkeypatch, tmp_path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho run >> {tmp_path}/log\necho 'RTX A2000, 12282 MiB, 580.65.06, 8.6'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(time, "monotonic", lambda: 600.0)
    monkeypatch.setattr(device, "read_version", lambda _: "10.16")
    detect_device.cache_clear()

    found = [detect_device(EngineType.RTX), detect_device(EngineType.TENSORRT)]
    gpus = detect_hardware().gpus
    monkeypatch.setattr(time, "monotonic", lambda: 661.0)
    detect_hardware()
    detect_device.cache_clear()

    assert gpus == ("RTX A2000, 12282 MiB, 580.65.06",)
    assert [(one.capability, one.memory_bytes) for one in found] == [("sm86", 12282 << 20)] * 2
    assert (tmp_path / "log").read_text().split() == ["run", "run"]


@pytest.mark.parametrize(
    ("seen", "names"),
    [(None, ["A", "B"]), ("1", ["B"]), ("1,0", ["B", "A"]), ("", []), ("7", []), ("GPU-8f21", ["A", "B"])],
)
def test_gpus_are_those_that_cuda_may_see(monkeypatch, tmp_path, seen, names) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'A, 1 MiB, 580.1, 8.6'\necho 'B, 1 MiB, 580.1, 8.9'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)

    assert [gpu.name for gpu in read_gpus()] == names


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is an NVIDIA GPU here")
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_a_missing_gpu_is_reported_with_what_to_do() -> None:
    with pytest.raises(EngineStoreError, match=r"no NVIDIA GPU found.*--for sm89.*--flavour openvino"):
        detect_device(EngineType.RTX)


def test_looking_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from runtime.engine.backends import EngineType\n"
        "from runtime.engine.device import detect_device\n"
        "detect_device(EngineType.OPENVINO)\n"
        "heavy = {'openvino', 'torch', 'onnxruntime', 'tensorrt_rtx', 'cupy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
