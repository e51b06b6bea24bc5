"""A shipped model's INT8 file: put beside the float32 one, with its ranges, and entered in the manifest."""

import json
from collections.abc import Sequence
from pathlib import Path

from export.ranges import Ranges, file_digest
from runtime.manifest import Calibration, Model, ModelFile, Quality

FILE = "step.int8.onnx"
RANGES_FILE = "calibration.json"


def enter_int8(
    model: Model, written: Path, ranges: Ranges, *, in_float: Sequence[str], loss: Sequence[Quality]
) -> ModelFile:
    """Move an INT8 file into a model's folder and name it in the manifest, in place of an earlier one.

    Args:
        model: The model; its folder is changed.
        written: The INT8 file, on the same disk.
        ranges: What it was made of; kept beside it.
        in_float: Layers that stayed in float32.
        loss: Measured figures, float32 before and INT8 after.
    """
    target = model.folder / FILE
    ranges.save(model.folder / RANGES_FILE)
    written.replace(target)
    entry = ModelFile(
        path=FILE,
        role="step",
        precision="int8",
        sha256=file_digest(target),
        calibration=Calibration(
            path=RANGES_FILE,
            digest=ranges.digest,
            method=ranges.method.value,
            samples=ranges.samples,
            clips=ranges.clips,
            in_float=tuple(in_float),
            loss=tuple(loss),
        ),
    )
    kept = [file for file in model.manifest.files if (file.role, file.precision) != ("step", "int8")]
    manifest = model.manifest.model_copy(update={"files": (*kept, entry)})
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    path = model.folder / "manifest.json"
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return entry
