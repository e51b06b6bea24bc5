import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

from export.networks import hybrid_demucs_graph, step_graphs
from export.onnx_export import Exported, Graph, export_graph
from models.basicvsr import BasicVsr, BasicVsrConfig
from models.hybrid_demucs import HybridDemucs, HybridDemucsConfig
from models.realbasicvsr import CleaningConfig, RealBasicVsr, RealBasicVsrConfig, unet_config
from models.rvrt import RvrtConfig
from models.rvrt.alignment import GuidedDeformableAttention
from models.rvrt.blocks import transformer_group
from models.spynet import SpynetConfig
from models.sr_unet import SrUnet, SrUnetConfig

VSR = BasicVsrConfig(channels=4, blocks=1, flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)))
RVRT = RvrtConfig(
    embed=8,
    window=4,
    blocks=(1, 1, 1),
    depths=(1, 2, 1),
    heads=2,
    deformable_groups=4,
    deformable_heads=2,
    offset_width=4,
    up_width=4,
    branches=1,
    refinement=True,
    flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)),
)


class Align(torch.nn.Module):
    """The deformable attention of RVRT on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.align = GuidedDeformableAttention(RVRT)
        torch.nn.init.normal_(self.align.offsets[-1].weight, std=0.3)

    def forward(self, query, key, value, same, other):
        return self.align(query, key, value, (value, value), (same, other))[0]


def small_graphs() -> dict[str, Graph]:
    """Return a small version of every kind of engine that exports in about a second."""
    torch.manual_seed(0)
    clip, flow = (1, 2, 8, 8, 12), (1, 2, 2, 8, 12)
    parts = step_graphs(BasicVsr(VSR), size=(16, 16))
    graphs = {f"basicvsr-{graph.role}": graph for graph in parts if graph.role != "forward"}
    cleaned = RealBasicVsr(RealBasicVsrConfig(CleaningConfig(blocks=1, channels=4), VSR))
    graphs["realbasicvsr-clean"] = step_graphs(cleaned, size=(16, 16))[0]
    graphs["unet-clean"] = step_graphs(RealBasicVsr(unet_config(2, 1, skip=True, vsr=VSR)), size=(32, 32))[0]
    graphs["sr-unet"] = Graph("window", SrUnet(SrUnetConfig((4, 6, 8))), {"frame": (1, 3, 16, 16)}, ("output",))
    graphs["rvrt-align"] = Graph(
        "align", Align(), {"query": clip, "key": clip, "value": clip, "same": flow, "other": flow}, ("aligned",)
    )
    graphs["rvrt-group"] = Graph(
        "body", transformer_group(RVRT, 8, stage=1, frames=2, groups=1), {"features": (2, 8, 8, 12)}, ("refined",)
    )
    speech = HybridDemucsConfig(channels=4, bands=128, hop=64, strided_levels=3, norm_from=2, deep_from=2)
    graphs["hybrid-demucs"] = hybrid_demucs_graph(HybridDemucs(speech), hops=8)
    return graphs


@pytest.fixture(scope="session")
def small_vsr() -> BasicVsrConfig:
    """Sizes of a BasicVSR that exports in seconds."""
    return VSR


@pytest.fixture(scope="session")
def small_rvrt() -> RvrtConfig:
    """Sizes of a residual RVRT that exports in seconds."""
    return RVRT


class ExportedGraphs(Mapping[str, tuple[Graph, Exported]]):
    """Small graphs, each exported on first use by whichever worker needs it."""

    def __init__(self, make_once: Callable[..., Path]) -> None:
        self._graphs, self._make_once = small_graphs(), make_once

    def __getitem__(self, name: str) -> tuple[Graph, Exported]:
        graph = self._graphs[name]

        def export(folder: Path) -> None:
            exported = export_graph(graph, folder / f"{name}.onnx")
            (folder / "exported.pickle").write_bytes(pickle.dumps(exported))

        folder = self._make_once(f"graph-{name}", export)
        return graph, pickle.loads((folder / "exported.pickle").read_bytes())

    def __iter__(self) -> Iterator[str]:
        return iter(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)


@pytest.fixture(scope="session")
def exported_graphs(make_once) -> ExportedGraphs:
    return ExportedGraphs(make_once)
