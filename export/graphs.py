"""Which parts of a network become engines, and at which shapes: one window, or steps with the host between them."""

from torch import Tensor, nn

from export.graph import Graph
from models.basicvsr import BasicVsr
from models.basicvsr_steps import BranchStep, CleanStep, FlowStep, ReconstructionStep, vsr_of
from models.hybrid_demucs import HybridDemucs
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
    """Give the graphs of a network.

    Args:
        entry: The network's entry in the registry.
        network: Built from it.
        size: Height and width of a tile as it goes in.
        frames: Of a window; the entry's number without it.
        steps: Steps where the network has them, not one window.

    Raises:
        NotExportableError: Speech networks that stream, and LightVsr, have exporters of their own; or the size does not
            divide.
    """
    if isinstance(network, HybridDemucs):
        return (hybrid_demucs_graph(network),)
    if entry.window is None:
        raise NotExportableError(
            f"{entry.name} is exported from a trained checkpoint by python -m export.speech or export.light_vsr"
        )
    _check_size(entry.name, entry.window, size)
    if steps and isinstance(network, BasicVsr | RealBasicVsr):
        return step_graphs(network, size=size)
    count = frames or entry.window.frames
    if entry.window.frames == 1:
        return (Graph("window", network, {"frame": (1, entry.window.channels, *size)}, ("output",)),)
    shape = (1, count, entry.window.channels, *size)
    return (Graph("window", network, {"frames": shape}, ("output",)),)


def step_graphs(network: BasicVsr | RealBasicVsr, *, size: tuple[int, int]) -> tuple[Graph, ...]:
    """Give the step engines of BasicVSR and of what cleans its frames."""
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


def hybrid_demucs_graph(network: HybridDemucs, *, hops: int = 32) -> Graph:
    """Give hybrid Demucs between its transforms, for segments of `hops` hops."""
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
    )


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
