"""What is wanted of the store: one file of a model at fixed sizes, as an engine of one flavour."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.engine.flavour import Flavour
from runtime.errors import ManifestError
from runtime.manifest import Model, ModelFile, load_model


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """An engine that is wanted.

    Attributes:
        model: The model's name.
        source: Its ONNX file.
        sha256: Of that file.
        dimensions: Sorted pairs of a named dimension and its size.
        precision: Of the file: `fp32`, `fp16` or `int8`.
        calibration: Digest of how the file was quantised; empty where it was not.
        flavour: Whose engine.
    """

    model: str
    source: Path
    sha256: str
    dimensions: tuple[tuple[str, int], ...]
    precision: str
    calibration: str
    flavour: Flavour


def request_engine(source: Path, *, dimensions: Mapping[str, int], flavour: Flavour) -> EngineRequest:
    """Ask for the engine of one file of a model, which is checked against its manifest.

    Args:
        source: An ONNX file beside its manifest.
        dimensions: The size of every named dimension; names that the model does not have are left out.
        flavour: Whose engine.

    Raises:
        ManifestError: The manifest does not name the file, or the file was altered; or a dimension has no size.
    """
    model, entry = find_file(source)
    names = {side for tensor in model.manifest.inputs for side in tensor.shape if isinstance(side, str)}
    missing = sorted(names - dimensions.keys())
    if missing:
        raise ManifestError(
            f"got sizes for {', '.join(sorted(dimensions)) or 'nothing'}, but an engine of model {model.manifest.name} "
            f"also needs {', '.join(missing)}"
        )
    return EngineRequest(
        model=model.manifest.name,
        source=model.file(role=entry.role, precision=entry.precision, form=entry.form),
        sha256=entry.sha256,
        dimensions=tuple(sorted((name, dimensions[name]) for name in names)),
        precision=entry.precision,
        calibration="" if entry.calibration is None else entry.calibration.digest,
        flavour=flavour,
    )


def find_file(source: Path) -> tuple[Model, ModelFile]:
    """Give the model that a file belongs to, and what its manifest says of the file.

    Raises:
        ManifestError: There is no manifest beside it, or it does not name the file.
    """
    model = load_model(source.parent)
    for entry in model.manifest.files:
        if entry.path == source.name:
            return model, entry
    named = ", ".join(entry.path for entry in model.manifest.files)
    raise ManifestError(f"{source} is not a file of model {model.manifest.name}, which has {named}")
