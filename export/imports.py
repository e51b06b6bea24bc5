"""An owner's own checkpoint into their zoo as one window: RVRT by its rename table, image networks through spandrel."""

from dataclasses import replace
from pathlib import Path

import torch

from export.checkpoint import load_checkpoint, read_state
from export.graph import Exported, Graph
from export.graphs import make_graphs
from export.spandrel_library import load_image_network
from export.zoo_entry import Imported, ImportRefusedError, usual_overlap, write_entry
from models.published import OWN_NAMES, RVRT, CheckpointError, load_published
from models.registry import NON_COMMERCIAL, PAPERS, REGISTRY, Task
from models.rvrt import RVRT_CONFIGS, Rvrt, RvrtConfig
from runtime.manifest import Manifest

UNKNOWN_LICENCE = "unknown: ask whoever made the checkpoint before you use it"
NON_COMMERCIAL_LICENCE = f"{NON_COMMERCIAL}: non-commercial use only"


def import_rvrt(
    checkpoint: Path,
    zoo: Path,
    *,
    name: str | None = None,
    frames: int = 4,
    overlap: int | None = None,
    tile: tuple[int, int] = (64, 64),
    licence: str | None = None,
    config: RvrtConfig | None = None,
) -> tuple[Manifest, tuple[Exported, ...]]:
    """Make a zoo entry of a published RVRT checkpoint, with the residual block as the identity before its upsampler.

    Args:
        checkpoint: As published, or with the residual block trained, then also under our names.
        zoo: The owner's own folder of models.
        name: Of the entry; after the file without it.
        frames: Of a window, even.
        overlap: Frames that two windows share; a quarter of a window without it.
        tile: Height and width of a tile.
        licence: Of the weights, where it is another one than that of the published ones.
        config: Sizes of the network; those of the published configuration that the checkpoint fits without it.

    Raises:
        CheckpointError: The file is no RVRT checkpoint.
        ImportRefusedError: The zoo is the one that ships, or the name is taken.
    """
    state = read_state(checkpoint)
    network, known = fit_rvrt(state, config)
    network.eval()
    shape = (1, frames, network.config.input_channels, *tile)
    imported = Imported(
        name=name or f"rvrt-{checkpoint.stem.lower()}",
        title=f"Residual RVRT, imported from {checkpoint.name}",
        task=Task.VIDEO_SUPER_RESOLUTION if network.config.scale == 4 else Task.VIDEO_RESTORATION,
        architecture=f"residual RVRT, {known}",
        paper=PAPERS["rvrt"],
        licence=licence or (UNKNOWN_LICENCE if known in OWN_SIZES else NON_COMMERCIAL_LICENCE),
        source=checkpoint,
        scale=network.config.scale,
        tile=tile,
        frames=frames,
        overlap=usual_overlap(frames) if overlap is None else overlap,
        side_multiple=network.config.side_multiple,
    )
    return write_entry(network, imported, (Graph("window", network, {"frames": shape}, ("output",)),), zoo)


def import_network(
    network: str,
    checkpoint: Path,
    zoo: Path,
    *,
    name: str | None = None,
    frames: int | None = None,
    overlap: int | None = None,
    tile: tuple[int, int] = (64, 64),
    licence: str | None = None,
) -> tuple[Manifest, tuple[Exported, ...]]:
    """Make a zoo entry of a network that you trained, as one window of frames or one frame.

    Args:
        network: Its name in the registry.
        checkpoint: Under our names, as `python -m training` writes it.
        zoo: The owner's own folder of models.
        name: Of the entry; after the network and the file without it.
        frames: Of a window; the registry's number without it.
        overlap: Frames that two windows share; a quarter of a window without it.
        tile: Height and width of a tile.
        licence: Of the weights, if it is known.

    Raises:
        UnknownNetworkError: There is no such network.
        CheckpointError: The file is no checkpoint of it.
        ImportRefusedError: The network takes no window, the zoo is the one that ships, or the name is taken.
        NotExportableError: The tile does not divide.
    """
    entry = REGISTRY.find(network)
    if entry.window is None:
        raise ImportRefusedError(f"{network} takes no window of frames; see `relume-build networks`")
    model = entry.build().eval()
    load_checkpoint(model, checkpoint, entry)
    count = 1 if entry.window.frames == 1 else frames or entry.window.frames
    imported = Imported(
        name=name or f"{network}-{checkpoint.stem.lower()}",
        title=f"{network}, imported from {checkpoint.name}",
        task=entry.task,
        architecture=network,
        paper=entry.paper,
        licence=licence or UNKNOWN_LICENCE,
        source=checkpoint,
        scale=entry.window.scale,
        tile=tile,
        frames=count,
        overlap=usual_overlap(count) if overlap is None else overlap,
        side_multiple=entry.window.side_multiple,
    )
    return write_entry(model, imported, make_graphs(entry, model, size=tile, frames=count), zoo)


def import_spandrel(
    checkpoint: Path,
    zoo: Path,
    *,
    name: str | None = None,
    tile: tuple[int, int] = (64, 64),
    licence: str | None = None,
) -> tuple[Manifest, tuple[Exported, ...]]:
    """Make a zoo entry of any image network that spandrel recognises.

    Raises:
        SpandrelError: spandrel is not installed, or does not recognise the file.
        ImportRefusedError: Its scale or channels do not fit, the zoo is the one that ships, or the name is taken.
    """
    descriptor = load_image_network(checkpoint)
    kind = descriptor.architecture.name
    if descriptor.scale not in (1, 2, 4) or (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise ImportRefusedError(
            f"{checkpoint} is a {kind} of scale {descriptor.scale} from {descriptor.input_channels} to "
            f"{descriptor.output_channels} channels; expected scale 1, 2 or 4 and RGB"
        )
    multiple = max(int(descriptor.size_requirements.multiple_of), 1)
    if tile[0] % multiple or tile[1] % multiple:
        raise ImportRefusedError(
            f"got tiles of {tile[1]}x{tile[0]}; {kind} needs sides that are multiples of {multiple}"
        )
    network: torch.nn.Module = descriptor.model.eval()
    imported = Imported(
        name=name or f"{kind.lower().replace(' ', '-')}-{checkpoint.stem.lower()}",
        title=f"{kind}, imported from {checkpoint.name}",
        task=Task.VIDEO_SUPER_RESOLUTION,
        architecture=f"{kind} ({', '.join(descriptor.tags)})" if descriptor.tags else kind,
        paper=f"as spandrel recognised it: {kind}",
        licence=licence or UNKNOWN_LICENCE,
        source=checkpoint,
        scale=descriptor.scale,
        tile=tile,
        frames=1,
        overlap=0,
        side_multiple=multiple,
    )
    graph = Graph("window", network, {"frame": (1, 3, *tile)}, ("output",), traced=True)
    return write_entry(network, imported, (graph,), zoo)


def fit_rvrt(state: dict[str, torch.Tensor], config: RvrtConfig | None) -> tuple[Rvrt, str]:
    """Find the configuration that a checkpoint fits; super-resolution's three are one.

    Returns:
        The network with the checkpoint's weights, and what it is called.

    Raises:
        CheckpointError: It fits none.
    """
    names = (*_DISTINCT, *OWN_SIZES)
    candidates = {"its own sizes": config} if config is not None else {name: RVRT_CONFIGS[name] for name in names}
    reasons = []
    for name, candidate in candidates.items():
        network = Rvrt(replace(candidate, refinement=True))
        own = state.keys() == network.state_dict().keys()
        try:
            load_published(network, state, OWN_NAMES if own else RVRT, optional=("refinement.",))
        except CheckpointError as error:
            reasons.append(f"{name}: {error}")
            continue
        return network, _DISTINCT.get(name, name)
    raise CheckpointError("the checkpoint fits no RVRT configuration; " + "; ".join(reasons))


OWN_SIZES = ("small", "tiny")
"""Configurations of ours, which nobody published weights for."""

_DISTINCT = {
    "001_RVRT_videosr_bi_REDS_30frames": "super-resolution x4 (as 001, 002, 003)",
    "004_RVRT_videodeblurring_DVD_16frames": "deblurring (as 004, 005)",
    "006_RVRT_videodenoising_DAVIS_16frames": "denoising with a noise level (as 006)",
}
