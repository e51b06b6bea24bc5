"""BasicVSR and its kin as entries of a user's zoo: the separate engines give the result of the whole network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export.importers.bidirectional import import_chain, write_chain
from export.importers.entry import Imported, ImportRefusedError
from export.networks import load_checkpoint
from models.basicvsr import BasicVsr, BasicVsrConfig
from models.flow_warp import flow_warp
from models.published import CheckpointError
from models.realbasicvsr import CleaningConfig, RealBasicVsr, RealBasicVsrConfig, unet_config
from models.registry import REGISTRY, Published
from models.spynet import SpynetConfig
from runtime.engine.backends import find_backend
from runtime.engine.choose import ModelBackend
from runtime.manifest import find_model
from runtime.video.motion import PreparedFrame
from runtime.video.pipeline import open_runner
from runtime.video.tile_plan import plan_canvas

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's deprecation warnings

VSR = BasicVsrConfig(channels=4, blocks=1, flow=SpynetConfig(levels=2, widths=(4, 4, 4, 4)))


def build(kind: str) -> BasicVsr | RealBasicVsr:
    """Build a small network whose flow is a few pixels."""
    torch.manual_seed(0)
    if kind == "basicvsr":
        network: BasicVsr | RealBasicVsr = BasicVsr(VSR)
    elif kind == "realbasicvsr":
        network = RealBasicVsr(RealBasicVsrConfig(CleaningConfig(blocks=1, channels=4, threshold=0.5), VSR))
    else:
        network = RealBasicVsr(unet_config(2, 1, skip=True, vsr=VSR))
    for level in (network if isinstance(network, BasicVsr) else network.vsr).flow.levels:
        torch.nn.init.normal_(level[-1].bias, std=2.0)
    return network.eval()


def describe(tmp_path: Path, tile: tuple[int, int], **fields: object) -> Imported:
    source = tmp_path / "own.pth"
    source.write_bytes(b"weights")
    return Imported(
        name="own", title="own", task="video-super-resolution", architecture="own", paper="own", licence="own",
        source=source, scale=4, tile=tile, frames=5, overlap=2, side_multiple=1, **fields,
    )  # fmt: skip


def run(zoo: Path, frames: np.ndarray) -> list[np.ndarray]:
    model = find_model("own", zoo)
    canvas = plan_canvas(*frames.shape[2:], model.manifest.video)
    backend = ModelBackend(find_backend("cpu"))
    flow = np.zeros((2, canvas.height, canvas.width), np.float32)
    with open_runner(model, backend, canvas, strength=1.0) as step:
        given = [
            one
            for index, rgb in enumerate(frames)
            for one in step.push(PreparedFrame(index, index, 1, rgb, flow if index else None))
        ]
        return [one.rgb for one in (*given, *step.flush())]


@pytest.mark.parametrize(
    "kind",
    ["basicvsr", pytest.param("realbasicvsr", marks=pytest.mark.slow), pytest.param("unet", marks=pytest.mark.slow)],
)
def test_a_scene_of_one_window_and_one_tile_is_the_whole_network(kind: str, tmp_path: Path) -> None:
    network = build(kind)
    size = (32, 48) if kind == "unet" else (16, 24)
    imported = describe(tmp_path, size)
    if kind == "unet":
        imported = replace(imported, scale=1, side_multiple=8)
    manifest, exported = write_chain(network, imported, tmp_path / "zoo")
    frames = np.random.default_rng(0).random((5, 3, *size), np.float32)

    found = np.stack(run(tmp_path / "zoo", frames))

    with torch.inference_mode():
        whole = network(torch.from_numpy(frames)[None])[0].numpy()
    assert len(exported) == len(manifest.files) == (4 if kind == "basicvsr" else 5)
    assert found.shape == whole.shape
    assert np.abs(found - whole).max() <= 1e-4 * np.abs(whole).max()


@pytest.mark.slow
def test_tiles_and_windows_change_nothing_where_the_network_sees_no_further(tmp_path: Path) -> None:
    network = build("basicvsr")
    assert isinstance(network, BasicVsr)
    for level in network.flow.levels:  # the same flow everywhere, since flow looks further than a tile
        torch.nn.init.zeros_(level[-1].weight)
    torch.nn.init.zeros_(network.backward_branch.first.weight[:, 3:])  # nothing is propagated backwards
    write_chain(network, describe(tmp_path, (16, 24)), tmp_path / "zoo")
    frames = np.random.default_rng(0).random((9, 3, 38, 40), np.float32)

    found = np.stack(run(tmp_path / "zoo", frames))

    with torch.inference_mode():
        whole = network(torch.from_numpy(frames)[None])[0].numpy()
    assert found.shape == whole.shape == (9, 3, 152, 160)
    assert np.abs(found - whole).max() <= 1e-4 * np.abs(whole).max()


def test_the_kernel_reads_zeros_outside_as_the_network_does() -> None:
    from kernels.warp import warp

    generator = np.random.default_rng(0)
    features = generator.random((3, 7, 9), np.float32)
    flow = (4 * generator.standard_normal((2, 7, 9))).astype(np.float32)

    bordered = np.pad(features, ((0, 0), (1, 1), (1, 1)))

    expected = flow_warp(torch.from_numpy(features)[None], torch.from_numpy(flow)[None])[0].numpy()
    np.testing.assert_allclose(warp(bordered, flow, top=1, left=1), expected, atol=1e-5)


def test_a_tile_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    imported = replace(describe(tmp_path, (30, 48)), side_multiple=8)
    with pytest.raises(ImportRefusedError, match="tiles of 48x30; this network needs sides that are multiples of 8"):
        write_chain(build("unet"), imported, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_windows_that_share_all_their_frames_are_refused(tmp_path: Path) -> None:
    imported = replace(describe(tmp_path, (16, 24)), overlap=5)
    with pytest.raises(ImportRefusedError, match="windows of 5 frames with an overlap of 5; expected less"):
        write_chain(build("basicvsr"), imported, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_network_that_has_no_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match="sr-unet-x2 cannot be imported in parts; expected basicvsr"):
        import_chain("sr-unet-x2", tmp_path / "x.pth", tmp_path / "zoo")


@pytest.mark.parametrize("prefix", ["", "generator.", "generator_ema."])
def test_a_checkpoint_is_read_as_mmediting_saves_it(prefix: str, tmp_path: Path) -> None:
    ours, other = build("basicvsr"), build("basicvsr")
    published = {}
    for name, tensor in ours.state_dict().items():
        changed = name.replace("_branch.first", "_resblocks.main.0").replace("_branch.body", "_resblocks.main.2")
        if name.startswith("flow.levels."):
            _, _, level, slot, kind = name.split(".")
            changed = f"spynet.basic_module.{level}.basic_module.{int(slot) // 2}.conv.{kind}"
        changed = changed.replace("flow.mean", "spynet.mean").replace("flow.deviation", "spynet.std")
        changed = changed.removeprefix("reconstruction.")
        for stage in ("upsample1", "upsample2"):
            changed = changed.replace(f"{stage}.", f"{stage}.upsample_conv.") if changed.startswith(stage) else changed
        published[prefix + changed] = tensor
    state = dict(published)
    if prefix:
        state |= {"step_counter": torch.zeros(1), "discriminator.weight": torch.zeros(1)}
    if prefix == "generator_ema.":
        state |= {"generator.fusion.bias": torch.ones(4)}
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    torch.nn.init.zeros_(other.reconstruction.fusion.weight)

    load_checkpoint(other, tmp_path / "own.pth", REGISTRY.find("basicvsr"))

    assert all(torch.equal(other.state_dict()[key], tensor) for key, tensor in ours.state_dict().items())


def test_a_checkpoint_of_a_network_without_published_names_must_bear_ours(tmp_path: Path) -> None:
    entry = REGISTRY.find("unet-2lev-1res-ws")
    assert not isinstance(entry.published, Published)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "own.pth")

    with pytest.raises(CheckpointError, match="is not a checkpoint of unet-2lev-1res-ws, and there is no rename table"):
        load_checkpoint(build("unet"), tmp_path / "own.pth", entry)
