"""The engines that a machine is likely to need: the presets' models at the tile shapes of common sources."""

from collections.abc import Iterator
from typing import Final

from runtime.engine.backends import quant_scheme
from runtime.engine.device import EngineType, detect_device
from runtime.engine.store.key import EngineRequest, request_engine
from runtime.errors import EngineStoreError, OptionError
from runtime.manifest import Model, VideoSpec, find_model
from runtime.presets import PRESETS
from runtime.video.tile_plan import plan_canvas

COMMON_SOURCES: Final = ((360, 640), (576, 704), (480, 720), (720, 1280), (1080, 1920))
"""Height and width: web video, surveillance, DVD, HD and full HD."""
PRECISIONS: Final = {
    EngineType.OPENVINO: ("fp32", "int8"),
    EngineType.TENSORRT: ("fp32", "fp16", "int8"),
    EngineType.RTX: ("fp32", "fp16", "int8"),
}


def default_engine_type() -> EngineType:
    """Return the engine type for this machine: a GPU's if there is one and its library, else OpenVINO.

    Raises:
        EngineStoreError: Not even OpenVINO is installed.
    """
    for engine_type in (EngineType.TENSORRT, EngineType.RTX):
        try:
            detect_device(engine_type)
        except EngineStoreError:
            continue
        return engine_type
    detect_device(EngineType.OPENVINO)
    return EngineType.OPENVINO


def preset_models() -> list[Model]:
    """Return every model that a preset uses, in order of name."""
    names = {name for preset in PRESETS.values() for name in (*preset.models.values(), preset.audio_model)}
    return [find_model(name) for name in sorted(names)]


def requests_for(
    model: Model, engine_type: EngineType, *, precision: str | None = None, tile: tuple[int, int] | None = None
) -> Iterator[EngineRequest]:
    """Yield requests for the engines of a model.

    Args:
        model: The model.
        engine_type: The type of the engines.
        precision: None takes each that the model offers and the engine type runs.
        tile: Height and width on the network's grid; None takes those of common sources.

    Raises:
        OptionError: The model has no file in that precision.
    """
    spec, audio = model.manifest.video, model.manifest.audio
    scheme = quant_scheme(engine_type)
    offered = [file for file in model.manifest.files if file.precision in PRECISIONS[engine_type] and file.fits(scheme)]
    chosen = [file for file in offered if precision in (None, file.precision)]
    if not chosen:
        wanted = precision or " or ".join(PRECISIONS[engine_type])
        names = ", ".join(sorted({file.precision for file in model.manifest.files}))
        raise OptionError(f"model {model.manifest.name} has no file in {wanted} for {engine_type}; it has {names}")
    for file in chosen:
        if spec is not None:
            sizes = [{"height": tall, "width": wide} for tall, wide in ([tile] if tile else common_tiles(spec))]
        else:
            sizes = [{"samples": audio.block_samples}] if audio is not None else [{}]
        requests = [
            request_engine(model.folder / file.path, dimensions={"batch": 1, **size}, engine_type=engine_type)
            for size in sizes
        ]
        # A file of fixed sizes is one engine, whatever the sizes asked for.
        yield from dict.fromkeys(requests)


def common_tiles(spec: VideoSpec) -> list[tuple[int, int]]:
    """Return the tile shapes of common sources, as a job chooses them."""
    return sorted({plan_canvas(height, width, spec).tile_shape for height, width in COMMON_SOURCES})
