"""ONNX Runtime on a GPU: a missing provider is an error with its remedy, not a silent fallback to the CPU."""

import numpy as np
import pytest

from runtime.engine.onnxruntime import CUDA_PROVIDER, OnnxRuntimeCpuSession, OnnxRuntimeGpuSession, load_onnxruntime
from runtime.errors import SessionError

onnxruntime = load_onnxruntime()
SIZES = {"height": 20, "width": 24}
HAS_CUDA = CUDA_PROVIDER in onnxruntime.get_available_providers()


def open_tiny(path):
    return OnnxRuntimeGpuSession(path, dimensions=SIZES, precision="fp32", threads=1)


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has the CUDA provider")
def test_a_build_without_the_provider_is_refused(tiny_network):
    with pytest.raises(
        SessionError, match=rf"built without {CUDA_PROVIDER}; pip uninstall [\w -]+, then pip install 'relume\[cuda"
    ):
        open_tiny(tiny_network)


def test_a_provider_that_does_not_start_is_refused_though_onnx_runtime_only_warns(tiny_network, monkeypatch):
    opened = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA_PROVIDER])
    # By itself ONNX Runtime continues on the CPU if the driver is too old.
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers: opened(path, options, providers=["CPUExecutionProvider"]),  # noqa: ARG005
    )

    with pytest.raises(SessionError, match="ONNX Runtime used CPUExecutionProvider instead of CUDA"):
        open_tiny(tiny_network)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="ONNX Runtime's CUDA provider needs onnxruntime-gpu and a GPU")
def test_cuda_agrees_with_the_cpu(tiny_network, tensors):
    with (
        open_tiny(tiny_network) as session,
        OnnxRuntimeCpuSession(tiny_network, dimensions=SIZES, precision="fp32", threads=1) as reference,
    ):
        expected, result = reference.run(tensors), session.run(tensors)

        assert session.backend == "onnxruntime-cuda"
    for name, array in expected.items():
        np.testing.assert_allclose(result[name], array, atol=1e-4)
