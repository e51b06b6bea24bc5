"""The window task: any video network of the registry that takes a window of frames, or one frame, at once."""

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from models.registry import REGISTRY
from training.loop import Batch, Recipe
from training.pairs import Pairs, PairSettings
from training.video import psnr_luma, ssim_luma


class WindowTaskSettings(PairSettings):
    """The `[task]` table of a window recipe."""

    network: str = Field(description="name in the registry: basicvsr, residual-rvrt-small, sr-unet-x2, ...")
    noise_level: float = Field(default=10.0, ge=0, description="sigma of 255, for networks with a noise-level input")


class WindowTask:
    """Train a network of the registry on the clips of a folder; see `training.loop.Task`.

    Raises:
        UnknownNetworkError: There is no such network.
        ValueError: It takes no window, or the crop is not a multiple of its sides.
    """

    def __init__(self, recipe: Recipe, media: Path) -> None:
        self.settings = WindowTaskSettings.model_validate(recipe.task)
        entry = REGISTRY.find(self.settings.network)
        if entry.window is None:
            raise ValueError(f"{entry.name} takes no window of frames; use a recipe of kind video or speech")
        if self.settings.crop % entry.window.side_multiple:
            raise ValueError(
                f"got crops of {self.settings.crop} pixels; {entry.name} needs multiples of "
                f"{entry.window.side_multiple}"
            )
        self._window = entry.window
        self._size = recipe.batch
        torch.manual_seed(recipe.seed)
        self.model = entry.build()
        self._pairs = Pairs(self.settings, media, scale=entry.window.scale, multiple=max(8, entry.window.side_multiple))

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw `lq` and `gt` sequences."""
        lq, gt = self._pairs.draw(rng, self._size)
        return {"lq": lq, "gt": gt}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the mean Huber loss over all frames."""
        outputs = self._run(self.model, batch["lq"]).float()
        error = (outputs.detach() - batch["gt"]).square().mean()
        return functional.smooth_l1_loss(outputs, batch["gt"], beta=0.01), {"psnr": float(-10 * error.log10())}

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Measure the gain in PSNR-Y and SSIM over bicubic upscaling, or over the input, on held-out clips."""
        gains: dict[str, float] = {}
        similar: list[float] = []
        scale = self._window.scale
        for name, clip in self._pairs.held_out.items():
            lq, gt = (part[: self.settings.frames] for part in clip)
            with torch.no_grad():
                output = self._run(model, lq[None])[0].clamp(0, 1)
            baseline = lq
            if scale > 1:
                baseline = functional.interpolate(lq, scale_factor=scale, mode="bicubic", align_corners=False)
            baseline = baseline.clamp(0, 1)
            gains[name] = psnr_luma(output, gt) - psnr_luma(baseline, gt)
            similar.append(float(ssim_luma(output, gt) - ssim_luma(baseline, gt)))
        count = max(1, len(gains))
        return {**gains, "score": sum(gains.values()) / count, "ssim_gain": sum(similar) / count}

    def _run(self, model: torch.nn.Module, lq: torch.Tensor) -> torch.Tensor:
        """Map (batch, frames, 3, height, width) to the same with `scale` times the sides."""
        if self._window.channels == 4:
            level = torch.full_like(lq[:, :, :1], self.settings.noise_level / 255)
            lq = torch.cat((lq, level), dim=2)
        if self._window.frames > 1:
            made: torch.Tensor = model(lq)
            return made
        return torch.Tensor(model(lq.flatten(0, 1))).unflatten(0, lq.shape[:2])
