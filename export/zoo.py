"""Entries of a zoo: `python -m export.zoo CHECKPOINT --name light-x4` creates one from a training checkpoint.

An entry is a folder with its ONNX files and a manifest. There is one path from a checkpoint to an entry: read the
weights and the recipe, export the step of that kind of network and check it against PyTorch, then write the manifest.
Measured quality is added afterwards by `python -m benchmarks.video_quality` and `python -m benchmarks.speech`.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch

from export.int8.ranges import file_digest
from export.light_vsr import export_light_vsr
from export.speech_step import export_speech
from export.trained import TrainedStep, TrainingCheckpoint
from runtime.atomic_files import write_durably
from runtime.manifest import Manifest, Model, ModelFile, Training, load_model

logger = logging.getLogger(__name__)

STEP_FILE: Final = "step.onnx"


def ship(
    checkpoint: Path,
    folder: Path,
    *,
    title: str | None = None,
    history: str = "",
    gain_exponent: float | None = None,
) -> Manifest:
    """Write an entry from a training checkpoint; quality figures of the same file are kept.

    Args:
        checkpoint: As written by `python -m training`.
        folder: The entry's folder; its name is the model's.
        title: Title of the model; if None, that of the replaced entry, or of the network.
        history: Details of this run that are not in the recipe.
        gain_exponent: For a speech mask, instead of its recipe's.

    Raises:
        ParityError: The exported step does not agree with the network; the manifest is unchanged.
    """
    kept = read_training_checkpoint(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STEP_FILE
    if kept.kind == "speech":
        step = export_speech(kept, path, gain_exponent=gain_exponent)
    else:
        step = export_light_vsr(kept, path)
    logger.info("%s: %d parameters, parity %.1e", folder.name, step.parameters, step.parity)
    manifest = _describe(step, kept, folder, title=title, history=history)
    write_manifest(folder, manifest)
    return manifest


def read_training_checkpoint(path: Path) -> TrainingCheckpoint:
    """Read the averaged weights of a checkpoint and the recipe that training wrote into it."""
    kept = torch.load(path, map_location="cpu", weights_only=True)
    return TrainingCheckpoint(kept["ema"], kept["recipe"], kept["iteration"])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write an entry's manifest atomically: a crash leaves the previous one."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n"
    write_durably(folder / "manifest.json", text.encode())


def file_entry(folder: Path, role: str, precision: str = "fp32") -> ModelFile:
    """Describe a file of a model's folder, named after its role and, except for float32, its precision."""
    path = folder / (f"{role}.onnx" if precision == "fp32" else f"{role}.{precision}.onnx")
    return ModelFile.model_validate(
        {"path": path.name, "role": role, "precision": precision, "sha256": file_digest(path)}
    )


def enter_files(model: Model, entries: Sequence[ModelFile]) -> None:
    """Enter files in a model's manifest, replacing those of the same role, precision and form."""
    taken = {(entry.role, entry.precision, entry.form) for entry in entries}
    kept = tuple(file for file in model.manifest.files if (file.role, file.precision, file.form) not in taken)
    write_manifest(model.folder, model.manifest.model_copy(update={"files": (*kept, *entries)}))


def _describe(
    step: TrainedStep, checkpoint: TrainingCheckpoint, folder: Path, *, title: str | None, history: str
) -> Manifest:
    before = load_model(folder).manifest if (folder / "manifest.json").exists() else None
    file = file_entry(folder, "step")
    is_same_file = before is not None and before.files[0].sha256 == file.sha256
    recipe = f"training/recipes/{checkpoint.recipe['name'].replace('-', '_')}.toml"
    return Manifest(
        name=folder.name,
        title=title or (before.title if before is not None else step.title),
        task=step.task,
        architecture=step.architecture,
        paper=step.paper,
        parameters=step.parameters,
        licence="Apache-2.0",
        attribution=step.attribution,
        files=(file,),
        inputs=step.inputs,
        outputs=step.outputs,
        states=step.states,
        video=step.video,
        audio=step.audio,
        training=Training(
            recipe=f"{recipe}; {history}" if history else recipe,
            data=step.data,
            held_out=step.held_out,
            iterations=checkpoint.iteration,
            seed=checkpoint.recipe["seed"],
            date=datetime.now(UTC).date().isoformat(),
        ),
        quality=before.quality if before is not None and is_same_file else (),
    )


def main() -> None:
    """Write an entry from the command line."""
    parser = argparse.ArgumentParser(prog="python -m export.zoo", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="written by `python -m training`")
    parser.add_argument("--name", required=True, help="folder of the zoo, such as light-x4")
    parser.add_argument("--zoo", type=Path, default=Path("zoo"))
    parser.add_argument("--title", help="title of the model (default: unchanged, or that of the network)")
    parser.add_argument("--history", default="", help="details of this run that are not in the recipe")
    parser.add_argument("--gain-exponent", type=float, help="for a speech mask, instead of its recipe's")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    manifest = ship(
        arguments.checkpoint,
        arguments.zoo / arguments.name,
        title=arguments.title,
        history=arguments.history,
        gain_exponent=arguments.gain_exponent,
    )
    print(f"{manifest.name}: {manifest.parameters} parameters, {manifest.files[0].sha256[:12]}")


if __name__ == "__main__":
    main()
