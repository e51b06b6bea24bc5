"""A user's checkpoint becomes an entry of their own zoo, never of the shipped one."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from export.importers.entry import ImportRefusedError
from export.importers.network import import_network
from export.importers.rvrt import OWN_SIZES, fit_rvrt, import_rvrt
from export.importers.spandrel import SpandrelError, import_spandrel, load_image_network
from export.networks import NotExportableError, read_state
from models.published import CheckpointError
from models.rvrt import RVRT_CONFIGS, Rvrt
from models.sr_unet import SrUnet, SrUnetConfig
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import find_model, zoo_folder
from runtime.video.motion import PreparedFrame
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import plan_canvas

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's deprecation warnings

PUBLISHED = {
    "extract.group.": "feat_extract.",
    "refine.backward_1.": "backbone.backward_1.",
    "reconstruct.": "reconstruction.",
}


PROJECTIONS = {"query": "proj_q.1", "key": "proj_k.1", "value": "proj_v.1", "project": "proj.1"}


def as_published(network: Rvrt) -> dict[str, torch.Tensor]:
    """Write a network's weights under the published names, by hand and for one branch."""
    state = {}
    for name, held in network.state_dict().items():
        published, tensor = name, held
        for ours, theirs in PUBLISHED.items():
            if name.startswith(ours):
                rest = name.removeprefix(ours)
                rest = rest.replace("conv.", "main.1.").replace("norm_in.", "main.3.").replace("norm_out.", "main.7.")
                rest = rest.replace("blocks.0.layers.0.", "main.5.0.residual_group.blocks.0.")
                rest = rest.replace("attention.bias_table", "attn.relative_position_bias_table")
                rest = rest.replace("attention.qkv", "attn.qkv_self").replace("attention.project", "attn.proj")
                published = theirs + rest.replace("blocks.0.linear", "main.5.0.linear")
        if name.startswith("align."):
            rest = name.removeprefix("align.backward_1.").replace("offsets.", "conv_offset.")
            for ours, theirs in (
                ("query", "proj_q.1"),
                ("key", "proj_k.1"),
                ("value", "proj_v.1"),
                ("project", "proj.1"),
            ):
                rest = theirs + rest.removeprefix(ours) if rest.startswith(ours + ".") else rest
            published = "deform_align.backward_1." + rest.replace("mlp.fc", "mlp.1.fc")
            if "conv_offset.10" in published:
                tensor = tensor.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        published = published.replace("flow.mean", "spynet.mean").replace("flow.deviation", "spynet.std")
        if name.startswith("flow.levels."):
            _, _, level, slot, kind = name.split(".")
            published = f"spynet.basic_module.{level}.basic_module.{slot}.{kind}"
        for ours, theirs in (
            ("before_upsampler", "conv_before_upsampler.0"),
            ("upsampler.stage1", "upsampler.0"),
            ("upsampler.stage2", "upsampler.5"),
            ("upsampler.smooth", "upsampler.10"),
            ("last", "conv_last"),
        ):
            if name.startswith(ours + "."):
                published = theirs + name.removeprefix(ours)
        five = tensor.ndim == 4 and not published.startswith("spynet")
        state[published] = tensor.unsqueeze(2) if five else tensor
    return state


@pytest.fixture
def plain(small_rvrt):
    """Sizes without the residual block, as a published checkpoint has them."""
    return replace(small_rvrt, refinement=False, depths=(1, 1, 1))


@pytest.fixture
def published(tmp_path, plain):
    torch.manual_seed(0)
    network = Rvrt(plain).eval()
    for aligner in network.align.values():
        torch.nn.init.normal_(aligner.offsets[-1].weight, std=0.3)
    path = tmp_path / "001_tiny.pth"
    torch.save({"params": as_published(network)}, path)
    return network, path


@pytest.mark.slow
def test_rvrt_is_imported_with_its_block_as_the_identity(published, tmp_path, plain) -> None:
    network, path = published

    manifest, (exported,) = import_rvrt(path, tmp_path / "zoo", frames=2, tile=(8, 8), config=plain)

    model = find_model("rvrt-001_tiny", tmp_path / "zoo")
    assert exported.parity <= 1e-4
    assert model.manifest == manifest
    assert manifest.licence == "CC-BY-NC-4.0: non-commercial use only"
    assert manifest.video.scale == 4
    clip = np.random.default_rng(0).random((1, 2, 3, 8, 8), np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(clip)).numpy()[0]
    canvas = plan_canvas(8, 8, manifest.video)
    still = np.zeros((2, 8, 8), np.float32)
    with open_runner(model, ModelBackend(find_backend("cpu")), canvas, strength=1.0) as step:
        assert list(step.push(PreparedFrame(0, 0, 1, clip[0, 0], None))) == []
        found = [one.rgb for one in (*step.push(PreparedFrame(1, 1, 1, clip[0, 1], still)), *step.flush())]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    kept = torch.load(tmp_path / "zoo" / "rvrt-001_tiny" / "weights.pt", weights_only=True)
    assert not kept["refinement.convolutions.2.weight"].any()
    # Two frames are one clip, which is not aligned: the loaded weights are compared, not only the output.
    assert all(torch.equal(kept[key], tensor) for key, tensor in network.state_dict().items())


def test_what_our_training_wrote_is_imported_as_it_was_averaged(tmp_path) -> None:
    torch.manual_seed(0)
    network = SrUnet(SrUnetConfig()).eval()
    path = tmp_path / "best.pt"
    torch.save({"model": {}, "ema": network.state_dict(), "iteration": 3, "best": 0.5}, path)

    manifest, _ = import_network("sr-unet-x2", path, tmp_path / "zoo", tile=(16, 32))

    model = find_model("sr-unet-x2-best", tmp_path / "zoo")
    assert (manifest.video.scale, manifest.video.look_ahead, manifest.video.tile_shapes) == (2, 0, ((16, 32),))
    frame = np.random.default_rng(0).random((1, 3, 16, 32), np.float32)
    with (
        ModelBackend(find_backend("cpu")).open(model, "window", {}) as session,
        torch.inference_mode(),
    ):
        found, expected = session.run({"frame": frame})["output"], network(torch.from_numpy(frame)).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    with pytest.raises(ImportRefusedError, match="light-x4 takes no window of frames"):
        import_network("light-x4", path, tmp_path / "zoo")
    with pytest.raises(NotExportableError, match="must be multiples of 16"):
        import_network("sr-unet-x2", path, tmp_path / "zoo", name="odd", tile=(24, 24))


def test_a_network_of_our_own_sizes_is_known_again() -> None:
    torch.manual_seed(0)
    network = Rvrt(RVRT_CONFIGS["tiny"])

    found, known = fit_rvrt(network.state_dict(), None)

    assert known == "tiny"
    assert known in OWN_SIZES
    assert all(torch.equal(found.state_dict()[key], tensor) for key, tensor in network.state_dict().items())


def test_nothing_is_imported_into_the_zoo_that_ships(published, plain) -> None:
    with pytest.raises(ImportRefusedError, match="the shipped zoo; import into a folder of your own"):
        import_rvrt(published[1], zoo_folder(), frames=2, tile=(8, 8), config=plain)
    assert not (zoo_folder() / "rvrt-001_tiny").exists()


def test_an_entry_is_not_overwritten(published, tmp_path, plain) -> None:
    (tmp_path / "zoo" / "taken").mkdir(parents=True)
    (tmp_path / "zoo" / "taken" / "manifest.json").write_text("{}")
    with pytest.raises(ImportRefusedError, match="already has a model; choose another --name or remove it"):
        import_rvrt(published[1], tmp_path / "zoo", name="taken", frames=2, tile=(8, 8), config=plain)


def test_a_checkpoint_of_something_else_is_refused(tmp_path, plain) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="got a tensor named weight, which the network does not have"):
        import_rvrt(path, tmp_path / "zoo", config=plain)
    assert not (tmp_path / "zoo").exists()


class Code:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"params": Code()}, path)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_state(path)
    assert "must not run" not in capsys.readouterr().out


def compact(scale: int = 2) -> dict[str, torch.Tensor]:
    """Return a tiny Real-ESRGAN Compact network's weights."""
    torch.manual_seed(0)
    state = {"body.0.weight": torch.randn(8, 3, 3, 3), "body.0.bias": torch.randn(8), "body.1.weight": torch.rand(8)}
    state |= {"body.2.weight": torch.randn(8, 8, 3, 3), "body.2.bias": torch.randn(8), "body.3.weight": torch.rand(8)}
    return state | {
        "body.4.weight": torch.randn(3 * scale**2, 8, 3, 3),
        "body.4.bias": torch.randn(3 * scale**2),
    }


needs_spandrel = pytest.mark.skipif(
    find_spec("spandrel") is None, reason="no spandrel here: pip install --no-deps spandrel safetensors einops"
)


@needs_spandrel
def test_an_image_network_is_imported_through_spandrel(tmp_path) -> None:
    path = tmp_path / "x2.pth"
    torch.save(compact(), path)

    manifest, (exported,) = import_spandrel(path, tmp_path / "zoo", tile=(16, 24))

    assert manifest.name == "realesrgan-compact-x2"
    assert manifest.licence.startswith("unknown")
    assert manifest.video.scale == 2
    assert manifest.outputs[0].shape == (1, 3, 32, 48)
    assert exported.parity <= 1e-4


@needs_spandrel
def test_a_network_that_sets_its_weights_while_it_runs_is_exported(tmp_path) -> None:
    path = tmp_path / "compact.pth"
    torch.save(compact(), path)
    load_image_network(path)  # imports spandrel, with or without torchvision
    span = import_module("spandrel.architectures.SPAN.__arch.span")
    path = tmp_path / "span.pth"
    torch.save(span.SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2).eval().state_dict(), path)

    manifest, (exported,) = import_spandrel(path, tmp_path / "zoo", name="span", tile=(16, 16))

    assert manifest.architecture.startswith("SPAN")
    assert exported.parity <= 1e-4


@needs_spandrel
def test_a_scale_that_no_pipeline_has_is_refused(tmp_path) -> None:
    path = tmp_path / "x3.pth"
    torch.save(compact(3), path)
    with pytest.raises(ImportRefusedError, match="of scale 3 from 3 to 3 channels; expected scale 1, 2 or 4 and RGB"):
        import_spandrel(path, tmp_path / "zoo")


@needs_spandrel
def test_what_spandrel_does_not_know_is_refused(tmp_path) -> None:
    path = tmp_path / "unknown.pth"
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(SpandrelError, match="spandrel cannot load"):
        load_image_network(path)
