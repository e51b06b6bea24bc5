from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from training.loop import Recipe, load_recipe, train
from training.speech import SpeechSettings, SpeechTask, denoise_whole, open_speech_task
from training.speech_data import SAMPLE_RATE, SpeechCorpus, load_corpora

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """Five voices of gliding harmonics and three noises."""
    folder = tmp_path_factory.mktemp("media")
    rng = np.random.default_rng(0)
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    for name in ("speech/a", "noise/b"):
        (folder / name).mkdir(parents=True)
    for index in range(5):
        phase = np.cumsum(2 * np.pi * (110 + 20 * index + 30 * np.sin(4 * time)) / SAMPLE_RATE)
        voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.maximum(0, np.sin(9 * time))
        soundfile.write(folder / f"speech/a/{index}.flac", 0.2 * voice, SAMPLE_RATE)
    for name in ("hiss", "rumble", "held"):
        soundfile.write(folder / f"noise/b/{name}.wav", 0.1 * rng.standard_normal(40_000), SAMPLE_RATE)
    return folder


@pytest.fixture
def corpora(media: Path) -> tuple[SpeechCorpus, SpeechCorpus]:
    return load_corpora(media, held_out_noise=["b/held"], held_out_speakers=2)


def small_recipe(**task: object) -> Recipe:
    settings = {
        "hidden": 2,
        "crop_seconds": [0.3],
        "held_out_speakers": 2,
        "held_out_noise": ["b/held"],
        "validation_seconds": 1.0,
        "validation_per_noise": 1,
        "compressed_weight": 1.0,
    }
    return Recipe.model_validate(
        {
            "name": "small",
            "iterations": 3,
            "batch": 2,
            "learning_rate": 1e-3,
            "validate_every": 3,
            "checkpoint_every": 3,
            "task": settings | task,
        }
    )


def test_what_is_held_out_is_in_no_training_example(corpora) -> None:
    kept, held_out = corpora
    assert len(kept.speech) == 3
    assert len(held_out.speech) == 2
    assert not {one.name for one in kept.speech} & {one.name for one in held_out.speech}
    assert [one.name for one in held_out.noise] == ["b/held"]
    assert [one.name for one in kept.noise] == ["b/hiss", "b/rumble"]


def test_a_held_out_noise_that_does_not_exist_is_refused(media: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing held-out noises: \['b/none'\]"):
        load_corpora(media, held_out_noise=["b/none"], held_out_speakers=1)


def test_a_batch_depends_on_its_seed_alone(corpora) -> None:
    task = SpeechTask(small_recipe(), *corpora)
    one, same, other = (task.batch(np.random.default_rng(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(one, same)
    assert not torch.equal(one["mixture"], other["mixture"])


def test_longer_crops_make_smaller_batches(corpora) -> None:
    task = SpeechTask(small_recipe(crop_seconds=[0.2, 0.4]), *corpora)
    shapes = {tuple(task.batch(np.random.default_rng(seed))["mixture"].shape) for seed in range(8)}
    assert {shape[0] for shape in shapes} == {1, 2}
    assert len({shape[2] for shape in shapes}) == 2


def test_the_loss_learns_one_batch_by_heart(corpora) -> None:
    torch.manual_seed(0)
    task = SpeechTask(small_recipe(hidden=8, stft_weight=0.2, snr_weight=0.2), *corpora)
    batch = task.batch(np.random.default_rng(0))
    optimiser = torch.optim.Adam(task.model.parameters(), lr=5e-3)
    losses = []
    for _ in range(30):
        loss, figures = task.loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0], losses
    assert figures.keys() == {"l1", "snr", "convergence", "magnitude", "compressed"}


def test_a_fresh_network_that_predicts_noise_changes_nothing(corpora) -> None:
    task = SpeechTask(small_recipe(), *corpora)
    noisy = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 0.1
    np.testing.assert_allclose(denoise_whole(task.model, noisy), noisy, atol=1e-6)


@pytest.mark.parametrize(("name", "hidden"), [("speech_demucs", 24), ("speech_mask", 256)])
def test_the_shipped_recipes_are_valid(name: str, hidden: int) -> None:
    recipe = load_recipe(RECIPES / f"{name}.toml")
    assert SpeechSettings.model_validate(recipe.task).hidden == hidden
    assert recipe.start_from is None or Path(recipe.start_from).parts[0] == "zoo"


def test_a_task_is_opened_from_a_recipe_and_a_folder(media: Path) -> None:
    task = open_speech_task(small_recipe(), media)

    assert set(task.batch(np.random.default_rng(0))) == {"mixture", "target"}


def test_all_recipes_hold_out_the_same() -> None:
    held_out = {
        (settings.held_out_speakers, settings.held_out_noise)
        for path in RECIPES.glob("speech_*.toml")
        for settings in [SpeechSettings.model_validate(load_recipe(path).task)]
    }
    assert len(held_out) == 1


@pytest.mark.parametrize("architecture", ["demucs", "mask"])
def test_every_architecture_trains(corpora, tmp_path: Path, architecture: str) -> None:
    recipe = small_recipe(architecture=architecture)
    train(SpeechTask(recipe, *corpora), recipe, tmp_path)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["iteration"] == 3
