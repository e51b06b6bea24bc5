"""An export agrees with PyTorch, or is discarded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from export.networks import NotExportableError, make_graphs
from export.onnx_export import Graph, ParityError, _export, _Tuple, export_graph, find_first_difference, random_inputs
from models.basicvsr import BasicVsr
from models.demucs import Demucs, DemucsConfig
from models.light_vsr import LightVsr, LightVsrConfig
from models.realbasicvsr import CleaningConfig, RealBasicVsr, RealBasicVsrConfig, unet_config
from models.registry import REGISTRY, Entry, Task, Window
from models.rvrt import Rvrt
from models.sr_unet import SrUnet, SrUnetConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's deprecation warnings

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("basicvsr-flow", "basicvsr-backward", "basicvsr-reconstruction", "realbasicvsr-clean")
SMALL += ("unet-clean", "sr-unet", "rvrt-align", "rvrt-group", "hybrid-demucs")


@pytest.mark.parametrize("name", SMALL)
def test_every_kind_of_network_agrees_with_torch(exported_graphs, name: str) -> None:
    graph, exported = exported_graphs[name]
    assert exported.parity <= 1e-4
    values = onnx.load(exported.path).graph
    assert [value.name for value in values.input] == list(graph.inputs)
    assert [value.name for value in values.output] == list(graph.outputs)
    for value in (*values.input, *values.output):
        assert all(size.dim_value > 0 for size in value.type.tensor_type.shape.dim)
    assert str(ROOT).encode() not in exported.path.read_bytes()


def test_deformable_attention_is_grid_sample_and_no_custom_operator(exported_graphs) -> None:
    nodes = onnx.load(exported_graphs["rvrt-align"][1].path).graph.node
    assert {node.domain for node in nodes} == {""}
    assert [node.op_type for node in nodes].count("GridSample") == 2


def test_masks_and_position_bias_are_constants(exported_graphs) -> None:
    kinds = {node.op_type for node in onnx.load(exported_graphs["rvrt-group"][1].path).graph.node}
    assert not kinds & {"Equal", "Not", "GreaterOrEqual", "Range", "Where"}


class Deceiving(nn.Module):
    """A network that differs between the graph and PyTorch."""

    def forward(self, x):
        return x * 1.01 if torch.compiler.is_exporting() else x


def test_a_file_that_differs_is_not_kept(tmp_path) -> None:
    path = tmp_path / "spoilt.onnx"
    with pytest.raises(ParityError, match="the first layer that differs is none: every single layer agrees"):
        export_graph(Graph("window", Deceiving(), {"x": (1, 3)}, ("y",)), path)
    assert not path.exists()


def test_the_first_layer_that_differs_is_named(tmp_path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    network = _Tuple(SrUnet(SrUnetConfig((4, 6, 8)))).eval()
    graph = Graph("window", network, {"frame": (1, 3, 16, 16)}, ("output",))
    inputs = random_inputs(graph.inputs, 0)
    program = _export(network, graph, inputs, path)
    assert find_first_difference(program, path, inputs, 1e-4).startswith("none")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "module.down.1.2.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name))
    onnx.save(model, path)

    assert find_first_difference(program, path, inputs, 1e-4) == "down.1.2 (conv2d_3)"


WINDOWS = {
    "basicvsr": (lambda vsr, _: BasicVsr(vsr), Window(3, scale=4), (16, 16)),
    "realbasicvsr": (
        lambda vsr, _: RealBasicVsr(RealBasicVsrConfig(CleaningConfig(blocks=1, channels=4), vsr)),
        Window(3, scale=4),
        (16, 16),
    ),
    "unet": (
        lambda vsr, _: RealBasicVsr(unet_config(2, 1, skip=True, vsr=vsr)),
        Window(3, side_multiple=8),
        (32, 32),
    ),
    "rvrt": (lambda _, rvrt: Rvrt(replace(rvrt, branches=2)), Window(4, scale=4), (8, 12)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WINDOWS)
def test_whole_windows_agree_with_torch_and_build(tmp_path, name: str, small_vsr, small_rvrt) -> None:
    from export.comparison_inputs import random_tiles
    from export.engine_builders import build_engine, has_builder
    from export.fp16.convert import convert_to_fp16
    from runtime.engine.device import EngineType

    make, window, size = WINDOWS[name]
    torch.manual_seed(0)
    network = make(small_vsr, small_rvrt).eval()
    if isinstance(network, Rvrt):
        for aligner in network.align.values():
            nn.init.normal_(aligner.offsets[-1].weight, std=0.3)
    (graph,) = make_graphs(Entry(name, Task.VIDEO_RESTORATION, "", lambda: network, window), network, size=size)

    exported = export_graph(graph, tmp_path / "window.onnx")
    converted = convert_to_fp16(exported.path, tmp_path / "half.onnx", random_tiles(graph.inputs, 3))

    assert exported.parity <= 1e-4
    assert converted.psnr_db >= 50
    if has_builder(EngineType.RTX):
        for path in (exported.path, converted.path):
            assert build_engine(path, tmp_path / "engine", capability="sm86").size_bytes > 0


def test_tiles_that_do_not_divide_are_refused() -> None:
    entry = REGISTRY.find("unet-2lev-1res-ws")
    with pytest.raises(NotExportableError, match="got tiles of 30x32; the sides for unet-2lev-1res-ws must be multip"):
        make_graphs(entry, nn.Identity(), size=(32, 30))


def test_a_network_that_no_graph_is_made_of_is_reported() -> None:
    with pytest.raises(NotExportableError, match=r"demucs-48 is a Identity, which export/networks\.py cannot split"):
        make_graphs(REGISTRY.find("demucs-48"), nn.Identity(), size=(64, 64))


STREAMED = {
    "demucs": ("demucs-48", lambda: Demucs(DemucsConfig(hidden=4), normalize=False)),
    "light": ("light-x2", lambda: LightVsr(LightVsrConfig(scale=2, grid=2, channels=4, blocks=1))),
}


@pytest.mark.parametrize("name", STREAMED)
def test_streaming_networks_are_one_step_with_its_states(tmp_path, name: str) -> None:
    entry, make = STREAMED[name]
    torch.manual_seed(0)
    (graph,) = make_graphs(REGISTRY.find(entry), make().eval(), size=(16, 24))

    exported = export_graph(graph, tmp_path / "step.onnx")

    assert exported.parity <= 1e-4
    assert set(graph.states) < set(graph.inputs)
    assert set(graph.states.values()) < set(graph.outputs)
    assert set(graph.inputs) - set(graph.states) == ({"x"} if name == "demucs" else {"frame", "strength"})
