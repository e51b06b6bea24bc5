"""FP16 files of a model of a zoo, beside the float32 ones that they are made of: for GPUs, which alone compute so."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from export.half import GATE_DB, Converted, convert_to_half
from export.subjects import file_graph, named_sizes
from export.tiles import graph_tiles
from export.zoo_entry import enter_files, file_entry
from runtime.manifest import Model


def add_half(
    model: Model,
    *,
    tiles: int = 100,
    clips: Sequence[Path] = (),
    sounds: Sequence[Path] = (),
    gate_db: float = GATE_DB,
) -> dict[str, Converted]:
    """Convert every float32 file of a model, check each, and enter them in the manifest; all or none.

    Args:
        model: Of any zoo; its folder is changed. Named dimensions stay open.
        tiles: Random ones to compare on, and as many real ones of `clips` or, for speech, of `sounds`.
        clips: Videos.
        sounds: Recordings.
        gate_db: PSNR that every tile must reach.

    Returns:
        What each conversion made, by the role of its file.

    Raises:
        HalfPrecisionError: A file misses the gate; nothing is entered.
    """
    made: dict[str, Converted] = {}
    with tempfile.TemporaryDirectory(dir=model.folder, prefix=".fp16-") as name:
        folder = Path(name)
        for file in model.manifest.files:
            if file.precision != "fp32":
                continue
            graph, fixed = file_graph(model, file.role, folder)
            made[file.role] = convert_to_half(
                model.file(role=file.role),
                folder / f"{file.role}.fp16.onnx",
                graph_tiles(graph, fixed, tiles, clips=clips, sounds=sounds),
                dimensions=named_sizes(model),
                gate_db=gate_db,
                stream=graph.sound is not None and bool(graph.states),
            )
        for converted in made.values():
            converted.path.replace(model.folder / converted.path.name)
    enter_files(model, [file_entry(model.folder, role, "fp16") for role in made])
    return made
