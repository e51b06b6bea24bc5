"""Ship a trained speech network: `python -m export.speech CHECKPOINT --zoo zoo/speech-light`.

Writes the ONNX step graph and its manifest. Measured quality is added by `python -m benchmarks.speech`.
"""

import argparse
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from export.demucs import BLOCK_SAMPLES, audio_spec, export_step, stream_parity, tensor_specs
from models.demucs import Demucs, DemucsConfig
from runtime.manifest import Manifest, ModelFile, Training

STEP_FILE = "step.onnx"
TOLERANCE = 1e-5
PAPER = "arXiv 2006.12847, Real Time Speech Enhancement in the Waveform Domain"
SPEECH_ATTRIBUTION = "Speech: LibriSpeech train-clean-100, (c) 2014 Vassil Panayotov, CC BY 4.0"
NOISE_ATTRIBUTION = (
    "Noise: Blanket's sounds by gezortenplotz, alex36917, Digifish music, Luftrum (CC BY), Omegatron, Jorge Stolfi "
    "(CC BY-SA), kvgarlic, Falcet, felix.blume, ezwa, Lisa Redfern (CC0 or public domain)",
    "Noise: Benboncan, juskiddink (CC BY 4.0), Tomlija (CC BY 3.0), Freesound works in CC0",
    "Noise: Google Speech Commands background noise, CC BY 4.0; Free Sounds Library, CC BY 4.0",
)


def load_network(checkpoint: Path) -> tuple[Demucs, dict[str, Any]]:
    """Build the network of a checkpoint with its averaged weights; give also the checkpoint."""
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    settings = kept["recipe"]["task"]
    config = DemucsConfig(hidden=settings["hidden"], predicts=settings["predicts"])
    network = Demucs(config, normalize=False)
    network.load_state_dict(kept["ema"])
    return network.eval(), kept


def ship(checkpoint: Path, zoo: Path) -> Manifest:
    """Write a model's folder from a checkpoint.

    Raises:
        ValueError: The exported graph does not agree with the network.
    """
    network, kept = load_network(checkpoint)
    zoo.mkdir(parents=True, exist_ok=True)
    path = zoo / STEP_FILE
    export_step(network, path)
    difference = stream_parity(network, path, block_samples=BLOCK_SAMPLES, seconds=4)
    if difference > TOLERANCE:
        raise ValueError(f"{path} differs from the network by {difference:.2g}, over {TOLERANCE:g}")
    manifest = _manifest(network, kept, zoo.name, path)
    text = manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
    (zoo / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def _manifest(network: Demucs, kept: dict[str, Any], name: str, path: Path) -> Manifest:
    inputs, outputs, states = tensor_specs(network)
    recipe = kept["recipe"]
    return Manifest(
        name=name,
        title=f"Speech denoiser, causal Demucs, hidden {network.config.hidden}",
        task="speech-denoise",
        architecture="demucs",
        paper=PAPER,
        parameters=sum(weight.numel() for weight in network.parameters()),
        licence="Apache-2.0",
        attribution=(SPEECH_ATTRIBUTION, *NOISE_ATTRIBUTION),
        files=(
            ModelFile(
                path=path.name,
                role="step",
                precision="fp32",
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            ),
        ),
        inputs=inputs,
        outputs=outputs,
        states=states,
        audio=audio_spec(network),
        training=Training(
            recipe=f"training/recipes/{recipe['name'].replace('-', '_')}.toml",
            data=(
                "LibriSpeech train-clean-100, one utterance of each speaker, 52 minutes",
                "environmental recordings (see attribution), 32 minutes; synthetic babble, coloured noise and hum",
            ),
            held_out=(
                f"{recipe['task']['held_out_speakers']} speakers",
                *recipe["task"]["held_out_noise"],
            ),
            iterations=kept["iteration"],
            seed=recipe["seed"],
            date=datetime.now(UTC).date().isoformat(),
        ),
    )


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the model to write")
    arguments = parser.parse_args()
    manifest = ship(arguments.checkpoint, arguments.zoo)
    print(f"{arguments.zoo}: {manifest.parameters} parameters, {manifest.files[0].sha256[:12]}")


if __name__ == "__main__":
    main()
