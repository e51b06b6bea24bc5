"""An imported network as an entry of an owner's zoo: its window in ONNX, its weights, and its manifest.

Imported weights are the owner's own copy. They never go into the zoo that ships; their licence stands in the manifest.
"""

import datetime
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from export.graph import Exported, Graph, export_graph
from runtime.manifest import Manifest, ModelFile, TensorSpec, Training, VideoSpec, zoo_folder

WINDOW_FILE = "window.onnx"
WEIGHTS_FILE = "weights.pt"


class ImportRefusedError(ValueError):
    """An import that would ship what may not be shipped, or overwrite what is there."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What the manifest says of an import."""

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
    side_multiple: int


def write_entry(network: nn.Module, imported: Imported, graph: Graph, zoo: Path) -> tuple[Manifest, Exported]:
    """Export a network's window into `zoo`/name and write the manifest beside it.

    Raises:
        ImportRefusedError: The zoo is the one that ships, or has an entry of that name.
    """
    folder = _claim(zoo, imported.name)
    exported = export_graph(graph, folder / WINDOW_FILE)
    torch.save(network.state_dict(), folder / WEIGHTS_FILE)
    (name, shape), *_ = graph.inputs.items()
    height, width = shape[-2:]
    result = (*shape[:-3], 3, height * imported.scale, width * imported.scale)
    manifest = Manifest(
        name=imported.name,
        title=imported.title,
        task="video-super-resolution" if imported.scale > 1 else "video-restoration",
        architecture=imported.architecture,
        paper=imported.paper,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        licence=imported.licence,
        attribution=(f"Imported from the owner's own copy of {imported.source.name}; not to be passed on",),
        files=(ModelFile(path=WINDOW_FILE, role="window", precision="fp32", sha256=_digest(folder / WINDOW_FILE)),),
        inputs=(TensorSpec(name=name, shape=shape, meaning=_meaning(shape)),),
        outputs=(TensorSpec(name=graph.outputs[0], shape=result, meaning="RGB, not clamped"),),
        video=VideoSpec.model_validate(
            {
                "scale": imported.scale,
                "look_behind": imported.frames - 1,
                "look_ahead": imported.frames - 1,
                "halo": 0,
                "overlap": min(10, height // 4, width // 4),
                "tile_multiple": imported.side_multiple,
                "tile_shapes": (imported.tile,),
                "aligned_by": "none",
                "gflop_per_320x180_frame": round(count_gflop(graph, imported.frames), 2),
            }
        ),
        training=Training(
            recipe=f"imported, SHA-256 of the checkpoint {_digest(imported.source)}",
            data=("unknown: not trained here",),
            iterations=0,
            seed=0,
            date=datetime.date.today().isoformat(),
        ),
    )
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    return manifest, exported


def count_gflop(graph: Graph, frames: int) -> float:
    """Count a window's operations, in 10^9 for the area of one 320x180 frame."""
    inputs = [torch.zeros(shape) for shape in graph.inputs.values()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        graph.module.eval()(*inputs)
    height, width = inputs[0].shape[-2:]
    return float(max(counter.get_total_flops() / frames * 320 * 180 / (height * width) / 1e9, 0.01))


def _claim(zoo: Path, name: str) -> Path:
    folder = zoo / name
    if zoo.resolve() == zoo_folder().resolve():
        raise ImportRefusedError(f"got {zoo}, the zoo that ships; imported weights go into a folder of your own")
    if (folder / "manifest.json").exists():
        raise ImportRefusedError(f"{folder} has a model already; give another --name or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _meaning(shape: tuple[int, ...]) -> str:
    frames = "consecutive frames, " if len(shape) == 5 else ""
    level = ", then the noise level as sigma / 255" if shape[-3] == 4 else ""
    return f"{frames}RGB in [0, 1], the source's own transfer{level}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
