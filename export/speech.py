"""Ship a trained speech network: `python -m export.speech CHECKPOINT --zoo zoo/speech-demucs`.

Writes the ONNX step graph and its manifest. Measured quality is added by `python -m benchmarks.speech`.
"""

import argparse
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from export.demucs import demucs_graph
from export.speech_mask import mask_graph
from export.speech_step import BLOCK_SAMPLES, StepGraph, export_graph, stream_parity, tensor_specs
from models.demucs import Demucs
from models.speech_mask import SpeechMask
from models.speech_network import build_speech_network
from runtime.manifest import Manifest, ModelFile, Training

STEP_FILE = "step.onnx"
TOLERANCE = 1e-5
PAPERS = {
    "demucs": "arXiv 2006.12847, Real Time Speech Enhancement in the Waveform Domain",
    "mask": "arXiv 1708.07524, Supervised Speech Separation Based on Deep Learning: An Overview",
}
TITLES = {"demucs": "Speech denoiser, causal Demucs", "mask": "Speech denoiser, recurrent spectral mask"}
SPEECH_ATTRIBUTION = "Speech: LibriSpeech train-clean-100, (c) 2014 Vassil Panayotov, CC BY 4.0"
NOISE_ATTRIBUTION = (
    "Noise: Blanket's sounds by gezortenplotz, alex36917, Digifish music, Luftrum (CC BY), Omegatron, Jorge Stolfi "
    "(CC BY-SA), kvgarlic, Falcet, felix.blume, ezwa, Lisa Redfern (CC0 or public domain)",
    "Noise: Benboncan, juskiddink (CC BY 4.0), Tomlija (CC BY 3.0), Freesound works in CC0",
    "Noise: Google Speech Commands background noise, CC BY 4.0; Free Sounds Library, CC BY 4.0",
)


def load_network(checkpoint: Path, *, gain_exponent: float | None = None) -> tuple[Demucs | SpeechMask, dict[str, Any]]:
    """Build the network of a checkpoint with its averaged weights; give also the checkpoint.

    `gain_exponent` takes the place of the recipe's, for a mask.
    """
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    settings = kept["recipe"]["task"]
    network = build_speech_network(
        settings.get("architecture", "demucs"),
        hidden=settings["hidden"],
        predicts=settings.get("predicts", "noise"),
    )
    network.load_state_dict(kept["ema"])
    if isinstance(network, SpeechMask):
        network.gain_exponent = gain_exponent or settings.get("gain_exponent", 1.0)
    return network.eval(), kept


def ship(checkpoint: Path, zoo: Path, *, history: str = "", gain_exponent: float | None = None) -> Manifest:
    """Write a model's folder from a checkpoint; `history` says what its recipe does not.

    Raises:
        ValueError: The exported graph does not agree with the network.
    """
    network, kept = load_network(checkpoint, gain_exponent=gain_exponent)
    graph = demucs_graph(network) if isinstance(network, Demucs) else mask_graph(network)
    zoo.mkdir(parents=True, exist_ok=True)
    path = zoo / STEP_FILE
    export_graph(graph, path)
    difference = stream_parity(graph, path, block_samples=BLOCK_SAMPLES, seconds=4)
    if difference > TOLERANCE:
        raise ValueError(f"{path} differs from the network by {difference:.2g}, over {TOLERANCE:g}")
    manifest = _manifest(graph, kept, zoo.name, path, history)
    text = manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
    (zoo / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def _manifest(graph: StepGraph, kept: dict[str, Any], name: str, path: Path, history: str) -> Manifest:
    inputs, outputs, states = tensor_specs(graph)
    recipe = kept["recipe"]
    source = f"training/recipes/{recipe['name'].replace('-', '_')}.toml"
    settings = recipe["task"]
    architecture = settings.get("architecture", "demucs")
    return Manifest(
        name=name,
        title=f"{TITLES[architecture]}, hidden {settings['hidden']}",
        task="speech-denoise",
        architecture="demucs" if architecture == "demucs" else "speech-mask",
        paper=PAPERS[architecture],
        parameters=sum(weight.numel() for weight in graph.step.parameters()),
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
        audio=graph.spec,
        training=Training(
            recipe=f"{source}; {history}" if history else source,
            data=(
                "LibriSpeech train-clean-100, one utterance of each speaker, 52 minutes",
                "environmental recordings (see attribution), 32 minutes; synthetic babble, coloured noise and hum",
            ),
            held_out=(
                f"{settings['held_out_speakers']} speakers",
                *settings["held_out_noise"],
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
    parser.add_argument("--history", default="", help="what the recipe does not say of this run")
    parser.add_argument("--gain-exponent", type=float, help="of a mask, instead of its recipe's")
    arguments = parser.parse_args()
    manifest = ship(
        arguments.checkpoint,
        arguments.zoo,
        history=arguments.history,
        gain_exponent=arguments.gain_exponent,
    )
    print(f"{arguments.zoo}: {manifest.parameters} parameters, {manifest.files[0].sha256[:12]}")


if __name__ == "__main__":
    main()
