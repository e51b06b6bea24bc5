"""The networks that can be exported: their weights, and their graphs, as whole windows or as single steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.comparison_inputs import Tile
from export.onnx_export import Graph, file_outputs, file_shapes, set_static_shapes
from export.speech_step import NEXT, demucs_graph
from models.basicvsr import BasicVsr
from models.basicvsr_steps import BranchStep, CleanStep, FlowStep, ReconstructionStep, vsr_of
from models.demucs import Demucs
from models.hybrid_demucs import HybridDemucs
from models.light_vsr import LightVsr
from models.light_vsr_step import LightVsrStep
from models.published import CheckpointError, load_published
from models.realbasicvsr import CleaningPass, RealBasicVsr, ResidualCleaning, UnetCleaning
from models.registry import Entry, Window
from runtime.manifest import Model

PREFIXES = ("generator_ema.", "generator.")
"""Prefixes of the names in mmediting's checkpoints, the averaged generator first."""


def load_checkpoint(model: torch.nn.Module, checkpoint: Path, entry: Entry) -> None:
    """Load a checkpoint with our names or the published ones, strictly.

    Raises:
        CheckpointError: It belongs to another network.
    """
    state = read_state(checkpoint)
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            break
    if state.keys() == model.state_dict().keys():
        model.load_state_dict(state)
    elif entry.published is not None:
        load_published(model, state, entry.published.table, optional=entry.published.optional)
    else:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of {entry.name}, and there is no rename table for it")


def read_state(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint's tensors without executing code in it.

    Raises:
        CheckpointError: The file cannot be read, or holds no tensors.
    """
    try:
        held: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what pickle, zipfile and the file system raise
        raise CheckpointError(f"{checkpoint} cannot be read as a checkpoint: {error}") from error
    for key in ("params_ema", "params", "state_dict", "ema"):  # the last is written by our own training
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not held or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise CheckpointError(f"{checkpoint} has no table of tensors; use a published .pth file")
    return held


class NotExportableError(ValueError):
    """A network that cannot be exported."""


def make_graphs(
    entry: Entry,
    network: nn.Module,
    *,
    size: tuple[int, int],
    frames: int | None = None,
    steps: bool = False,
) -> tuple[Graph, ...]:
    """Return the graphs of a network.

    Args:
        entry: The network's entry in the registry.
        network: Built from it.
        size: Height and width of a tile as it goes in.
        frames: Frames of a window; the entry's number if None.
        steps: Steps where the network has them, not one window.

    Raises:
        NotExportableError: The size is not a multiple, or this kind of network has no graphs.
    """
    if isinstance(network, HybridDemucs):
        return (hybrid_demucs_graph(network),)
    if isinstance(network, Demucs):
        return (demucs_step_graph(network),)
    if isinstance(network, LightVsr):
        return (light_graph(network, size=size),)
    if entry.window is None:
        raise NotExportableError(f"{entry.name} is a {type(network).__name__}, which export/networks.py cannot split")
    _check_size(entry.name, entry.window, size)
    if steps and isinstance(network, BasicVsr | RealBasicVsr):
        return step_graphs(network, size=size)
    count = frames or entry.window.frames
    if entry.window.frames == 1:
        return (Graph("window", network, {"frame": (1, entry.window.channels, *size)}, ("output",)),)
    shape = (1, count, entry.window.channels, *size)
    return (Graph("window", network, {"frames": shape}, ("output",)),)


def step_graphs(network: BasicVsr | RealBasicVsr, *, size: tuple[int, int]) -> tuple[Graph, ...]:
    """Return the steps of BasicVSR and of its cleaning network."""
    vsr = vsr_of(network)
    cleaning = network.cleaning if isinstance(network, RealBasicVsr) else None
    small = size
    before: tuple[Graph, ...] = ()
    if isinstance(cleaning, UnetCleaning):
        small = (size[0] // 4, size[1] // 4)
        before = (Graph("clean", CleanStep(cleaning), {"frame": (1, 3, *size)}, ("cleaned",)),)
    elif isinstance(cleaning, ResidualCleaning):
        before = (Graph("clean", CleaningPass(cleaning), {"frame": (1, 3, *size)}, ("cleaned", "change")),)
    frame, features = (1, 3, *small), (1, vsr.config.channels, *small)
    same_size = isinstance(cleaning, UnetCleaning)
    return (
        *before,
        Graph("flow", FlowStep(vsr.flow), {"reference": frame, "other": frame}, ("flow",)),
        *(
            Graph(role, BranchStep(branch), {"frame": frame, "warped": features}, ("features",))
            for role, branch in (("backward", vsr.backward_branch), ("forward", vsr.forward_branch))
        ),
        Graph(
            "reconstruction",
            ReconstructionStep(vsr, same_size=same_size),
            {"backward": features, "forward": features, "frame": (1, 3, *size) if same_size else frame},
            ("output",),
        ),
    )


def light_graph(network: LightVsr, *, size: tuple[int, int]) -> Graph:
    """Return the step of LightVsr on a grid of `size`; its frame is `grid` times as large."""
    config = network.config
    height, width = size
    return Graph(
        "step",
        LightVsrStep(network),
        {
            "frame": (1, 3, config.grid * height, config.grid * width),
            "strength": (1,),
            "hidden": (1, config.channels, height, width),
            "previous": (1, 3, height, width),
        }
        | ({"degradation": (1, config.descriptors)} if config.descriptors else {}),
        ("output", "hidden_out", "previous_out"),
        states={"hidden": "hidden_out", "previous": "previous_out"},
    )


def demucs_step_graph(network: Demucs) -> Graph:
    """Return causal Demucs for blocks of the length that ships."""
    step = demucs_graph(network)
    return Graph(
        "step",
        step.step,
        {"x": (1, 1, step.spec.block_samples)} | step.shapes,
        ("y", *(name + NEXT for name in step.shapes)),
        traced=True,
        states={name: name + NEXT for name in step.shapes},
        audio="x",
    )


def hybrid_demucs_graph(network: HybridDemucs, *, hops: int = 32) -> Graph:
    """Return hybrid Demucs between its transforms, for segments of `hops` hops."""
    config = network.config
    samples = hops * config.hop
    return Graph(
        "core",
        _Core(network),
        {
            "spectrum": (1, 2 * config.audio_channels, config.bands, hops),
            "mixture": (1, config.audio_channels, samples),
        },
        ("spectral", "wave"),
        traced=True,
        audio="mixture",
        derive=_spectrum_of(network),
    )


def _spectrum_of(network: HybridDemucs) -> Callable[[Tile], Tile]:
    def derive(tile: Tile) -> Tile:
        with torch.no_grad():
            spectrum = network.spectrum(torch.from_numpy(tile["mixture"])).numpy()
        return tile | {"spectrum": np.ascontiguousarray(spectrum, np.float32)}

    return derive


class _Core(nn.Module):
    def __init__(self, network: HybridDemucs) -> None:
        super().__init__()
        self.network = network

    def forward(self, spectrum: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.core(spectrum, mixture)


def _check_size(name: str, window: Window, size: tuple[int, int]) -> None:
    if size[0] % window.side_multiple or size[1] % window.side_multiple:
        raise NotExportableError(
            f"got tiles of {size[1]}x{size[0]}; the sides for {name} must be multiples of {window.side_multiple}"
        )


def build_network(entry: Entry, checkpoint: Path | None) -> nn.Module:
    """Build a network with a checkpoint's weights; without one with seeded random weights, to test the export.

    Zero-initialised layers, such as those of offsets or of a residual block, get random weights too: zeros would hide
    errors in them.

    Raises:
        CheckpointError: The checkpoint belongs to another network.
    """
    torch.manual_seed(0)
    network = entry.build().eval()
    if checkpoint is None:
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():
                nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        return network
    load_checkpoint(network, checkpoint, entry)
    return network


SIDE = 32


class ShippedStep(nn.Module):
    """A placeholder for a shipped file without its PyTorch module; it is never run."""

    def __init__(self, sha256: str) -> None:
        super().__init__()
        self.sha256 = sha256


def file_graph(model: Model, role: str, folder: Path) -> tuple[Graph, Path]:
    """Write a model's float32 file with static shapes into a folder; return its graph and path."""
    manifest = model.manifest
    path = folder / f"{manifest.name}-{role}.fixed.onnx"
    set_static_shapes(model.file(role=role), path, named_sizes(model))
    digest = next(file.sha256 for file in manifest.files if (file.role, file.precision) == (role, "fp32"))
    graph = Graph(
        role,
        ShippedStep(digest),
        file_shapes(path),
        file_outputs(path),
        states={state.input: state.output for state in manifest.states},
        audio=manifest.inputs[0].name if manifest.audio is not None else None,
    )
    return graph, path


def named_sizes(model: Model) -> dict[str, int]:
    """Return a size for each named dimension of a model."""
    audio = model.manifest.audio
    return {"samples": audio.block_samples} if audio is not None else {"height": SIDE, "width": SIDE}
