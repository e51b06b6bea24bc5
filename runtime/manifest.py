"""The manifest of a model, beside its ONNX files: read and checked.

One folder of the zoo is one model: `manifest.json` and the files that it names. Everything that the pipelines need to
run a network (state, halo, scale, tile shapes, delays) is read from it, not hard-coded.
"""

import hashlib
import json
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.errors import ManifestError

Dimension = Annotated[int, Field(gt=0)] | Literal["batch", "height", "width", "samples"]


Role = Literal["step", "window", "clean", "flow", "backward", "forward", "reconstruction"]
"""The role of a file: a step over a frame with its state, a window of frames, or a part of a bidirectional network."""


class QuantScheme(StrEnum):
    """How an INT8 file is quantised: unsigned with a zero point, or signed without one, as TensorRT requires."""

    ASYMMETRIC_U8 = "cpu"
    SYMMETRIC_S8 = "tensorrt"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Part):
    """One input or output of a network: name, dtype and shape; a named dimension is fixed when a session opens."""

    name: str
    dtype: Literal["float32", "float16"] = "float32"
    shape: tuple[Dimension, ...]
    meaning: str


class StateSpec(_Part):
    """One recurrent tensor: its input and the output with its next value."""

    input: str
    output: str


class Quality(_Part):
    """One measured figure; `command` reproduces it."""

    measure: str
    data: str
    before: float
    after: float
    command: str


class Calibration(_Part):
    """The calibration of an INT8 file.

    `digest`: SHA-256 of the activation ranges, kept beside the manifest as `path`; another calibration means another
    engine. `in_float`: layers that were left in float32. `loss`: its quality and that of float32 (`before`).
    """

    path: str
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    method: Literal["minmax", "percentile", "entropy"]
    samples: int = Field(gt=0)
    clips: tuple[str, ...]
    in_float: tuple[str, ...]
    loss: tuple[Quality, ...]


class ModelFile(_Part):
    """One ONNX file of a model, beside its manifest; an INT8 file has a calibration and a quantisation `form`."""

    path: str
    role: Role
    precision: Literal["fp32", "fp16", "int8"]
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    form: QuantScheme = QuantScheme.ASYMMETRIC_U8
    calibration: Calibration | None = None

    def fits(self, scheme: QuantScheme) -> bool:
        """Return whether a backend of this quantisation scheme can open the file; only INT8 files have a scheme."""
        return self.precision != "int8" or self.form == scheme


class VideoSpec(_Part):
    """The parameters with which the video pipeline runs a network.

    `halo`: pixels of the grid (the plane on which the network computes: the source divided by `grid`) by which a tile
    must be larger than its kept part, so that the kept part equals the untiled result.
    `look_ahead`: for a network that takes a window, or for a chain, whose backward features reach as far: all frames of
    the window but one. `window_overlap`: frames that two such windows share.
    `clean_passes`, `clean_until`: a chain's cleaning is repeated at most this often, until a pass changes the frames by
    less than this many 255ths on average.
    """

    scale: Literal[1, 2, 4]
    grid: Literal[1, 2, 4] = 1
    look_behind: int = Field(ge=0)
    look_ahead: int = Field(ge=0)
    halo: int = Field(ge=0)
    overlap: int = Field(
        default=0, ge=0, description="blend tiles over this many pixels instead of writing interiors back"
    )
    window_overlap: int = Field(default=0, ge=0)
    clean_passes: int = Field(default=1, ge=1)
    clean_until: float = Field(default=0.0, ge=0)
    tile_multiple: int = Field(gt=0)
    tile_shapes: tuple[tuple[int, int], ...] = Field(min_length=1)
    aligned_by: Literal["flow", "none"]
    input_range: tuple[float, float] = (0.0, 1.0)
    gflop_per_320x180_frame: float = Field(gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if any(side % self.tile_multiple for shape in self.tile_shapes for side in shape):
            raise ValueError(f"tile_shapes {self.tile_shapes} must be multiples of {self.tile_multiple}")
        if self.window_overlap > self.look_ahead:
            raise ValueError(f"window_overlap is {self.window_overlap}, expected at most look_ahead {self.look_ahead}")
        return self


class AudioSpec(_Part):
    """The parameters with which the audio pipeline runs a network: rates and delays in samples at `sample_rate`.

    A stream begins with `lead_in_samples` zeros; after `reset_after_frames` frames `reset_states` are set to zero.
    Output sample j then belongs to input sample j - (lead_in_samples + delay_samples). The output of a network that
    `predicts` noise is subtracted from the delayed input.
    """

    sample_rate: int = Field(gt=0)
    block_samples: int = Field(gt=0)
    block_multiple: int = Field(gt=0)
    delay_samples: int = Field(ge=0)
    lead_in_samples: int = Field(ge=0)
    reset_after_frames: int = Field(ge=0)
    reset_states: tuple[str, ...] = ()
    predicts: Literal["speech", "noise"] = "speech"
    frame_samples: int = Field(gt=0)


class Training(_Part):
    """The origin of the weights."""

    recipe: str
    data: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    iterations: int = Field(ge=0)
    seed: int
    date: str


class Manifest(_Part):
    """The manifest of a model."""

    name: str
    title: str
    task: Literal["video-super-resolution", "video-restoration", "speech-denoise"]
    architecture: str
    paper: str
    parameters: int = Field(gt=0)
    licence: str
    attribution: tuple[str, ...]
    files: tuple[ModelFile, ...] = Field(min_length=1)
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    states: tuple[StateSpec, ...] = ()
    video: VideoSpec | None = None
    audio: AudioSpec | None = None
    training: Training
    quality: tuple[Quality, ...] = ()


class Model(_Part):
    """A manifest and the folder that it was read from."""

    folder: Path
    manifest: Manifest

    def file(
        self, *, role: str = "step", precision: str = "fp32", form: QuantScheme = QuantScheme.ASYMMETRIC_U8
    ) -> Path:
        """Return the path of one ONNX file, its SHA-256 checked against the manifest; `form` selects an INT8 file.

        Raises:
            ManifestError: The manifest names no such file, or the file is missing or altered.
        """
        for entry in self.manifest.files:
            if (entry.role, entry.precision) == (role, precision) and entry.fits(form):
                return _checked(self.folder / entry.path, entry.sha256)
        offered = ", ".join(f"{entry.role} {entry.precision}" for entry in self.manifest.files)
        raise ManifestError(f"model {self.manifest.name} has no {role} file in {precision}; it offers {offered}")


def zoo_folder() -> Path:
    """Return the folder of the shipped models."""
    return Path(str(files("zoo")))


def list_models(zoo: Path | None = None) -> list[Model]:
    """Read every model of a zoo folder (the shipped one by default), in order of name."""
    folder = zoo or zoo_folder()
    return [load_model(path.parent) for path in sorted(folder.glob("*/manifest.json"))]


def load_model(folder: Path) -> Model:
    """Read one model's manifest.

    Raises:
        ManifestError: The manifest is missing, is not JSON, or breaks the schema.
    """
    path = folder / "manifest.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ManifestError(f"no readable manifest at {path}: {error.strerror}") from error
    try:
        return Model(folder=folder, manifest=Manifest.model_validate(json.loads(text)))
    except (json.JSONDecodeError, ValidationError) as error:
        raise ManifestError(f"manifest {path} is not valid: {error}") from error


def find_model(name: str, zoo: Path | None = None) -> Model:
    """Read the model of that name.

    Raises:
        ManifestError: The zoo has no model of that name.
    """
    folder = (zoo or zoo_folder()) / name
    if not (folder / "manifest.json").is_file():
        known = ", ".join(model.manifest.name for model in list_models(zoo)) or "none"
        where = "the zoo" if zoo is None else str(zoo)
        raise ManifestError(f"no model named {name}; {where} has: {known}")
    return load_model(folder)


@lru_cache(maxsize=64)
def _checked(path: Path, sha256: str) -> Path:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ManifestError(f"model file {path} cannot be read: {error.strerror}") from error
    if digest != sha256:
        raise ManifestError(
            f"model file {path} does not match its manifest (SHA-256 {digest[:12]}..., "
            f"expected {sha256[:12]}...); reinstall the model"
        )
    return path
