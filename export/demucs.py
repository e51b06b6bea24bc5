"""Demucs to ONNX: the stateful step graph, block length left open as the named dimension `samples`."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from models.demucs import Demucs
from models.demucs_step import DemucsStep, reset_states, state_shapes, step_timing
from runtime.engine.onnxruntime_cpu import OnnxRuntimeCpuSession
from runtime.manifest import AudioSpec, StateSpec, TensorSpec

OPSET = 18
BLOCK_SAMPLES = 1024
NEXT = "_next"


def export_step(network: Demucs, path: Path) -> None:
    """Write the step graph of a network in float32 and check it with ONNX's own checker.

    The level normalisation is not in the graph: the host tracks the level.
    """
    step = DemucsStep(network).eval()
    shapes = state_shapes(network.config)
    block = torch.zeros(1, 1, BLOCK_SAMPLES)
    states = [torch.zeros(shape) for shape in shapes.values()]
    with warnings.catch_warnings(), torch.inference_mode():
        # torch.export unrolls an LSTM and so refuses a free number of frames (torch 2.13); the older exporter
        # writes ONNX's own LSTM. Its deprecation and its note on batches other than 1 are what is silenced.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            step,
            (block, *states),
            path,
            input_names=["x", *shapes],
            output_names=["y", *(name + NEXT for name in shapes)],
            dynamic_axes={"x": {2: "samples"}, "y": {2: "samples"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(path)
    _declare_output_shapes(model, shapes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def audio_spec(network: Demucs) -> AudioSpec:
    """Say how the audio pipeline runs the step graph."""
    timing = step_timing(network.config)
    return AudioSpec(
        sample_rate=network.config.sample_rate,
        block_samples=BLOCK_SAMPLES,
        block_multiple=timing.frame,
        delay_samples=timing.delay,
        lead_in_samples=timing.lead_in,
        reset_after_frames=timing.reset_after_frames,
        reset_states=reset_states(network.config),
        predicts=network.config.predicts,
        frame_samples=timing.frame,
    )


def tensor_specs(
    network: Demucs,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], tuple[StateSpec, ...]]:
    """Describe the graph's inputs, outputs and states for its manifest."""
    shapes = state_shapes(network.config)
    inputs = [_spec("x", (1, 1, "samples"), "mono block divided by its tracked level")]
    outputs = [_spec("y", (1, 1, "samples"), f"{network.config.predicts} in the block, late by delay_samples")]
    for name, shape in shapes.items():
        inputs.append(_spec(name, shape, _meaning(name)))
        outputs.append(_spec(name + NEXT, shape, f"next {name}"))
    states = tuple(StateSpec(input=name, output=name + NEXT) for name in shapes)
    return tuple(inputs), tuple(outputs), states


def stream_parity(network: Demucs, path: Path, *, block_samples: int, seconds: float) -> float:
    """Stream noise through the ONNX graph and give the largest difference from the whole-file network.

    Within a receptive field of either end the two see different things (the whole-file interpolator rings neither before
    the first sample nor after the last), so 2048 samples there are left out.
    """
    timing = step_timing(network.config)
    shapes = state_shapes(network.config)
    # The reset must fall between two blocks, so whole frames of silence go before the lead-in.
    frames = block_samples // timing.frame
    spare = -timing.reset_after_frames % frames
    lead_in = timing.lead_in + spare * timing.frame
    length = int(seconds * network.config.sample_rate)
    signal = np.random.default_rng(7).standard_normal(length, np.float32)
    whole = np.pad(signal, (lead_in, lead_in + timing.delay))
    whole = np.pad(whole, (0, -len(whole) % block_samples))
    state = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    outputs = []
    with OnnxRuntimeCpuSession(
        path, dimensions={"samples": block_samples}, precision="fp32", threads=1
    ) as session:
        for index, block in enumerate(whole.reshape(-1, block_samples)):
            if index * frames == timing.reset_after_frames + spare:
                for name in reset_states(network.config):
                    state[name] = np.zeros_like(state[name])
            result = session.run({"x": block[None, None], **state})
            outputs.append(result["y"][0, 0])
            state = {name: result[name + NEXT] for name in shapes}
    streamed = np.concatenate(outputs)[lead_in + timing.delay :][:length]
    normalize, network.normalize = network.normalize, False
    with torch.inference_mode():
        expected = network.estimate(torch.from_numpy(signal)[None, None])[0, 0].numpy()
    network.normalize = normalize
    inside = slice(2048, length - 2048)
    return float(np.abs(streamed[inside] - expected[inside]).max())


def _declare_output_shapes(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Replace the sizes that the exporter could not infer by those that are known."""
    for output in model.graph.output:
        shape = shapes.get(output.name.removesuffix(NEXT))
        if shape is None:
            continue
        for dimension, size in zip(output.type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size


def _spec(name: str, shape: tuple[int | str, ...], meaning: str) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "shape": shape, "meaning": meaning})


def _meaning(name: str) -> str:
    meanings = {
        "up": "past of an interpolation filter",
        "xin": "overlap of the first convolution",
        "skip": "features that wait for the decoder",
        "h": "hidden state of the LSTM",
        "c": "cell state of the LSTM",
        "tail": "overlap of a transposed convolution",
        "down": "past of a decimation filter",
    }
    return meanings[name.rstrip("0123456789")]
