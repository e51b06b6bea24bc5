"""Import a published RVRT checkpoint as a window engine, through its rename table."""

from dataclasses import replace
from pathlib import Path

import torch

from export.importers.entry import UNKNOWN_LICENCE, Imported, default_overlap, write_entry
from export.networks import read_state
from export.onnx_export import Exported, Graph
from models.published import OWN_NAMES, RVRT, CheckpointError, load_published
from models.registry import NON_COMMERCIAL, PAPERS, Task
from models.rvrt import RVRT_CONFIGS, Rvrt, RvrtConfig
from runtime.manifest import Manifest

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
    """Create a zoo entry from a published RVRT checkpoint, with an identity residual block before its upsampler.

    Args:
        checkpoint: As published, or with a trained residual block, then also with our parameter names.
        zoo: The owner's own folder of models.
        name: Of the entry; derived from the file if None.
        frames: Of a window, even.
        overlap: Frames shared by consecutive windows; a quarter of a window if None.
        tile: Height and width of a tile.
        licence: Licence of the weights, if it differs from that of the published ones.
        config: Sizes of the network; those of the published configuration that the checkpoint fits if None.

    Raises:
        CheckpointError: The file is not an RVRT checkpoint.
        ImportRefusedError: The zoo is the shipped one, or the name is taken.
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
        overlap=default_overlap(frames) if overlap is None else overlap,
        side_multiple=network.config.side_multiple,
    )
    return write_entry(network, imported, (Graph("window", network, {"frames": shape}, ("output",)),), zoo)


def fit_rvrt(state: dict[str, torch.Tensor], config: RvrtConfig | None) -> tuple[Rvrt, str]:
    """Find the configuration that a checkpoint fits; the three for super-resolution are the same.

    Returns:
        The network with the checkpoint's weights, and its name.

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
"""Our own configurations, without published weights."""

_DISTINCT = {
    "001_RVRT_videosr_bi_REDS_30frames": "super-resolution x4 (as 001, 002, 003)",
    "004_RVRT_videodeblurring_DVD_16frames": "deblurring (as 004, 005)",
    "006_RVRT_videodenoising_DAVIS_16frames": "denoising with a noise level (as 006)",
}
