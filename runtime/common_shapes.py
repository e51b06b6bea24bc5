"""Which engines a box will want: those of the presets' models, at the tiles that usual sources get."""

from collections.abc import Iterator
from typing import Final

from runtime.engine.backends import quant_scheme
from runtime.engine.device import Flavour, detect_device
from runtime.engine.store.key import EngineRequest, request_engine
from runtime.errors import EngineStoreError, OptionError
from runtime.manifest import Model, VideoSpec, find_model
from runtime.presets import PRESETS
from runtime.video.tile_plan import plan_canvas

USUAL_SOURCES: Final = ((360, 640), (576, 704), (480, 720), (720, 1280), (1080, 1920))
"""Height and width: web video, surveillance, DVD, HD and full HD."""
PRECISIONS: Final = {
    Flavour.OPENVINO: ("fp32", "int8"),
    Flavour.TENSORRT: ("fp32", "fp16", "int8"),
    Flavour.RTX: ("fp32", "fp16", "int8"),
}


def usual_flavour() -> Flavour:
    """Return the flavour of this box: a GPU's if there is one and its library, else OpenVINO.

    Raises:
        EngineStoreError: Not even OpenVINO is there.
    """
    for flavour in (Flavour.TENSORRT, Flavour.RTX):
        try:
            detect_device(flavour)
        except EngineStoreError:
            continue
        return flavour
    detect_device(Flavour.OPENVINO)
    return Flavour.OPENVINO


def preset_models() -> list[Model]:
    """Return every model that a preset uses, in order of name."""
    names = {name for preset in PRESETS.values() for name in (*preset.models.values(), preset.audio_model)}
    return [find_model(name) for name in sorted(names)]


def requests_for(
    model: Model, flavour: Flavour, *, precision: str | None = None, tile: tuple[int, int] | None = None
) -> Iterator[EngineRequest]:
    """Yield the engines of a model.

    Args:
        model: Whose files.
        flavour: Whose engines.
        precision: Only of this one; None takes each that the model offers and the flavour runs.
        tile: Height and width on the network's grid; None takes those of usual sources.

    Raises:
        OptionError: The model has no file in that precision.
    """
    spec, audio = model.manifest.video, model.manifest.audio
    scheme = quant_scheme(flavour)
    offered = [file for file in model.manifest.files if file.precision in PRECISIONS[flavour] and file.fits(scheme)]
    chosen = [file for file in offered if precision in (None, file.precision)]
    if not chosen:
        wanted = precision or " or ".join(PRECISIONS[flavour])
        names = ", ".join(sorted({file.precision for file in model.manifest.files}))
        raise OptionError(f"model {model.manifest.name} has no file in {wanted} for {flavour}; it has {names}")
    for file in chosen:
        if spec is not None:
            sizes = [{"height": tall, "width": wide} for tall, wide in ([tile] if tile else usual_tiles(spec))]
        else:
            sizes = [{"samples": audio.block_samples}] if audio is not None else [{}]
        asked = [
            request_engine(model.folder / file.path, dimensions={"batch": 1, **size}, flavour=flavour) for size in sizes
        ]
        # A file without names is one engine, whatever the sizes.
        yield from dict.fromkeys(asked)


def usual_tiles(spec: VideoSpec) -> list[tuple[int, int]]:
    """Return the tile shapes that usual sources get, as a job chooses them."""
    return sorted({plan_canvas(height, width, spec).tile_shape for height, width in USUAL_SOURCES})
