"""Import a network that the user trained, as an engine for a window of frames or for one frame."""

from pathlib import Path

from export.importers.entry import UNKNOWN_LICENCE, Imported, ImportRefusedError, default_overlap, write_entry
from export.networks import load_checkpoint, make_graphs
from export.onnx_export import Exported
from models.registry import REGISTRY
from runtime.manifest import Manifest


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
    """Import a trained network of the registry.

    Args:
        network: Its name in the registry.
        checkpoint: With our parameter names, as written by `python -m training`.
        zoo: The owner's own folder of models.
        name: Of the entry; derived from the network and the file if None.
        frames: Frames of a window; the registry's number if None.
        overlap: Frames shared by consecutive windows; a quarter of a window if None.
        tile: Height and width of a tile.
        licence: Licence of the weights, if known.

    Raises:
        UnknownNetworkError: There is no such network.
        CheckpointError: The file is not a checkpoint of it.
        ImportRefusedError: The network takes no window, the zoo is the shipped one, or the name is taken.
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
        overlap=default_overlap(count) if overlap is None else overlap,
        side_multiple=entry.window.side_multiple,
    )
    return write_entry(model, imported, make_graphs(entry, model, size=tile, frames=count), zoo)
