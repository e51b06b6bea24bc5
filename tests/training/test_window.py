"""The window task trains any registered network that takes a window of frames."""

import numpy as np
import pytest
import torch

from training.loop import Recipe, load_recipe, read_log, train
from training.window import WindowTask


def recipe(network, **changes):
    task = {"network": network, "frames": 4, "crop": 16, "held_out": ["b.mp4"], "clip_frames": 12, "held_out_side": 64}
    values = {"name": "short", "iterations": 12, "batch": 1, "learning_rate": 1e-3, "warm_up": 2, "ema": 0.5}
    return Recipe(**values, validate_every=12, task={**task, **changes})


def test_a_window_network_learns_and_is_measured_on_a_clip_it_never_saw(media, tmp_path):
    plan = recipe("residual-rvrt-tiny")
    task = WindowTask(plan, media)
    batch = task.batch(np.random.default_rng(1))
    before = task.loss(batch)[0].item()

    train(task, plan, tmp_path)

    assert task.loss(batch)[0].item() < before
    (figures,) = (line for line in read_log(tmp_path) if "valid_score" in line)
    assert figures["valid_score"] == pytest.approx(figures["valid_b"])
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert kept["ema"].keys() == task.model.state_dict().keys()


def test_one_frame_at_a_time_and_its_upscaling(media):
    task = WindowTask(recipe("sr-unet-x2", frames=1), media)

    batch = task.batch(np.random.default_rng(2))

    assert (batch["lq"].shape, batch["gt"].shape) == ((1, 1, 3, 16, 16), (1, 1, 3, 32, 32))
    assert torch.isfinite(task.loss(batch)[0])


def test_a_network_with_a_noise_input_gets_the_level(media):
    task = WindowTask(recipe("residual-rvrt-006", degradation={"clean_share": 0.0}), media)
    seen = []
    task.model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))

    task.loss(task.batch(np.random.default_rng(3)))

    assert seen[0].shape == (1, 4, 4, 16, 16)
    assert (seen[0][:, :, 3] == 10 / 255).all()


def test_what_does_not_fit_is_refused(media):
    with pytest.raises(ValueError, match="got crops of 20 pixels; unet-4lev-1res-ws needs multiples of 32"):
        WindowTask(recipe("unet-4lev-1res-ws", crop=20), media)
    with pytest.raises(ValueError, match="light-x4 takes no window"):
        WindowTask(recipe("light-x4"), media)


def test_every_smoke_test_recipe_can_be_read(pytestconfig):
    paths = sorted((pytestconfig.rootpath / "training" / "recipes" / "smoke_test").glob("*.toml"))

    assert len(paths) >= 6
    assert all(load_recipe(path).task["network"].replace("-", "_") == path.stem for path in paths)
