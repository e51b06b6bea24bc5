from pathlib import Path

import pytest
import torch

from export import speech_step
from export.onnx_export import ParityError
from export.trained import TrainingCheckpoint
from export.zoo import ship, write_manifest
from models.demucs import Demucs, DemucsConfig
from runtime.manifest import Quality, load_model

TASK = {
    "hidden": 6,
    "predicts": "noise",
    "crop_seconds": [1.0],
    "held_out_speakers": 3,
    "held_out_noise": ["b/held"],
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Demucs(DemucsConfig(hidden=6, predicts="noise"))
    torch.nn.init.normal_(network.decoder[-1][2].weight, std=0.1)
    kept = {
        "ema": network.state_dict(),
        "iteration": 12,
        "recipe": {"name": "speech-demucs", "seed": 5, "task": TASK},
    }
    torch.save(kept, tmp_path / "last.pt")
    return tmp_path / "last.pt"


def test_a_shipped_model_reads_back_completely(checkpoint: Path, tmp_path: Path) -> None:
    ship(checkpoint, tmp_path / "zoo" / "speech-test")

    model = load_model(tmp_path / "zoo" / "speech-test")

    assert model.file(role="step", precision="fp32").name == "step.onnx"
    manifest = model.manifest
    assert (manifest.name, manifest.licence, manifest.training.iterations) == (
        "speech-test",
        "Apache-2.0",
        12,
    )
    assert manifest.training.held_out == ("3 speakers", "b/held")
    assert manifest.audio is not None
    assert manifest.audio.predicts == "noise"
    assert any("LibriSpeech" in line for line in manifest.attribution)


def test_a_graph_that_disagrees_is_not_shipped(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(speech_step, "stream_parity", lambda *_, **__: 1e-3)
    with pytest.raises(ParityError, match=r"differs from the network by 0\.001, allowed 1e-05"):
        ship(checkpoint, tmp_path / "zoo")
    assert not (tmp_path / "zoo" / "manifest.json").exists()


def test_another_run_keeps_the_title_and_the_figures_of_the_same_file(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "zoo" / "speech-test"
    ship(checkpoint, folder, title="Own title")
    figure = Quality(measure="SI-SDR dB", data="own", before=1.0, after=2.0, command="python -m benchmarks.speech")
    model = load_model(folder)
    write_manifest(folder, model.manifest.model_copy(update={"quality": (figure,)}))

    manifest = ship(checkpoint, folder)

    assert (manifest.title, manifest.quality) == ("Own title", (figure,))


def test_a_recipe_has_the_kind_of_network_and_old_ones_are_recognised_by_their_tasks() -> None:
    def kind(**recipe: object) -> str:
        return TrainingCheckpoint({}, recipe, 1).kind

    assert kind(kind="video", task={"hidden": 1}) == "video"
    assert kind(kind="speech", task={}) == "speech"
    assert kind(task={"hidden": 24}) == "speech"
    assert kind(task={"scale": 4}) == "video"
