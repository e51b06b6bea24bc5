"""What is proven: every network and every model that ships, at the smallest shapes that use all of it."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from export.fixed import fix_dimensions
from export.graph import Graph
from export.graphs import hybrid_demucs_graph, make_graphs
from export.run import build_network, file_outputs, file_shapes
from models.basicvsr import BasicVsr
from models.hybrid_demucs import HybridDemucs
from models.realbasicvsr import RealBasicVsr
from models.registry import REGISTRY, Entry
from models.rvrt import Rvrt
from runtime.manifest import Model, list_models

SIDE = 32
FRAMES = 3
HOPS = 8
SHIPPED = "shipped-"


class ShippedStep(nn.Module):
    """Stands for a file that ships, whose PyTorch form is not here; it is never run."""

    def __init__(self, sha256: str) -> None:
        super().__init__()
        self.sha256 = sha256


def find_subjects(names: tuple[str, ...] = ()) -> list[str]:
    """Return the names of what is proven: those asked for in their order, or all, what is proven in minutes first.

    Raises:
        UnknownNetworkError: There is no such network.
    """
    shipped = [f"{SHIPPED}{model.manifest.name}" for model in list_models()]
    if names:
        for name in names:
            if name not in shipped:
                REGISTRY.find(name)
        return list(names)
    # The registry begins with the full RVRT networks, of which one takes longer than all others together.
    return shipped + [entry.name for entry in reversed(list(REGISTRY))]


def proof_shape(entry: Entry, network: nn.Module) -> tuple[tuple[int, int], int]:
    """Return the tile and the frames that a network is proven with.

    RVRT: two attention windows each way, so that windows shift, and two clips, so that one is aligned to the other.
    Others: whole at any size that divides, at twice the sides if they work inside at a quarter; three frames have a
    first, an inner and a last one.
    """
    if isinstance(network, Rvrt):
        side = 2 * network.config.window * (1 if network.config.scale == 4 else 4)
        return (side, side), 4
    if entry.window is None:
        return (SIDE, SIDE), 1
    side = max(SIDE if entry.window.scale > 1 else 2 * SIDE, 2 * entry.window.side_multiple)
    return (side, side), min(FRAMES, entry.window.frames)


def subject_graphs(name: str, folder: Path) -> Iterator[tuple[Graph, Path | None]]:
    """Yield the graphs of a subject, each with its file if it is one that ships."""
    if name.startswith(SHIPPED):
        model = next(one for one in list_models() if f"{SHIPPED}{one.manifest.name}" == name)
        yield file_graph(model, "step", folder)
        return
    entry = REGISTRY.find(name)
    network = build_network(entry, None)
    if isinstance(network, HybridDemucs):
        yield hybrid_demucs_graph(network, hops=HOPS), None
        return
    size, frames = proof_shape(entry, network)
    for graph in make_graphs(entry, network, size=size, frames=frames):
        yield graph, None
    if isinstance(network, BasicVsr | RealBasicVsr):
        for graph in make_graphs(entry, network, size=size, steps=True):
            yield graph, None


def count_parameters(name: str) -> int:
    """Count a subject's weights."""
    if name.startswith(SHIPPED):
        return next(one for one in list_models() if f"{SHIPPED}{one.manifest.name}" == name).manifest.parameters
    with torch.device("meta"):  # no memory, no random numbers
        network = REGISTRY.find(name).build()
    return sum(weight.numel() for weight in network.parameters())


def file_graph(model: Model, role: str, folder: Path) -> tuple[Graph, Path]:
    """Fix the sizes of a model's float32 file in a folder; give it as a graph, and the file."""
    manifest = model.manifest
    path = folder / f"{manifest.name}-{role}.fixed.onnx"
    fix_dimensions(model.file(role=role), path, named_sizes(model))
    digest = next(file.sha256 for file in manifest.files if (file.role, file.precision) == (role, "fp32"))
    graph = Graph(
        role,
        ShippedStep(digest),
        file_shapes(path),
        file_outputs(path),
        states={state.input: state.output for state in manifest.states},
        sound=manifest.inputs[0].name if manifest.audio is not None else None,
    )
    return graph, path


def named_sizes(model: Model) -> dict[str, int]:
    """Return a size for each name that a dimension of a model may have."""
    audio = model.manifest.audio
    return {"samples": audio.block_samples} if audio is not None else {"height": SIDE, "width": SIDE}
