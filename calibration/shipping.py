"""A model's INT8 files: put beside the float32 ones, with their ranges, and entered in the manifest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.ranges import Ranges, file_digest
from runtime.manifest import Calibration, Model, ModelFile, Quality


@dataclass(frozen=True, slots=True)
class Int8Part:
    """One role's INT8 file and what it was made of.

    written: The file, on the same disk as the model; the model's own float32 file where nothing is quantised.
    in_float: Layers that stayed in float32.
    """

    written: Path
    ranges: Ranges
    in_float: tuple[str, ...]


def enter_int8(model: Model, parts: Mapping[str, Int8Part], *, loss: Sequence[Quality]) -> tuple[ModelFile, ...]:
    """Move INT8 files into a model's folder and name them in the manifest, in place of earlier ones.

    Args:
        model: The model; its folder is changed.
        parts: By the role of the file; every role of the model.
        loss: Measured figures of the whole, float32 before and INT8 after.
    """
    entered = tuple(_move(model, role, part, loss) for role, part in parts.items())
    kept = tuple(file for file in model.manifest.files if file.precision != "int8" or file.role not in parts)
    manifest = model.manifest.model_copy(update={"files": (*kept, *entered)})
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    path = model.folder / "manifest.json"
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return entered


def _move(model: Model, role: str, part: Int8Part, loss: Sequence[Quality]) -> ModelFile:
    source = model.file(role=role)
    target = source if part.written == source else model.folder / f"{role}.int8.onnx"
    ranges = model.folder / f"{role}.calibration.json"
    part.ranges.save(ranges)
    if target != source:
        part.written.replace(target)
    return ModelFile.model_validate(
        {
            "path": target.name,
            "role": role,
            "precision": "int8",
            "sha256": file_digest(target),
            "calibration": Calibration(
                path=ranges.name,
                digest=part.ranges.digest,
                method=part.ranges.method.value,
                samples=part.ranges.samples,
                clips=part.ranges.clips,
                in_float=part.in_float,
                loss=tuple(loss),
            ),
        }
    )
