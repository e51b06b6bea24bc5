from pathlib import Path

import pytest
import torch

from export import speech
from export.speech import ship
from models.demucs import Demucs, DemucsConfig
from runtime.manifest import load_model

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


def test_a_shipped_model_reads_back_whole(checkpoint: Path, tmp_path: Path) -> None:
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
    monkeypatch.setattr(speech, "stream_parity", lambda *_, **__: 1e-3)
    with pytest.raises(ValueError, match=r"differs from the network by 0\.001, over 1e-05"):
        ship(checkpoint, tmp_path / "zoo")
    assert not (tmp_path / "zoo" / "manifest.json").exists()
