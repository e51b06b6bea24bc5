"""What an engine depends on is found out without loading a library."""

import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from runtime.engine.backends import Flavour
from runtime.errors import EngineStoreError
from runtime.hardware import look_at_device, read_gpu


def test_a_processor_is_told_by_its_name_and_instructions() -> None:
    look_at_device.cache_clear()
    device = look_at_device(Flavour.OPENVINO)

    assert device.product
    assert len(device.capability) == 16
    assert device.runtime_version.startswith("20")
    assert (device.memory_bytes, device.driver, device.cuda) == (0, "", "")


def test_a_gpu_is_read_from_what_nvidia_smi_says() -> None:
    told = read_gpu("NVIDIA RTX A2000 12GB, 8.6, 12282 MiB, 580.65.06")

    assert told == ("NVIDIA RTX A2000 12GB", "sm86", 12282 << 20, "580.65.06")
    with pytest.raises(ValueError, match="N/A"):
        read_gpu("Orin (nvgpu), 8.7, [N/A], 540.4.0")


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is an NVIDIA GPU here")
@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_a_missing_gpu_is_told_with_what_to_do() -> None:
    with pytest.raises(EngineStoreError, match=r"no NVIDIA GPU is found here.*--for sm89.*--flavour openvino"):
        look_at_device(Flavour.RTX)


def test_looking_loads_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from runtime.engine.backends import Flavour\n"
        "from runtime.hardware import look_at_device\n"
        "look_at_device(Flavour.OPENVINO)\n"
        "heavy = {'openvino', 'torch', 'onnxruntime', 'tensorrt_rtx', 'cupy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
