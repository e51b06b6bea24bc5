"""Which parts of a network become engines, and at which shapes: one window, or steps with the host between them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from export.demucs import demucs_graph
from export.graph import Graph
from export.speech_step import NEXT
from export.tiles import Tile
from models.basicvsr import BasicVsr
from models.basicvsr_steps import BranchStep, CleanStep, FlowStep, ReconstructionStep, vsr_of
from models.demucs import Demucs
from models.hybrid_demucs import HybridDemucs
from models.light_vsr import LightVsr
from models.light_vsr_step import LightVsrStep
from models.realbasicvsr import CleaningPass, RealBasicVsr, ResidualCleaning, UnetCleaning
from models.registry import Entry, Window


class NotExportableError(ValueError):
    """A network that this module makes no graphs of."""


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
        frames: Of a window; the entry's number without it.
        steps: Steps where the network has them, not one window.

    Raises:
        NotExportableError: The size does not divide, or there are no graphs of this kind of network.
    """
    if isinstance(network, HybridDemucs):
        return (hybrid_demucs_graph(network),)
    if isinstance(network, Demucs):
        return (demucs_step_graph(network),)
    if isinstance(network, LightVsr):
        return (light_graph(network, size=size),)
    if entry.window is None:
        raise NotExportableError(f"{entry.name} is a {type(network).__name__}, of which export/graphs.py makes none")
    _check_size(entry.name, entry.window, size)
    if steps and isinstance(network, BasicVsr | RealBasicVsr):
        return step_graphs(network, size=size)
    count = frames or entry.window.frames
    if entry.window.frames == 1:
        return (Graph("window", network, {"frame": (1, entry.window.channels, *size)}, ("output",)),)
    shape = (1, count, entry.window.channels, *size)
    return (Graph("window", network, {"frames": shape}, ("output",)),)


def step_graphs(network: BasicVsr | RealBasicVsr, *, size: tuple[int, int]) -> tuple[Graph, ...]:
    """Return the step engines of BasicVSR and of what cleans its frames."""
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
        },
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
        sound="x",
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
        sound="mixture",
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
