"""The speech task: a speech network learns to remove noise from mixtures of recordings."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.speech_network import Architecture, build_speech_network
from runtime.audio.denoiser import HOP_SAMPLES, LevelTracker
from training.loop import Batch, Recipe
from training.speech_data import SAMPLE_RATE, Samples, SpeechCorpus, load_corpora
from training.speech_loss import speech_loss
from training.speech_measures import held_out_mixtures, measure
from training.speech_mixing import draw_example

logger = logging.getLogger(__name__)


class SpeechSettings(BaseModel):
    """The `[task]` table of a speech recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture = "demucs"
    hidden: int = Field(gt=0)
    predicts: Literal["speech", "noise"] = Field(default="noise", description="output of a Demucs")
    gain_exponent: float = Field(default=1, gt=0, description="of a mask, applied on export; training uses 1")
    crop_seconds: tuple[float, ...] = Field(
        min_length=1, description="one is drawn per batch; longer crops give smaller batches"
    )
    snr_weight: float = Field(default=0, ge=0, description="of the error over the mixture, in bels")
    stft_weight: float = Field(default=0.5, ge=0, description="of the multi-resolution STFT loss")
    compressed_weight: float = Field(default=0, ge=0, description="of the compressed complex loss")
    held_out_speakers: int = Field(ge=1)
    held_out_noise: tuple[str, ...]
    validation_seconds: float = Field(default=4.0, gt=0)
    validation_per_noise: int = Field(default=4, gt=0)
    validation_snrs_db: tuple[float, ...] = (0.0, 5.0, 10.0, 15.0)


class SpeechTask:
    """Train a network to remove noise from speech; see `training.loop.Task`.

    Args:
        recipe: Of kind speech.
        kept: Recordings for training.
        held_out: Recordings for validation.
    """

    def __init__(self, recipe: Recipe, kept: SpeechCorpus, held_out: SpeechCorpus) -> None:
        self._settings = SpeechSettings.model_validate(recipe.task)
        self._batch = recipe.batch
        self._kept = kept
        self._mixtures = held_out_mixtures(
            held_out,
            seconds=self._settings.validation_seconds,
            snrs_db=self._settings.validation_snrs_db,
            per_noise=self._settings.validation_per_noise,
        )
        torch.manual_seed(recipe.seed)
        self._network = build_speech_network(
            self._settings.architecture,
            hidden=self._settings.hidden,
            predicts=self._settings.predicts,
        )
        self.model: torch.nn.Module = self._network

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw mixtures and targets, (batch, 1, samples), of the same total length each time."""
        crops = self._settings.crop_seconds
        seconds = crops[rng.integers(len(crops))]
        length = self._network.valid_length(int(seconds * SAMPLE_RATE))
        count = max(1, round(self._batch * min(crops) / seconds))
        examples = [draw_example(self._kept, rng, length) for _ in range(count)]
        return {
            "mixture": torch.from_numpy(np.stack([one.mixture for one in examples])[:, None]),
            "target": torch.from_numpy(np.stack([one.target for one in examples])[:, None]),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the network's output against the targets."""
        output = self.model(batch["mixture"])
        with torch.autocast("cpu", enabled=False):
            return speech_loss(
                output,
                batch["target"],
                batch["mixture"],
                snr_weight=self._settings.snr_weight,
                stft_weight=self._settings.stft_weight,
                compressed_weight=self._settings.compressed_weight,
            )

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Measure the held-out mixtures; the score is the mean PESQ."""
        after = measure(self._mixtures, lambda noisy: denoise_whole(model, noisy))
        return {"score": after["pesq"], **after}

    def validate_noisy(self) -> dict[str, float]:
        """Measure the unprocessed held-out mixtures."""
        return measure(self._mixtures, lambda noisy: noisy)


def open_speech_task(recipe: Recipe, media: Path) -> SpeechTask:
    """Read the recordings of a folder with `speech/` and `noise/`, and log the measures of the noisy mixtures.

    Raises:
        FileNotFoundError: There are too few recordings, or a held-out noise does not exist.
    """
    settings = SpeechSettings.model_validate(recipe.task)
    kept, held_out = load_corpora(
        media, held_out_noise=settings.held_out_noise, held_out_speakers=settings.held_out_speakers
    )
    task = SpeechTask(recipe, kept, held_out)
    logger.info("noisy held-out mixtures: %s", task.validate_noisy())
    return task


@torch.inference_mode()
def denoise_whole(model: torch.nn.Module, noisy: Samples) -> Samples:
    """Run a network over a whole 16 kHz signal at its tracked level, as the pipeline does block by block."""
    padded = np.pad(noisy, (0, -len(noisy) % HOP_SAMPLES))
    level = LevelTracker(SAMPLE_RATE).push(padded)
    output = model(torch.from_numpy(padded / level)[None, None])[0, 0].numpy()
    return (output * level)[: len(noisy)]
