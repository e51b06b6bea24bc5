"""The video task learns from generated clips, and unrolls as the product runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from kernels.warp import warp as shipped_warp
from models.light_vsr import LightVsr, LightVsrConfig
from runtime.video.degradation import DESCRIPTORS
from training.clips import draw_sequence, load_clips
from training.loop import Recipe, load_fitting, load_recipe, read_log, train
from training.video import LUMA, VideoTask, psnr_luma, sequence_flow, ssim_luma, unroll, warp


def recipe(**changes):
    task = {"scale": 2, "channels": 16, "blocks": 1, "frames": 4, "crop": 32, "held_out": ["b.mp4"], "clip_frames": 12}
    values = {
        "name": "tiny",
        "iterations": 40,
        "batch": 2,
        "learning_rate": 3e-3,
        "warm_up": 2,
        "ema": 0.8,
        "validate_every": 40,
        "task": {**task, **changes},
    }
    return Recipe(**values)


def test_what_is_held_out_is_not_in_the_clips(media):
    every = load_clips(media, held_out=(), clip_side=300, photo_side=380, frames=12)
    most = load_clips(media, held_out=("b.mp4", "photo.png"), clip_side=300, photo_side=380, frames=12)

    assert len(every.clips) == 2 * len(most.clips)
    assert len(every.photos) == 1
    assert not most.photos


@pytest.mark.parametrize("photo_share", [0.0, 1.0])
def test_a_sequence_moves_and_depends_on_its_seed_alone(media, photo_share):
    clips = load_clips(media, held_out=(), clip_side=300, photo_side=380, frames=12)

    one, again, other = (
        draw_sequence(clips, np.random.default_rng(seed), frames=6, size=96, photo_share=photo_share)
        for seed in (1, 1, 2)
    )

    assert one.shape == (6, 3, 96, 96)
    assert 0 <= float(one.min()) <= float(one.max()) <= 1
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert float((one[0] - one[-1]).abs().mean()) > 0.005


def test_training_gains_over_bicubic_on_a_clip_it_never_saw(media, tmp_path):
    plan = recipe().model_copy(update={"iterations": 120, "validate_every": 120})

    train(VideoTask(plan, media), plan, tmp_path)

    score = [line["valid_score"] for line in read_log(tmp_path) if "valid_score" in line][-1]
    assert score > 0.1


def test_a_degraded_task_on_a_grid_gives_matching_shapes(media):
    task = VideoTask(recipe(scale=1, grid=2, degradation={"clean_share": 0.0}), media)

    batch = task.batch(np.random.default_rng(3))

    assert batch["lq"].shape == batch["gt"].shape == (2, 4, 3, 32, 32)
    assert batch["flow"].shape == (2, 3, 2, 16, 16)
    loss, _ = task.loss(batch)
    assert torch.isfinite(loss)


def test_the_warp_with_gradients_is_the_shipped_warp():
    rng = np.random.default_rng(8)
    state = rng.standard_normal((1, 5, 20, 30)).astype(np.float32)
    flow = rng.normal(0, 5, (1, 2, 20, 30)).astype(np.float32)

    found = warp(torch.from_numpy(state), torch.from_numpy(flow))

    np.testing.assert_allclose(found[0].numpy(), shipped_warp(state[0], flow[0]), atol=1e-4)


def test_unrolling_carries_the_state_from_frame_to_frame():
    torch.manual_seed(1)
    network = LightVsr(LightVsrConfig(2, 1, 16, 1))
    torch.nn.init.normal_(network.last.weight, std=0.1)
    frames = torch.rand(1, 3, 3, 32, 32)
    flow = sequence_flow(frames[0], 1)[None]

    together = unroll(network, frames, flow)
    alone = unroll(network, frames[:, 2:], flow[:, 2:])

    assert together.shape == (1, 3, 3, 64, 64)
    assert not torch.allclose(together[:, 2], alone[:, 0], atol=1e-4)


def test_psnr_of_a_known_error():
    one = torch.full((2, 3, 32, 32), 0.5)

    assert psnr_luma(one, one + 0.1) == pytest.approx(20 - 20 * np.log10(0.257 + 0.504 + 0.098), abs=1e-3)


def test_ssim_is_that_of_its_paper():
    generator = torch.Generator().manual_seed(1)
    gt = torch.rand(2, 3, 40, 52, generator=generator)
    lq = gt + 0.1 * torch.randn(gt.shape, generator=generator)
    weights = torch.tensor(LUMA)[:, None, None]

    found = ssim_luma(lq, gt)

    expected = []
    for one, other in zip(lq, gt, strict=True):
        _, plane = structural_similarity(
            *((value * weights).sum(0).numpy() for value in (one, other)),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        expected.append(plane[5:-5, 5:-5].mean())
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_weights_that_a_recipe_starts_from_are_of_its_network():
    folder = Path(__file__).parents[2]
    kept = torch.load(folder / "training/starts/real_x4.pt", weights_only=True)["ema"]
    task = load_recipe(folder / "training/recipes/real_x4.toml").task

    network = LightVsr(LightVsrConfig(task["scale"], 1, task["channels"], task["blocks"], False, DESCRIPTORS))

    assert load_fitting(network, kept) == []
