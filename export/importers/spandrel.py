"""spandrel: a library that recognises image networks by their checkpoints (ESRGAN, SwinIR, DAT, SPAN, Compact, ...).

spandrel requires torchvision. The build on PyPI (0.28.0) installs next to a CPU torch, but is linked to the CUDA one
and cannot be imported ("operator torchvision::nms does not exist"). spandrel 0.4.2 uses it in two places: LaMa imports
it, and RestoreFormer normalises images with it. So it is installed without its dependencies (`pip install --no-deps
spandrel safetensors einops`), and if torchvision is missing or broken, a stand-in with those names is provided during
the import. LaMa (which fills holes) and RestoreFormer (faces) then fail when they run; others do not.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from export.importers.entry import UNKNOWN_LICENCE, Imported, ImportRefusedError, write_entry
from export.onnx_export import Exported, Graph
from models.registry import Task
from runtime.manifest import Manifest


class SpandrelError(RuntimeError):
    """spandrel is missing, or does not know the checkpoint."""


def load_image_network(path: Path) -> Any:
    """Load a checkpoint: spandrel's descriptor, with the network, its scale and its channels.

    Raises:
        SpandrelError: spandrel is not installed, does not recognise the file, or the network takes more than an image.
    """
    if find_spec("spandrel") is None:
        raise SpandrelError("spandrel is not installed; run: pip install --no-deps spandrel safetensors einops")
    with _torchvision():
        import spandrel
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_file(path)
    except (spandrel.UnsupportedModelError, OSError, ValueError, RuntimeError) as error:
        raise SpandrelError(f"spandrel cannot load {path}: {error}") from error
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise SpandrelError(
            f"{path} is a {descriptor.architecture.name}, which has inputs other than an image; choose an image network"
        )
    return descriptor


@contextmanager
def _torchvision() -> Iterator[None]:
    """Provide a stand-in for torchvision, if it is missing, while spandrel is imported."""
    if _works():
        yield
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    functional = modules[names[-1]]
    for name in ("InterpolationMode", "rotate", "normalize"):
        setattr(functional, name, _Missing(name))
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)


def _works() -> bool:
    if find_spec("torchvision") is None:
        return False
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        return False
    return True


class _Missing:
    """A name of torchvision that raises an error when it is used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_: object, **__: object) -> None:
        raise SpandrelError(f"this network needs torchvision ({self._name}), which is not installed")

    def __getattr__(self, name: str) -> "_Missing":
        if name.startswith("_"):
            raise AttributeError(name)
        return _Missing(f"{self._name}.{name}")


def import_spandrel(
    checkpoint: Path,
    zoo: Path,
    *,
    name: str | None = None,
    tile: tuple[int, int] = (64, 64),
    licence: str | None = None,
) -> tuple[Manifest, tuple[Exported, ...]]:
    """Import any image network that spandrel recognises.

    Raises:
        SpandrelError: spandrel is not installed, or does not recognise the file.
        ImportRefusedError: Its scale or channels do not fit, the zoo is the shipped one, or the name is taken.
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
        paper=f"recognised by spandrel as {kind}",
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
