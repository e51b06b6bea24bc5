"""Import a checkpoint of a bidirectional network as separate engines, for clips of any length."""

from dataclasses import replace
from pathlib import Path

from export.importers.entry import UNKNOWN_LICENCE, Imported, ImportRefusedError, write_entry
from export.networks import load_checkpoint, step_graphs
from export.onnx_export import Exported
from models.basicvsr import BasicVsr
from models.basicvsr_steps import vsr_of
from models.realbasicvsr import RealBasicVsr, ResidualCleaning, UnetCleaning
from models.registry import REGISTRY
from runtime.manifest import Manifest

_RECONSTRUCTION = 3
"""Receptive field of the reconstruction in pixels: convolutions at one, two and four times its size."""


def import_chain(
    network: str,
    checkpoint: Path,
    zoo: Path,
    *,
    name: str | None = None,
    frames: int = 12,
    overlap: int = 4,
    tile: tuple[int, int] = (256, 256),
    licence: str | None = None,
) -> tuple[Manifest, tuple[Exported, ...]]:
    """Import BasicVSR, RealBasicVSR or one of its U-Net variants.

    Args:
        network: Its name in the registry.
        checkpoint: As published, or under our names.
        zoo: The owner's own folder of models.
        name: Of the entry; derived from the file if None.
        frames: Frames of a window, through which backward features are propagated.
        overlap: Frames of a window that the next one recomputes: the minimum look-ahead of every frame.
        tile: Height and width of a tile: as large as the frames, or more than twice a part's receptive field.
        licence: Licence of the weights, if known.

    Raises:
        UnknownNetworkError: There is no such network.
        CheckpointError: The file is not a checkpoint of it.
        ImportRefusedError: The network has no such parts, the tile does not divide, the zoo is the one that ships, or
            the name is taken.
    """
    entry = REGISTRY.find(network)
    model = entry.build().eval()
    if not isinstance(model, BasicVsr | RealBasicVsr) or entry.window is None:
        raise ImportRefusedError(
            f"{network} cannot be imported in parts; expected basicvsr, realbasicvsr or a unet-..."
        )
    load_checkpoint(model, checkpoint, entry)
    return write_chain(
        model,
        Imported(
            name=name or f"{network}-{checkpoint.stem.lower()}",
            title=f"{network}, imported from {checkpoint.name}",
            task=entry.task,
            architecture=f"{network} in parts",
            paper=entry.paper,
            licence=licence or UNKNOWN_LICENCE,
            source=checkpoint,
            scale=entry.window.scale,
            tile=tile,
            frames=frames,
            overlap=overlap,
            side_multiple=entry.window.side_multiple,
        ),
        zoo,
    )


def write_chain(model: BasicVsr | RealBasicVsr, imported: Imported, zoo: Path) -> tuple[Manifest, tuple[Exported, ...]]:
    """Write the entry, with the properties of the network added to `imported`.

    Raises:
        ImportRefusedError: The tile does not divide, the zoo is the shipped one, or the name is taken.
    """
    cleaning = model.cleaning if isinstance(model, RealBasicVsr) else None
    is_same_size = isinstance(cleaning, UnetCleaning)
    repeated = cleaning.config if isinstance(cleaning, ResidualCleaning) else None
    grid = 4 if is_same_size else 1
    multiple = imported.side_multiple // grid
    halo = -(-_reach(model) // multiple) * multiple
    if any(side % imported.side_multiple for side in imported.tile):
        raise ImportRefusedError(
            f"got tiles of {imported.tile[1]}x{imported.tile[0]}; this network needs sides that are multiples of "
            f"{imported.side_multiple}"
        )
    facts = replace(
        imported,
        grid=grid,
        halo=halo,
        clean_passes=repeated.passes if repeated is not None else 1,
        clean_until=repeated.threshold if repeated is not None else 0.0,
    )
    return write_entry(model, facts, step_graphs(model, size=imported.tile), zoo)


def _reach(model: BasicVsr | RealBasicVsr) -> int:
    """Return the largest receptive field of the parts except flow, in pixels of the grid; flow is blended."""
    reach = max(2 * vsr_of(model).config.blocks + 1, _RECONSTRUCTION)
    cleaning = model.cleaning if isinstance(model, RealBasicVsr) else None
    if isinstance(cleaning, ResidualCleaning):
        reach = max(reach, 2 * cleaning.config.blocks + 2)
    elif isinstance(cleaning, UnetCleaning):
        # Two convolutions per block, before and (except at the lowest level) after; one down, one up, and one at each
        # end.
        blocks, levels = cleaning.config.blocks, cleaning.config.levels
        sides = [2 if level < levels - 1 else 1 for level in range(levels)]
        reach = max(reach, 3 + sum(2**level * (2 * blocks * side + 2) for level, side in enumerate(sides)))
    return reach
