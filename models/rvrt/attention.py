"""Attention in windows of a clip, and groups of such layers (section 3.2; Swin, arXiv 2103.14030).

Inside a group everything is (clips, time, height, width, channels). A window spans a whole clip in time, so windows
shift only in height and width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -100.0
"""Added to the logits of positions that are adjacent only through the shift of windows."""


class TransformerGroup(nn.Module):
    """A convolution to `width`, and transformer blocks over windows of `frames` frames."""

    def __init__(
        self,
        channels_in: int,
        width: int,
        *,
        frames: int,
        window: int,
        heads: int,
        blocks: int,
        depth: int,
        mlp_ratio: int,
        groups: int,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(channels_in, width, 3, padding=1, groups=groups)
        self.norm_in = Norm(width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, frames=frames, window=window, heads=heads, depth=depth, mlp_ratio=mlp_ratio)
            for _ in range(blocks)
        )
        self.norm_out = Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (frames, channels_in, height, width), `frames` of each clip in a row, to (frames, width, ...)."""
        x = self.conv(x).permute(0, 2, 3, 1)
        x = self.norm_in(x).unflatten(0, (-1, self.frames))
        for block in self.blocks:
            x = block(x)
        return self.norm_out(x.flatten(0, 1)).permute(0, 3, 1, 2)


class TransformerBlock(nn.Module):
    """Alternating layers with and without shifted windows, a linear map, and the input added."""

    def __init__(self, width: int, *, frames: int, window: int, heads: int, depth: int, mlp_ratio: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width, frames, window, heads, mlp_ratio, shifted=index % 2 == 1) for index in range(depth)
        )
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (clips, frames, height, width, channels) to the same shape."""
        y = x
        for layer in self.layers:
            y = layer(y)
        return x + self.linear(y)


class TransformerLayer(nn.Module):
    """Window attention and a perceptron, each after a norm and added to its input."""

    def __init__(self, width: int, frames: int, window: int, heads: int, mlp_ratio: int, *, shifted: bool) -> None:
        super().__init__()
        self.shifted = shifted
        self.norm1 = Norm(width)
        self.attention = WindowAttention(width, frames, window, heads)
        self.norm2 = Norm(width)
        self.mlp = Perceptron(width, mlp_ratio * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (clips, frames, height, width, channels) to the same shape."""
        x = x + self.attention(self.norm1(x), shifted=self.shifted)
        return x + self.mlp(self.norm2(x))


class WindowAttention(nn.Module):
    """Attention of every position of a window to every other, with a learnt relative position bias."""

    def __init__(self, width: int, frames: int, window: int, heads: int) -> None:
        super().__init__()
        self.frames, self.window, self.heads = frames, window, heads
        self.bias_table = nn.Parameter(torch.zeros((2 * frames - 1) * (2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("bias_index", relative_index(frames, window), persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, *, shifted: bool) -> Tensor:
        """Map (clips, frames, height, width, channels) to the same shape.

        A side up to one window is one window and is not shifted; other sides are padded with zeros to whole windows.
        """
        clips, frames, height, width, channels = x.shape
        window = self.window
        shift_y = window // 2 if shifted and height > window else 0
        shift_x = window // 2 if shifted and width > window else 0
        x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        if shift_y or shift_x:
            x = torch.roll(x, (-shift_y, -shift_x), dims=(2, 3))
        rows, columns = x.shape[2] // window, x.shape[3] // window
        x = x.reshape(clips * frames * rows, window, columns, window * channels).transpose(1, 2)
        x = x.reshape(clips, frames, rows * columns, window * window * channels).transpose(1, 2)
        x = self.attend(
            x.reshape(clips * rows * columns, frames * window * window, channels),
            shift_mask(frames, (rows, columns), window, (shift_y, shift_x), x) if shift_y or shift_x else None,
        )
        x = x.reshape(clips, rows * columns, frames, window * window * channels).transpose(1, 2)
        x = x.reshape(clips * frames * rows, columns, window, window * channels).transpose(1, 2)
        x = x.reshape(clips, frames, rows * window, columns * window, channels)
        if shift_y or shift_x:
            x = torch.roll(x, (shift_y, shift_x), dims=(2, 3))
        return x[:, :, :height, :width]

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within windows: (windows, positions, channels); the mask is (windows of a clip, positions, ...)."""
        windows, positions, channels = x.shape
        qkv = self.qkv(x).reshape(windows, positions, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        logits = (query * (channels // self.heads) ** -0.5) @ key.transpose(-2, -1)
        bias = self.bias_table[self.bias_index.flatten()].view(positions, positions, self.heads).permute(2, 0, 1)
        logits = logits + bias
        if mask is not None:
            apart = logits.view(-1, mask.shape[0], self.heads, positions, positions) + mask.unsqueeze(1)
            logits = apart.view(windows, self.heads, positions, positions)
        mixed = torch.softmax(logits.float(), dim=-1).to(value.dtype) @ value
        projected: Tensor = self.project(mixed.transpose(1, 2).reshape(windows, positions, channels))
        return projected


class Norm(nn.LayerNorm):
    """Normalisation over channels, always in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., channels) to the same shape."""
        if x.dtype == torch.float32:
            return super().forward(x)
        assert self.weight is not None
        weight, bias = self.weight.float(), self.bias.float()
        return functional.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Perceptron(nn.Module):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape."""
        mapped: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return mapped


def relative_index(frames: int, window: int) -> Tensor:
    """Return the row of the bias table for each pair of positions, (positions, positions)."""
    axes = torch.meshgrid(torch.arange(frames), torch.arange(window), torch.arange(window), indexing="ij")
    positions = torch.stack(axes).flatten(1)
    apart = positions[:, :, None] - positions[:, None, :]
    span = 2 * window - 1
    return ((apart[0] + frames - 1) * span + apart[1] + window - 1) * span + apart[2] + window - 1


def shift_mask(frames: int, windows: tuple[int, int], window: int, shift: tuple[int, int], like: Tensor) -> Tensor:
    """Return the mask that separates opposite borders in shifted windows: (windows, positions, positions)."""
    rows = _regions(windows[0] * window, window, shift[0], like)
    columns = _regions(windows[1] * window, window, shift[1], like)
    region = rows.view(windows[0], 1, window, 1) * 3 + columns.view(1, windows[1], 1, window)
    region = region.reshape(windows[0] * windows[1], 1, window * window).expand(-1, frames, -1).flatten(1)
    return (region.unsqueeze(1) != region.unsqueeze(2)).to(like.dtype) * MASKED


def _regions(length: int, window: int, shift: int, like: Tensor) -> Tensor:
    """Number the parts of one axis after its roll: the body, the last window's own part, the part rolled in."""
    position = torch.arange(length, device=like.device)
    if not shift:
        return torch.zeros_like(position)
    return (position >= length - window).to(position.dtype) + (position >= length - shift).to(position.dtype)
