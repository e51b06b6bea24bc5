"""Guided deformable attention: from a clip to the next one, at positions given by flow and offsets (section 3.3).

The published operator is a CUDA extension. Here each group of channels is sampled by GridSample (or plain gathers), and
the rest is sums and a softmax, so that every engine can run it.
"""

import torch
from torch import Tensor, nn

from models.flow_warp import gather_at, pixel_grid, sample_at
from models.rvrt.attention import Perceptron
from models.rvrt.configs import RvrtConfig

CLIP = 2
"""Frames of a clip, in every published network."""


class GuidedDeformableAttention(nn.Module):
    """Sample the previous clip at the positions of this clip's content.

    Deviation from the published layout: offsets are (x, y), like flows; `models.published` swaps the channels of the
    last offset convolution. The published (y, x) needs a flip of channels in the graph, which TensorRT for RTX refuses
    together with a flow network.
    """

    def __init__(self, config: RvrtConfig) -> None:
        super().__init__()
        self.config = config
        width, hidden = config.embed, config.offset_width
        taps = config.deformable_window**2
        self.offsets = nn.Sequential(nn.Conv2d(width * (1 + CLIP) + 2 * CLIP, hidden, 1), nn.LeakyReLU(0.1))
        for _ in range(4):
            self.offsets.extend((nn.Conv2d(hidden, hidden, 3, padding=1), nn.LeakyReLU(0.1)))
        self.offsets.append(nn.Conv2d(hidden, CLIP * config.deformable_groups * taps * 2, 1))
        self.query = nn.Linear(width, 2 * width)
        self.key = nn.Linear(width, 2 * width)
        self.value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, width)
        self.mlp = Perceptron(width, 2 * width)
        last = self.offsets[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, warped: tuple[Tensor, Tensor], flows: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Align the features of the previous clip to this clip.

        Args:
            query: (batch, 2, channels, height, width), this clip, from the previous branch.
            key: The previous clip, likewise.
            value: The previous clip as propagated so far, to be aligned.
            warped: `value` warped by each of `flows`.
            flows: To the frame of the previous clip at the same index, and to the other one, (batch, 2, 2, height,
                width).

        Returns:
            The aligned features, and both flows refined by the mean of the offsets.
        """
        batch, _, _, height, width = query.shape
        seen = torch.cat((query, *warped, *flows), dim=2).flatten(0, 1)
        taps = self.config.deformable_groups * self.config.deformable_window**2
        offsets = self.config.max_residue * torch.tanh(self.offsets(seen).float())
        offsets = offsets.view(batch * CLIP, CLIP, taps, 2, height, width)
        moved = [offsets[:, clip] + flows[clip].flatten(0, 1).float().unsqueeze(1) for clip in range(CLIP)]
        aligned = self._attend(query, key, value, moved)
        refined = [places.mean(dim=1).view(batch, CLIP, 2, height, width).to(query.dtype) for places in moved]
        return aligned, (refined[0], refined[1])

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, moved: list[Tensor]) -> Tensor:
        batch, _, _, height, width = query.shape
        config = self.config
        frames, channels, heads = batch * CLIP, 2 * config.embed, config.deformable_heads
        taps = config.deformable_window**2
        q = _channels_last(self.query, query).view(frames, heads, channels // heads, 1, height * width)
        pair = torch.cat((_channels_last(self.key, key), _channels_last(self.value, value)), dim=1)
        pair = pair.view(batch, CLIP, 2 * channels, height, width)
        read = [self._read(pair if clip == 0 else torch.flip(pair, (1,)), places) for clip, places in enumerate(moved)]
        both = torch.cat(read, dim=2)
        keys, values = both[:, :channels], both[:, channels:]
        shape = (frames, heads, channels // heads, CLIP * taps, height * width)
        logits = (q * (channels // heads) ** -0.5 * keys.reshape(shape)).sum(dim=2, keepdim=True)
        share = torch.softmax(logits.float(), dim=3).to(values.dtype)
        mixed = (share * values.reshape(shape)).sum(dim=3).view(frames, channels, height, width)
        result = self.project(mixed.permute(0, 2, 3, 1))
        result = result + self.mlp(result)
        return result.permute(0, 3, 1, 2).view(batch, CLIP, config.embed, height, width)

    def _read(self, pair: Tensor, places: Tensor) -> Tensor:
        """Sample keys and values, (frames, channels, taps, height, width), per group of channels."""
        groups, side = self.config.deformable_groups, self.config.deformable_window
        height, width = pair.shape[-2:]
        frames, channels = pair.shape[0] * CLIP, pair.shape[2]
        apart = places.view(frames * groups, side * side, 2, height, width).permute(0, 1, 3, 4, 2)
        positions = apart + _taps(side, places) + pixel_grid(places).unsqueeze(1)
        positions = positions.reshape(frames * groups, side * side * height, width, 2)
        planes = pair.reshape(frames * groups, channels // groups, height, width)
        read = sample_at(planes, positions) if self.config.sampling == "grid_sample" else gather_at(planes, positions)
        return read.reshape(frames, channels, side * side, height, width)


def _channels_last(linear: nn.Linear, x: Tensor) -> Tensor:
    """Map the channels of (batch, frames, channels, height, width): (batch * frames, ...)."""
    mapped: Tensor = linear(x.flatten(0, 1).permute(0, 2, 3, 1))
    return mapped.permute(0, 3, 1, 2)


def _taps(side: int, like: Tensor) -> Tensor:
    """Return the window's positions around its centre in raster order, (1, taps, 1, 1, 2): x, then y."""
    reach = torch.arange(side, device=like.device, dtype=like.dtype) - side // 2
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), dim=-1).view(1, side * side, 1, 1, 2)
