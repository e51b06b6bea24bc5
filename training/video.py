"""The video task: unroll a recurrent network over short sequences and minimise a robust loss."""

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from kernels.flow import estimate_flow
from models.light_vsr import LightVsr, LightVsrConfig
from runtime.video.degradation import DESCRIPTORS, describe_degradation
from training.loop import Batch, Recipe
from training.pairs import Pairs, PairSettings

LUMA = (0.257, 0.504, 0.098)
"""BT.601 luma as PSNR-Y is defined in the literature (without the offset)."""


class VideoTaskSettings(PairSettings):
    """The `[task]` table of a video recipe."""

    scale: int
    grid: int = 1
    channels: int = 32
    blocks: int = 4
    high_pass: bool = False
    descriptors: bool = Field(default=False, description="tell the network how degraded the sequence is")
    ssim_weight: float = Field(default=0.0, ge=0, description="weight of 1 - SSIM of luma, added to the Huber loss")


class VideoTask:
    """Train `LightVsr` on the clips of a folder; see `training.loop.Task`."""

    def __init__(self, recipe: Recipe, media: Path) -> None:
        self.settings = VideoTaskSettings.model_validate(recipe.task)
        settings = self.settings
        self.size = recipe.batch
        self.model = LightVsr(
            LightVsrConfig(
                settings.scale,
                settings.grid,
                settings.channels,
                settings.blocks,
                settings.high_pass,
                DESCRIPTORS if settings.descriptors else 0,
            )
        ).to(memory_format=torch.channels_last)
        self._pairs = Pairs(settings, media, scale=settings.scale, multiple=settings.grid)
        self.held_out = self._pairs.held_out

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw `lq` and `gt` sequences, and the flow between the `lq` frames."""
        lq, gt = self._pairs.draw(rng, self.size)
        flow = torch.stack([sequence_flow(sequence, self.settings.grid) for sequence in lq])
        return {"lq": lq, "gt": gt, "flow": flow}

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the mean Huber loss over all frames (close to Charbonnier, and one fused operation)."""
        outputs = unroll(self.model, batch["lq"], batch["flow"])
        loss = functional.smooth_l1_loss(outputs, batch["gt"], beta=0.01)
        if self.settings.ssim_weight:
            loss = loss + self.settings.ssim_weight * (1 - ssim_luma(outputs[:, 1::3], batch["gt"][:, 1::3]))
        last = outputs.detach()[:, -1] - batch["gt"][:, -1]
        return loss, {"psnr": float(-10 * last.square().mean().log10())}

    def validate(self, model: torch.nn.Module) -> dict[str, float]:
        """Measure the gain in PSNR-Y and SSIM over bicubic upscaling, or over the input, on held-out clips."""
        gains: dict[str, float] = {}
        ssim_gains: list[float] = []
        for name, (lq, gt) in self.held_out.items():
            with torch.no_grad():
                flow = sequence_flow(lq, self.settings.grid)[None]
                output = unroll(model, lq[None], flow)[0].clamp(0, 1)
                baseline = model.skip(lq).clamp(0, 1)
            gains[name] = psnr_luma(output, gt) - psnr_luma(baseline, gt)
            ssim_gains.append(float(ssim_luma(output, gt) - ssim_luma(baseline, gt)))
        means = {"score": sum(gains.values()) / len(gains), "ssim_gain": sum(ssim_gains) / len(ssim_gains)}
        return {**gains, **means}


def unroll(model: torch.nn.Module, lq: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Run the network over sequences, with its state warped from frame to frame.

    Args:
        model: A `LightVsr`.
        lq: (batch, frames, 3, height, width).
        flow: (batch, frames - 1, 2, grid height, grid width), from `sequence_flow`.

    Returns:
        (batch, frames, 3, scale height, scale width).
    """
    batch, frames, _, height, width = lq.shape
    config = model.config
    degradation = describe_sequences(lq) if config.descriptors else None
    state = lq.new_zeros(batch, config.state_channels, height // config.grid, width // config.grid)
    outputs = []
    for index in range(frames):
        if index:
            state = warp(state, flow[:, index - 1])
        frame = lq[:, index].contiguous(memory_format=torch.channels_last)
        output, state = model(frame, state, degradation=degradation)
        state = state.float()
        outputs.append(output.float())
    return torch.stack(outputs, dim=1)


def describe_sequences(sequences: torch.Tensor) -> torch.Tensor:
    """Return the mean descriptor of each of (batch, frames, 3, height, width) sequences, (batch, descriptors)."""
    luma = (sequences * torch.tensor(_FLOW_LUMA)[:, None, None]).sum(2).numpy()
    described = [np.mean([describe_degradation(frame) for frame in sequence], axis=0) for sequence in luma]
    return torch.from_numpy(np.stack(described))


def warp(state: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Warp a state as `kernels.warp` does, with gradients to the state."""
    height, width = flow.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    column = (x + flow[:, 0]) * (2 / max(1, width - 1)) - 1
    row = (y + flow[:, 1]) * (2 / max(1, height - 1)) - 1
    return functional.grid_sample(state, torch.stack((column, row), dim=-1), padding_mode="border", align_corners=True)


def sequence_flow(sequence: torch.Tensor, grid: int) -> torch.Tensor:
    """Return the flow from each frame to the one before it, on the network's grid.

    Args:
        sequence: (frames, 3, height, width) in [0, 1].
        grid: Divisor of the network's grid.

    Returns:
        (frames - 1, 2, height / grid, width / grid).
    """
    luma = (sequence * torch.tensor(_FLOW_LUMA)[:, None, None]).sum(1)
    if grid > 1:
        luma = functional.avg_pool2d(luma[:, None], grid)[:, 0]
    planes = luma.numpy()
    return torch.from_numpy(np.stack([estimate_flow(planes[k], planes[k - 1]) for k in range(1, len(planes))]))


_FLOW_LUMA = (0.299, 0.587, 0.114)


def psnr_luma(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return PSNR-Y in dB, at most 50, of (frames, 3, height, width) sequences in [0, 1], without 8 border pixels."""
    weights = torch.tensor(LUMA)[:, None, None]
    error = ((one - other) * weights).sum(1)[:, 8:-8, 8:-8]
    return float(-10 * error.square().mean((1, 2)).clamp_min(1e-5).log10().mean())


def ssim_luma(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the mean SSIM of luma of sequences (..., 3, height, width) in [0, 1], with gradients.

    Wang et al. 2004: a Gaussian window of 11 pixels and sigma 1.5; inner pixels only. The window is a product with a
    banded matrix from each side: a convolution of one channel, and its gradient, take ten times as long on a CPU.
    """
    weights = torch.tensor(LUMA)[:, None, None]
    x, y = ((value.float() * weights).sum(-3) for value in (one, other))
    with torch.autocast("cpu", enabled=False):
        down, across = (_window_matrix(side) for side in x.shape[-2:])
        mx, my, xx, yy, xy = (down @ plane @ across.T for plane in (x, y, x * x, y * y, x * y))
    mxx, myy, mxy = mx * mx, my * my, mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mxy + c1) * (2 * (xy - mxy) + c2) / ((mxx + myy + c1) * (xx - mxx + yy - myy + c2))
    return value.mean()


def _window_matrix(side: int) -> torch.Tensor:
    """Return the (side - 10, side) matrix whose rows are the Gaussian window at each inner position."""
    offset = torch.arange(side)[None] - torch.arange(side - 10)[:, None] - 5.0
    taps = torch.where(offset.abs() <= 5, torch.exp(-(offset**2) / (2 * 1.5**2)), 0.0)
    return taps / taps.sum(1, keepdim=True)
