"""A model's INT8 files: put beside the float32 ones, with their ranges, and entered in the manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.int8.qdq import Form
from export.int8.ranges import Ranges, file_digest
from export.zoo import enter_files
from runtime.manifest import Calibration, Model, ModelFile, Quality


@dataclass(frozen=True, slots=True)
class Int8Part:
    """What one role's INT8 files were made of; `in_float`: layers that stayed in float32."""

    ranges: Ranges
    in_float: tuple[str, ...]


def enter_int8(
    model: Model,
    parts: Mapping[str, Int8Part],
    written: Mapping[Form, Mapping[str, Path]],
    losses: Mapping[Form, Sequence[Quality]],
) -> tuple[ModelFile, ...]:
    """Move INT8 files into a model's folder and name them in the manifest, in place of earlier ones.

    Args:
        model: The model; its folder is changed.
        parts: By the role of the file; every role of the model.
        written: The files of each form by role, on the same disk; the model's own float32 file where nothing is
            quantised.
        losses: Measured figures of the whole in each form, float32 before and INT8 after.
    """
    for role, part in parts.items():
        part.ranges.save(model.folder / _ranges_name(role))
    entered = tuple(
        _move(model, role, form, parts[role], path, losses[form])
        for form, files in written.items()
        for role, path in files.items()
    )
    enter_files(model, entered)
    return entered


def _ranges_name(role: str) -> str:
    return f"{role}.calibration.json"


def _move(model: Model, role: str, form: Form, part: Int8Part, written: Path, loss: Sequence[Quality]) -> ModelFile:
    target = written
    if written != model.file(role=role):
        target = model.folder / (f"{role}.int8.onnx" if form is Form.CPU else f"{role}.int8-{form}.onnx")
        written.replace(target)
    return ModelFile.model_validate(
        {
            "path": target.name,
            "role": role,
            "precision": "int8",
            "form": form.value,
            "sha256": file_digest(target),
            "calibration": Calibration(
                path=_ranges_name(role),
                digest=part.ranges.digest,
                method=part.ranges.method.value,
                samples=part.ranges.samples,
                clips=part.ranges.clips,
                in_float=part.in_float,
                loss=tuple(loss),
            ),
        }
    )
