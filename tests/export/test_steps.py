"""Step engines with our warp between them give what the whole network gives, in bounded memory."""

import numpy as np
import pytest
import torch

from export.graph import export_graph
from export.graphs import step_graphs
from export.steps import run_steps, warp_with_zeros
from models.basicvsr import BasicVsr, BasicVsrConfig
from models.flow_warp import flow_warp
from models.realbasicvsr import RealBasicVsr, unet_config
from models.spynet import SpynetConfig
from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations

VSR = BasicVsrConfig(channels=4, blocks=1, flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)))


@pytest.mark.parametrize("kind", [pytest.param("basicvsr", marks=pytest.mark.slow), "unet"])
def test_steps_equal_the_whole_network(kind: str, tmp_path) -> None:
    torch.manual_seed(0)
    network = (BasicVsr(VSR) if kind == "basicvsr" else RealBasicVsr(unet_config(2, 1, skip=True, vsr=VSR))).eval()
    size = (16, 24) if kind == "basicvsr" else (32, 48)
    for level in (network if kind == "basicvsr" else network.vsr).flow.levels:
        torch.nn.init.normal_(level[-1].bias, std=2.0)
    frames = np.random.default_rng(0).random((5, 3, *size), np.float32)
    sessions = {}
    for graph in step_graphs(network, size=size):
        path = tmp_path / f"{graph.role}.onnx"
        export_graph(graph, path)
        sessions[graph.role] = OnnxRuntimeCpuSession(path, dimensions={}, precision="fp32", threads=1)

    stepped = run_steps(sessions, frames, same_size=kind == "unet")

    with torch.inference_mode():
        whole = network(torch.from_numpy(frames)[None])[0].numpy()
    for session in sessions.values():
        session.close()
    assert np.abs(stepped - whole).max() <= 1e-4 * np.abs(whole).max()


def test_the_kernel_reads_zeros_outside() -> None:
    generator = np.random.default_rng(0)
    features = generator.random((1, 3, 7, 9), np.float32)
    flow = (4 * generator.standard_normal((1, 2, 7, 9))).astype(np.float32)
    expected = flow_warp(torch.from_numpy(features), torch.from_numpy(flow)).numpy()
    np.testing.assert_allclose(warp_with_zeros(features, flow), expected, atol=1e-5)
