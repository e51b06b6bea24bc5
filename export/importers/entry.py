"""Write an imported network into the user's own zoo: ONNX files of its window or parts, weights and manifest.

Imported weights never go into the shipped zoo; their licence is stated in the manifest.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.int8.ranges import file_digest
from export.onnx_export import Exported, Graph, export_graph
from export.zoo import file_entry, write_manifest
from runtime.manifest import Manifest, TensorSpec, Training, VideoSpec, zoo_folder

WEIGHTS_FILE = "weights.pt"


class ImportRefusedError(ValueError):
    """An import into the shipped zoo, over an existing entry, or of an unsuitable network."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The manifest's description of an import.

    `tile`: height and width of the input. `frames`: of a window; `overlap`: frames shared by consecutive windows.
    `grid`: factor between the input and the network's grid. `halo`: receptive field of the parts in pixels of the grid;
    None for a network with a larger one, whose tiles are blended.
    """

    name: str
    title: str
    task: str
    architecture: str
    paper: str
    licence: str
    source: Path
    scale: int
    tile: tuple[int, int]
    frames: int
    overlap: int
    side_multiple: int
    grid: int = 1
    halo: int | None = None
    clean_passes: int = 1
    clean_until: float = 0.0


def write_entry(
    network: nn.Module, imported: Imported, graphs: Sequence[Graph], zoo: Path
) -> tuple[Manifest, tuple[Exported, ...]]:
    """Export a network's window or its parts into `zoo`/name, with the manifest.

    Raises:
        ImportRefusedError: The zoo is the shipped one, or has an entry of that name.
    """
    _refuse_overlap(imported)
    folder = _claim(zoo, imported.name)
    exported = tuple(export_graph(graph, folder / f"{graph.role}.onnx") for graph in graphs)
    torch.save(network.state_dict(), folder / WEIGHTS_FILE)
    name, shape = "frame", (1, 3, *imported.tile)
    if len(graphs) == 1:
        (name, shape), *_ = graphs[0].inputs.items()
    height, width = imported.tile
    result = (*shape[:-3], 3, height * imported.scale, width * imported.scale)
    manifest = Manifest(
        name=imported.name,
        title=imported.title,
        task="video-super-resolution" if imported.scale > 1 else "video-restoration",
        architecture=imported.architecture,
        paper=imported.paper,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence=imported.licence,
        attribution=(f"Imported from the owner's own copy of {imported.source.name}; not for redistribution",),
        files=tuple(file_entry(folder, graph.role) for graph in graphs),
        inputs=(TensorSpec(name=name, shape=shape, meaning=_meaning(shape)),),
        outputs=(TensorSpec(name="output", shape=result, meaning="RGB, not clamped"),),
        video=_describe_video(imported, graphs),
        training=Training(
            recipe=f"imported, SHA-256 of the checkpoint {file_digest(imported.source)}",
            data=("unknown: not trained here",),
            iterations=0,
            seed=0,
            date=datetime.date.today().isoformat(),
        ),
    )
    write_manifest(folder, manifest)
    return manifest, exported


def default_overlap(frames: int) -> int:
    """Return the default number of frames shared by consecutive windows: a quarter."""
    return 0 if frames == 1 else max(1, frames // 4)


def count_gflop(graph: Graph, frames: int, tile: tuple[int, int]) -> float:
    """Return a graph's operations, in 10^9 for the area of a 320x180 frame; `tile` is the size of the input."""
    inputs = [torch.zeros(shape) for shape in graph.inputs.values()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        graph.module.eval()(*inputs)
    return float(counter.get_total_flops() / frames * 320 * 180 / (tile[0] * tile[1]) / 1e9)


def _describe_video(imported: Imported, graphs: Sequence[Graph]) -> VideoSpec:
    height, width = imported.tile
    # The second backward propagation where windows overlap is not counted.
    gflop = sum(count_gflop(graph, imported.frames if graph.role == "window" else 1, imported.tile) for graph in graphs)
    return VideoSpec.model_validate(
        {
            "scale": imported.scale,
            "grid": imported.grid,
            "look_behind": imported.frames - 1,
            "look_ahead": imported.frames - 1,
            "window_overlap": imported.overlap,
            "clean_passes": imported.clean_passes,
            "clean_until": imported.clean_until,
            "halo": imported.halo or 0,
            "overlap": min(10, height // 4, width // 4) if imported.halo is None else 0,
            "tile_multiple": imported.side_multiple // imported.grid,
            "tile_shapes": ((height // imported.grid, width // imported.grid),),
            "aligned_by": "none",
            "gflop_per_320x180_frame": max(round(gflop, 2), 0.01),
        }
    )


def _refuse_overlap(imported: Imported) -> None:
    if not 0 <= imported.overlap < imported.frames:
        raise ImportRefusedError(
            f"got windows of {imported.frames} frames with an overlap of {imported.overlap}; expected less"
        )


def _claim(zoo: Path, name: str) -> Path:
    folder = zoo / name
    if zoo.resolve() == zoo_folder().resolve():
        raise ImportRefusedError(f"got {zoo}, the shipped zoo; import into a folder of your own")
    if (folder / "manifest.json").exists():
        raise ImportRefusedError(f"{folder} already has a model; choose another --name or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _meaning(shape: tuple[int, ...]) -> str:
    frames = "consecutive frames, " if len(shape) == 5 else ""
    level = ", then the noise level as sigma / 255" if shape[-3] == 4 else ""
    return f"{frames}RGB in [0, 1], the source's own transfer{level}"


UNKNOWN_LICENCE = "unknown: ask the author of the checkpoint before you use it"
