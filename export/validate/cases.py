"""Validation cases: every network and every shipped model, at the smallest shapes that exercise everything."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from export.networks import SIDE, build_network, file_graph, hybrid_demucs_graph, make_graphs
from export.onnx_export import Graph
from models.basicvsr import BasicVsr
from models.hybrid_demucs import HybridDemucs
from models.realbasicvsr import RealBasicVsr
from models.registry import REGISTRY, Entry
from models.rvrt import Rvrt
from runtime.manifest import list_models

FRAMES = 3
HOPS = 8
SHIPPED = "shipped-"


def find_cases(names: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the cases in order: those given, or all of them with the quick ones first.

    Raises:
        UnknownNetworkError: There is no such network.
    """
    shipped = [f"{SHIPPED}{model.manifest.name}" for model in list_models()]
    if names:
        for name in names:
            if name not in shipped:
                REGISTRY.find(name)
        return list(names)
    # The registry begins with the full RVRT networks, one of which takes longer than all others together.
    return shipped + [entry.name for entry in reversed(list(REGISTRY))]


def case_shape(entry: Entry, network: nn.Module) -> tuple[tuple[int, int], int]:
    """Return the tile size and the number of frames that a network is validated with.

    RVRT: two attention windows per axis, so that windows shift, and two clips, so that one is aligned to the other.
    Others: any size that divides, twice as large if they work internally at a quarter; three frames have a first, an
    inner and a last one.
    """
    if isinstance(network, Rvrt):
        side = 2 * network.config.window * (1 if network.config.scale == 4 else 4)
        return (side, side), 4
    if entry.window is None:
        return (SIDE, SIDE), 1
    side = max(SIDE if entry.window.scale > 1 else 2 * SIDE, 2 * entry.window.side_multiple)
    return (side, side), min(FRAMES, entry.window.frames)


def case_graphs(name: str, folder: Path) -> Iterator[tuple[Graph, Path | None]]:
    """Yield the graphs of a case, each with its file for a shipped model."""
    if name.startswith(SHIPPED):
        model = next(one for one in list_models() if f"{SHIPPED}{one.manifest.name}" == name)
        yield file_graph(model, "step", folder)
        return
    entry = REGISTRY.find(name)
    network = build_network(entry, None)
    if isinstance(network, HybridDemucs):
        yield hybrid_demucs_graph(network, hops=HOPS), None
        return
    size, frames = case_shape(entry, network)
    for graph in make_graphs(entry, network, size=size, frames=frames):
        yield graph, None
    if isinstance(network, BasicVsr | RealBasicVsr):
        for graph in make_graphs(entry, network, size=size, steps=True):
            yield graph, None


def count_parameters(name: str) -> int:
    """Return the number of weights of a case."""
    if name.startswith(SHIPPED):
        return next(one for one in list_models() if f"{SHIPPED}{one.manifest.name}" == name).manifest.parameters
    with torch.device("meta"):  # no memory, no random numbers
        network = REGISTRY.find(name).build()
    return sum(weight.numel() for weight in network.parameters())
