"""Export the step of a speech network: explicit states, block length as the named dimension `samples`."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from export.onnx_export import OPSET, ParityError
from export.trained import TrainedStep, TrainingCheckpoint
from models.demucs import Demucs
from models.demucs_step import DemucsStep, reset_states, state_shapes, step_timing
from models.speech_mask import SpeechMask
from models.speech_network import build_speech_network
from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.manifest import AudioSpec, StateSpec, TensorSpec

BLOCK_SAMPLES = 1024
NEXT = "_next"
TOLERANCE = 1e-5
_PAPERS = {
    "demucs": "arXiv 2006.12847, Real Time Speech Enhancement in the Waveform Domain",
    "mask": "arXiv 1708.07524, Supervised Speech Separation Based on Deep Learning: An Overview",
}
_TITLES = {"demucs": "Speech denoiser, causal Demucs", "mask": "Speech denoiser, recurrent spectral mask"}
SPEECH_ATTRIBUTION = "Speech: LibriSpeech train-clean-100, (c) 2014 Vassil Panayotov, CC BY 4.0"
NOISE_ATTRIBUTION = (
    "Noise: Blanket's sounds by gezortenplotz, alex36917, Digifish music, Luftrum (CC BY), Omegatron, Jorge Stolfi "
    "(CC BY-SA), kvgarlic, Falcet, felix.blume, ezwa, Lisa Redfern (CC0 or public domain)",
    "Noise: Benboncan, juskiddink (CC BY 4.0), Tomlija (CC BY 3.0), Freesound works in CC0",
    "Noise: Google Speech Commands background noise, CC BY 4.0; Free Sounds Library, CC BY 4.0",
)


@dataclass(frozen=True, slots=True)
class StepGraph:
    """A speech network that can be streamed.

    `step` takes a block (1, 1, samples) and the states in the order of `shapes`, and returns the output block and the
    next states. `whole` runs a whole signal; away from its ends the stream must be equal to it.
    """

    step: nn.Module
    whole: Callable[[Tensor], Tensor]
    shapes: dict[str, tuple[int, ...]]
    meanings: dict[str, str]
    spec: AudioSpec


def export_step(graph: StepGraph, path: Path) -> None:
    """Export the step in float32 and check it with ONNX's checker.

    Level normalisation is not part of the graph: the host tracks the level.
    """
    block = torch.zeros(1, 1, graph.spec.block_samples)
    states = [torch.zeros(shape) for shape in graph.shapes.values()]
    with warnings.catch_warnings(), torch.inference_mode():
        # torch.export unrolls recurrence and so refuses a free number of frames (torch 2.13); the older exporter
        # writes ONNX's own LSTM and GRU. Its deprecation and its note on batches other than 1 are silenced.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.step.eval(),
            (block, *states),
            path,
            input_names=["x", *graph.shapes],
            output_names=["y", *(name + NEXT for name in graph.shapes)],
            dynamic_axes={"x": {2: "samples"}, "y": {2: "samples"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    _declare_output_shapes(model, {"y": (1, 1, "samples")} | graph.shapes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def tensor_specs(
    graph: StepGraph,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], tuple[StateSpec, ...]]:
    """Describe the graph's inputs, outputs and states for its manifest."""
    inputs = [_spec("x", (1, 1, "samples"), "mono block divided by its tracked level")]
    outputs = [_spec("y", (1, 1, "samples"), f"{graph.spec.predicts} in the block, delayed by delay_samples")]
    for name, shape in graph.shapes.items():
        inputs.append(_spec(name, shape, graph.meanings[name]))
        outputs.append(_spec(name + NEXT, shape, f"next {name}"))
    states = tuple(StateSpec(input=name, output=name + NEXT) for name in graph.shapes)
    return tuple(inputs), tuple(outputs), states


def stream_parity(graph: StepGraph, path: Path, *, block_samples: int, seconds: float) -> float:
    """Stream noise through the ONNX graph and return the largest difference from the whole-file network.

    2048 samples at either end are left out: within a receptive field of the ends the two may differ (Demucs' whole-file
    interpolator rings neither before the first sample nor after the last).
    """
    length = int(seconds * graph.spec.sample_rate)
    signal = np.random.default_rng(7).standard_normal(length, np.float32)
    with OnnxRuntimeCpuSession(path, dimensions={"samples": block_samples}, precision="fp32", threads=1) as session:
        streamed = _stream(graph, session, signal, block_samples)
    with torch.inference_mode():
        expected = graph.whole(torch.from_numpy(signal)[None, None])[0, 0].numpy()
    inside = slice(2048, length - 2048)
    return float(np.abs(streamed[inside] - expected[inside]).max())


def _stream(graph: StepGraph, session: OnnxRuntimeCpuSession, signal: np.ndarray, block_samples: int) -> np.ndarray:
    spec = graph.spec
    # The reset must fall between two blocks, so whole frames of silence go before the lead-in.
    frames = block_samples // spec.frame_samples
    spare = -spec.reset_after_frames % frames
    lead_in = spec.lead_in_samples + spare * spec.frame_samples
    padded = np.pad(signal, (lead_in, lead_in + spec.delay_samples))
    padded = np.pad(padded, (0, -len(padded) % block_samples))
    state = {name: np.zeros(shape, np.float32) for name, shape in graph.shapes.items()}
    outputs = []
    for index, block in enumerate(padded.reshape(-1, block_samples)):
        if index * frames == spec.reset_after_frames + spare:
            state |= {name: np.zeros_like(state[name]) for name in spec.reset_states}
        result = session.run({"x": block[None, None], **state})
        outputs.append(result["y"][0, 0])
        state = {name: result[name + NEXT] for name in graph.shapes}
    return np.concatenate(outputs)[lead_in + spec.delay_samples :][: len(signal)]


def _declare_output_shapes(model: onnx.ModelProto, shapes: dict[str, tuple[int | str, ...]]) -> None:
    """Set the output sizes that the exporter could not infer."""
    for output in model.graph.output:
        shape = shapes[output.name.removesuffix(NEXT)]
        for dimension, size in zip(output.type.tensor_type.shape.dim, shape, strict=True):
            if isinstance(size, int):
                dimension.dim_value = size
            else:
                dimension.dim_param = size


def _spec(name: str, shape: tuple[int | str, ...], meaning: str) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "shape": shape, "meaning": meaning})


DEMUCS_MEANINGS = {
    "up": "past of an interpolation filter",
    "xin": "overlap of the first convolution",
    "skip": "features that wait for the decoder",
    "h": "hidden state of the LSTM",
    "c": "cell state of the LSTM",
    "tail": "overlap of a transposed convolution",
    "down": "past of a decimation filter",
}


def demucs_graph(network: Demucs) -> StepGraph:
    """Return the step graph of a network without level normalisation.

    Raises:
        ValueError: The network normalises the level, or has another geometry than the published one.
    """
    if network.normalize:
        raise ValueError("got a network that normalises its input; the host tracks the level")
    timing = step_timing(network.config)
    shapes = state_shapes(network.config)
    return StepGraph(
        step=DemucsStep(network),
        whole=network.estimate,
        shapes=shapes,
        meanings={name: DEMUCS_MEANINGS[name.rstrip("0123456789")] for name in shapes},
        spec=AudioSpec(
            sample_rate=network.config.sample_rate,
            block_samples=BLOCK_SAMPLES,
            block_multiple=timing.frame,
            delay_samples=timing.delay,
            lead_in_samples=timing.lead_in,
            reset_after_frames=timing.reset_after_frames,
            reset_states=reset_states(network.config),
            predicts=network.config.predicts,
            frame_samples=timing.frame,
        ),
    )


MASK_MEANINGS = {
    "past": "last hop of the input",
    "h": "hidden states of the GRUs",
    "tail": "second half of the last synthesised window",
}


class _MaskStep(nn.Module):
    def __init__(self, network: SpeechMask) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, past: Tensor, h: Tensor, tail: Tensor) -> tuple[Tensor, ...]:
        return self.network.step(x, past, h, tail)


def mask_graph(network: SpeechMask) -> StepGraph:
    """Return the step graph of a spectral mask."""
    hop = network.config.hop
    return StepGraph(
        step=_MaskStep(network),
        whole=network,
        shapes=network.state_shapes(),
        meanings=MASK_MEANINGS,
        spec=AudioSpec(
            sample_rate=network.config.sample_rate,
            block_samples=BLOCK_SAMPLES,
            block_multiple=hop,
            delay_samples=hop,
            lead_in_samples=0,
            reset_after_frames=0,
            frame_samples=hop,
        ),
    )


def export_speech(checkpoint: TrainingCheckpoint, path: Path, *, gain_exponent: float | None = None) -> TrainedStep:
    """Export the step of a trained speech network and describe it.

    Args:
        checkpoint: Of a Demucs or a spectral mask.
        path: Path of the ONNX file.
        gain_exponent: For a mask, instead of its recipe's.

    Raises:
        ParityError: The streamed graph does not agree with the network.
    """
    network = build_trained_speech(checkpoint, gain_exponent=gain_exponent)
    graph = demucs_graph(network) if isinstance(network, Demucs) else mask_graph(network)
    export_step(graph, path)
    difference = stream_parity(graph, path, block_samples=BLOCK_SAMPLES, seconds=4)
    if difference > TOLERANCE:
        raise ParityError(f"{path} differs from the network by {difference:.2g}, allowed {TOLERANCE:g}")
    inputs, outputs, states = tensor_specs(graph)
    task = checkpoint.task
    architecture = task.get("architecture", "demucs")
    return TrainedStep(
        parity=difference,
        parameters=sum(weight.numel() for weight in graph.step.parameters()),
        title=f"{_TITLES[architecture]}, hidden size {task['hidden']}",
        task="speech-denoise",
        architecture="demucs" if architecture == "demucs" else "speech-mask",
        paper=_PAPERS[architecture],
        attribution=(SPEECH_ATTRIBUTION, *NOISE_ATTRIBUTION),
        data=(
            "LibriSpeech train-clean-100, one utterance of each speaker, 52 minutes",
            "environmental recordings (see attribution), 32 minutes; synthetic babble, coloured noise and hum",
        ),
        held_out=(f"{task['held_out_speakers']} speakers", *task["held_out_noise"]),
        inputs=inputs,
        outputs=outputs,
        states=states,
        audio=graph.spec,
    )


def build_trained_speech(checkpoint: TrainingCheckpoint, *, gain_exponent: float | None = None) -> Demucs | SpeechMask:
    """Build the network of a checkpoint with its averaged weights; see `export_speech`."""
    task = checkpoint.task
    network = build_speech_network(
        task.get("architecture", "demucs"), hidden=task["hidden"], predicts=task.get("predicts", "noise")
    )
    network.load_state_dict(checkpoint.weights)
    if isinstance(network, SpeechMask):
        network.gain_exponent = gain_exponent or task.get("gain_exponent", 1.0)
    return network.eval()
