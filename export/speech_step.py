"""A speech network's step to ONNX: explicit states, block length left open as the named dimension `samples`."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.manifest import AudioSpec, StateSpec, TensorSpec

OPSET = 18
BLOCK_SAMPLES = 1024
NEXT = "_next"


@dataclass(frozen=True, slots=True)
class StepGraph:
    """A network ready to be streamed.

    `step` takes a block (1, 1, samples) and the states in the order of `shapes`, and gives the output block and the
    next states. `whole` runs a whole signal; inside, the stream must equal it.
    """

    step: nn.Module
    whole: Callable[[Tensor], Tensor]
    shapes: dict[str, tuple[int, ...]]
    meanings: dict[str, str]
    spec: AudioSpec


def export_graph(graph: StepGraph, path: Path) -> None:
    """Write the step in float32 and check it with ONNX's own checker.

    The level normalisation is not in the graph: the host tracks the level.
    """
    block = torch.zeros(1, 1, graph.spec.block_samples)
    states = [torch.zeros(shape) for shape in graph.shapes.values()]
    with warnings.catch_warnings(), torch.inference_mode():
        # torch.export unrolls recurrence and so refuses a free number of frames (torch 2.13); the older exporter
        # writes ONNX's own LSTM and GRU. Its deprecation and its note on other batches than 1 are what is silenced.
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
    outputs = [_spec("y", (1, 1, "samples"), f"{graph.spec.predicts} in the block, late by delay_samples")]
    for name, shape in graph.shapes.items():
        inputs.append(_spec(name, shape, graph.meanings[name]))
        outputs.append(_spec(name + NEXT, shape, f"next {name}"))
    states = tuple(StateSpec(input=name, output=name + NEXT) for name in graph.shapes)
    return tuple(inputs), tuple(outputs), states


def stream_parity(graph: StepGraph, path: Path, *, block_samples: int, seconds: float) -> float:
    """Stream noise through the ONNX graph and give the largest difference from the whole-file network.

    2048 samples at either end are left out: within a receptive field of them the two may see different things (Demucs'
    whole-file interpolator rings neither before the first sample nor after the last).
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
    """Replace the sizes that the exporter could not infer by those that are known."""
    for output in model.graph.output:
        shape = shapes[output.name.removesuffix(NEXT)]
        for dimension, size in zip(output.type.tensor_type.shape.dim, shape, strict=True):
            if isinstance(size, int):
                dimension.dim_value = size
            else:
                dimension.dim_param = size


def _spec(name: str, shape: tuple[int | str, ...], meaning: str) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "shape": shape, "meaning": meaning})
