"""An exported step equals the network at any size, and its manifest describes it."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

from export.light_vsr import OUTPUTS, count_gflop, export_onnx, tile_shapes
from export.onnx_export import ParityError, check_parity
from export.zoo import ship
from kernels.colour import rgb_to_luma
from models.light_vsr import LightVsr, LightVsrConfig
from models.light_vsr_step import LightVsrStep
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import Model, find_model, load_model
from runtime.video.degradation import describe_degradation
from runtime.video.motion import PreparedFrame
from runtime.video.recurrent import RecurrentRunner
from runtime.video.tile_plan import plan_canvas

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's deprecation warnings


def network(config):
    torch.manual_seed(5)
    built = LightVsr(config).eval()
    torch.nn.init.normal_(built.last.weight, std=0.1)
    if config.descriptors:
        torch.nn.init.normal_(built.condition[2].weight, std=0.1)
    return built


@pytest.fixture(
    scope="module",
    params=[LightVsrConfig(2, 2, 16, 1, True), LightVsrConfig(4, 1, 16, 1), LightVsrConfig(4, 1, 16, 1, False, 8)],
    ids=["grid", "plain", "conditioned"],
)
def exported(request, tmp_path_factory):
    built = network(request.param)
    path = tmp_path_factory.mktemp("onnx") / "step.onnx"
    return built, path, export_onnx(built, path)


def step_inputs(config, height, width):
    rng = np.random.default_rng(6)
    inputs = {
        "frame": rng.random((1, 3, height * config.grid, width * config.grid), np.float32),
        "strength": np.array([1.0], np.float32),
        "hidden": rng.standard_normal((1, config.channels, height, width), np.float32),
        "previous": rng.random((1, 3, height, width), np.float32),
    }
    if config.descriptors:
        inputs["degradation"] = rng.uniform(-1, 1, (1, config.descriptors)).astype(np.float32)
    return inputs


def test_the_file_agrees_with_torch_at_another_size(exported):
    built, path, parity = exported
    inputs = step_inputs(built.config, 33, 47)

    found = check_parity(
        LightVsrStep(built), path, inputs, OUTPUTS, dimensions={"height": 33, "width": 47}, tolerance=1e-5
    )

    assert max(parity, found) < 1e-5


def test_the_step_with_its_cut_convolution_is_the_network(exported):
    built, _, _ = exported
    tensors = {name: torch.from_numpy(value) for name, value in step_inputs(built.config, 16, 16).items()}

    output, hidden, previous = LightVsrStep(built)(*tensors.values())
    carried = torch.cat((tensors["hidden"], tensors["previous"]), 1)
    expected, state = built(tensors["frame"], carried, degradation=tensors.get("degradation"))

    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat((hidden, previous), 1), state, atol=1e-5, rtol=1e-5)


def test_only_operations_that_every_engine_has_are_used(exported):
    built, path, _ = exported
    of_condition = {"Gemm", "Split", "Unsqueeze", "Reshape"} if built.config.descriptors else set()

    operations = {node.op_type for node in onnx.load(path).graph.node}

    assert operations <= {
        "Add", "AveragePool", "Concat", "Conv", "DepthToSpace", "Identity", "Mul", "Pad", "Relu",
        "Slice", "Sub",
    } | of_condition  # fmt: skip


def test_weights_that_differ_are_refused(exported):
    built, path, _ = exported
    other = network(built.config)
    with torch.no_grad():
        other.last.weight[0, 0, 0, 0] += 0.5

    with pytest.raises(ParityError, match="output output differs"):
        check_parity(
            LightVsrStep(other),
            path,
            step_inputs(built.config, 16, 16),
            OUTPUTS,
            dimensions={"height": 16, "width": 16},
            tolerance=1e-5,
        )


def test_a_checkpoint_becomes_a_model_of_the_zoo(tmp_path):
    config = LightVsrConfig(2, 2, 16, 1)
    recipe = {
        "name": "tiny",
        "seed": 1,
        "task": {"scale": 2, "grid": 2, "channels": 16, "blocks": 1, "held_out": ["kept.mp4"]},
    }
    checkpoint = tmp_path / "last.pt"
    torch.save({"ema": network(config).state_dict(), "recipe": recipe, "iteration": 1}, checkpoint)

    ship(checkpoint, tmp_path / "tiny", title="tiny")

    manifest = load_model(tmp_path / "tiny").manifest
    assert load_model(tmp_path / "tiny").file().is_file()
    assert manifest.video.halo == config.halo
    assert (manifest.title, manifest.task) == ("tiny", "video-super-resolution")
    assert manifest.training.held_out == ("kept.mp4",)
    assert manifest.parameters == sum(p.numel() for p in network(config).parameters())


def test_a_network_conditioned_on_degradation_runs_in_tiles_as_in_one(tmp_path):
    config = LightVsrConfig(4, 1, 16, 1, False, 8)
    task = {"scale": 4, "channels": 16, "blocks": 1, "descriptors": True, "held_out": []}
    checkpoint = tmp_path / "last.pt"
    weights = network(config).state_dict()
    torch.save({"ema": weights, "recipe": {"name": "t", "seed": 1, "task": task}, "iteration": 1}, checkpoint)
    ship(checkpoint, tmp_path / "conditioned", title="conditioned")
    model, frame = load_model(tmp_path / "conditioned"), np.random.default_rng(8).random((3, 64, 96), np.float32)
    one, tiles = (plan_canvas(64, 96, shaped(model, shape).manifest.video) for shape in ((64, 96), (32, 32)))

    found = []
    for canvas in (one, tiles):
        with RecurrentRunner(model, ModelBackend(find_backend("cpu")), canvas, strength=1.0) as runner:
            padded = np.pad(frame, ((0, 0), (0, canvas.height - 64), (0, canvas.width - 96)), mode="edge")
            found.append(runner.run(PreparedFrame(0, 0, 1, padded, None)).copy())

    assert len(tiles.tiles) > 1
    assert np.abs(found[0] - found[1]).max() < 1 / 255
    descriptor = torch.from_numpy(describe_degradation(rgb_to_luma(frame, 1)))[None]
    with torch.no_grad():
        state = torch.zeros(1, config.state_channels, 64, 96)
        expected, _ = network(config)(torch.from_numpy(frame)[None], state, degradation=descriptor)
    np.testing.assert_allclose(found[0], expected[0].numpy(), atol=1e-4)


def shaped(model, shape):
    video = model.manifest.video.model_copy(update={"tile_shapes": (shape,)})
    return Model(folder=model.folder, manifest=model.manifest.model_copy(update={"video": video}))


@pytest.mark.parametrize("name", ["light-x4", "light-x2", "light-restore"])
def test_a_shipped_network_stays_within_twelve_gflop(name):
    assert find_model(name).manifest.video.gflop_per_320x180_frame <= 12


def test_operations_are_counted_as_two_a_multiply_add():
    config = LightVsrConfig(1, 1, 16, 0)

    expected = 2 * 100 * 9 * ((3 + 19) * 16 + 16 * 3) / 1e9

    assert count_gflop(LightVsr(config), width=10, height=10) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["light-x2", "light-x4", "light-restore"])
def test_the_shipped_manifests_have_the_tile_shapes_that_an_export_writes(name):
    spec = find_model(name).manifest.video

    assert tile_shapes(SimpleNamespace(grid=spec.grid, halo=spec.halo)) == spec.tile_shapes
