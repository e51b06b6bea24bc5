"""The layers of hybrid Demucs: strided levels, and their residual branches (section 3 of arXiv 2111.03600)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

DILATIONS = (1, 2)
HEADS = 4
DECAYS = 4


class EncoderLevel(nn.Module):
    """A strided convolution, a residual branch and a gate; over frequency (4-D) or time (3-D)."""

    def __init__(
        self,
        channels_in: int,
        width: int,
        *,
        kernel: int,
        stride: int,
        padding: int,
        over: str,
        norm: bool,
        deep: bool,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.bare = bare
        if over == "frequency":
            self.conv: nn.Module = nn.Conv2d(channels_in, width, (kernel, 1), (stride, 1), (padding, 0))
        else:
            self.conv = nn.Conv1d(channels_in, width, kernel, stride, padding)
        if bare:
            return
        self.norm1 = _norm(width, norm)
        self.branch = ResidualBranch(width, deep=deep)
        pointwise = nn.Conv2d if over == "frequency" else nn.Conv1d
        self.rewrite = pointwise(width, 2 * width, 1)
        self.norm2 = _norm(2 * width, norm)

    def forward(self, x: Tensor, joined: Tensor | None = None) -> Tensor:
        """Encode; `joined` is added by the other domain after the convolution."""
        y: Tensor = self.conv(x)
        if self.bare:
            return y
        if joined is not None:
            y = y + (joined.unsqueeze(2) if y.ndim == 4 else joined)
        y = functional.gelu(self.norm1(y))
        if y.ndim == 4:
            batch, channels, bands, frames = y.shape
            y = y.permute(0, 2, 1, 3).reshape(batch * bands, channels, frames)
            y = self.branch(y).view(batch, bands, channels, frames).permute(0, 2, 1, 3)
        else:
            y = self.branch(y)
        return functional.glu(self.norm2(self.rewrite(y)), dim=1)


class DecoderLevel(nn.Module):
    """A gate over the input and its skip, and a strided transposed convolution."""

    def __init__(
        self,
        width: int,
        channels_out: int,
        *,
        kernel: int,
        stride: int,
        padding: int,
        over: str,
        norm: bool,
        last: bool,
        bare: bool = False,
    ) -> None:
        super().__init__()
        self.last, self.bare = last, bare
        if over == "frequency":
            self.up: nn.Module = nn.ConvTranspose2d(width, channels_out, (kernel, 1), (stride, 1), (padding, 0))
            self.rewrite: nn.Module = nn.Conv2d(width, 2 * width, 3, padding=1)
        else:
            self.up = nn.ConvTranspose1d(width, channels_out, kernel, stride, padding)
            self.rewrite = nn.Conv1d(width, 2 * width, 3, padding=1)
        if bare:
            self.rewrite = nn.Identity()
        self.norm1 = nn.Identity() if bare else _norm(2 * width, norm)
        self.norm2 = _norm(channels_out, norm)

    def forward(self, x: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        """Decode; return the next level's input, and the features for the other domain."""
        if not self.bare:
            assert skip is not None
            x = functional.glu(self.norm1(self.rewrite(x + skip)), dim=1)
        y = self.norm2(self.up(x))
        return (y if self.last else functional.gelu(y)), x


class ResidualBranch(nn.Module):
    """Two dilated bottlenecks, in the deep levels with an LSTM and local attention, each added to its input."""

    def __init__(self, channels: int, *, deep: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        hidden = channels // 4
        for dilation in DILATIONS:
            layer = nn.Sequential(
                nn.Conv1d(channels, hidden, 3, dilation=dilation, padding=dilation),
                nn.GroupNorm(1, hidden),
                nn.GELU(),
            )
            if deep:
                layer.extend((Bidirectional(hidden), LocalAttention(hidden)))
            layer.extend((nn.Conv1d(hidden, 2 * channels, 1), nn.GroupNorm(1, 2 * channels), nn.GLU(dim=1)))
            layer.append(ChannelScale(channels))
            self.layers.append(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, frames) to the same shape."""
        for layer in self.layers:
            x = x + layer(x)
        return x


class ChannelScale(nn.Module):
    """A learnt gain per channel, near zero initially."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1), 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, frames) to the same shape."""
        return x * self.scale


class Bidirectional(nn.Module):
    """A two-layer LSTM in both directions, and the input added; over the whole segment, not in chunks of 200 frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=2, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, frames) to the same shape."""
        return x + self.linear(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)


class LocalAttention(nn.Module):
    """Attention over frames that a learnt penalty on distance keeps local; a frame does not attend to itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv1d(channels, channels, 1)
        self.key = nn.Conv1d(channels, channels, 1)
        self.content = nn.Conv1d(channels, channels, 1)
        self.decay = nn.Conv1d(channels, HEADS * DECAYS, 1)
        self.project = nn.Conv1d(channels, channels, 1)
        nn.init.normal_(self.decay.weight, std=0.01)
        assert self.decay.bias is not None
        nn.init.constant_(self.decay.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, frames) to the same shape."""
        batch, channels, frames = x.shape
        query, key, content = (
            part(x).view(batch, HEADS, channels // HEADS, frames) for part in (self.query, self.key, self.content)
        )
        logits = key.transpose(2, 3) @ query * (channels // HEADS) ** -0.5
        place = torch.arange(frames, device=x.device, dtype=x.dtype)
        distance = (place.unsqueeze(1) - place).abs()
        rate = torch.sigmoid(self.decay(x)).view(batch, HEADS, DECAYS, 1, frames) * 0.5
        slope = torch.arange(1, DECAYS + 1, device=x.device, dtype=x.dtype).view(1, 1, DECAYS, 1, 1)
        penalty = (rate * slope).sum(dim=2) * DECAYS**-0.5
        logits = logits - distance * penalty - 100.0 * torch.eye(frames, device=x.device, dtype=x.dtype)
        share = torch.softmax(logits, dim=2)
        return x + self.project((content @ share).reshape(batch, channels, frames))


def _norm(channels: int, wanted: bool) -> nn.Module:
    return nn.GroupNorm(4, channels) if wanted else nn.Identity()
