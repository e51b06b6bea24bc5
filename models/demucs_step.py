"""Causal Demucs block by block: (x, state) to (y, state), with all memory in named tensors.

The weights are those of `models.demucs`, nothing is computed twice, and within a stream the outputs equal the
whole-file network's. The published streamer instead recomputes the past of each frame.

Sizes below are for the published kernel 8, stride 4, resampling 4 and depth 5: one frame is 256 samples at 16 kHz.

| state | shape | holds |
|---|---|---|
| up1, up2 | (B, 1, 111) | past of the two interpolation filters |
| xin | (B, 1, 4) | overlap of the first convolution |
| skip1..4 | (B, H, 340), (B, 2H, 84), (B, 4H, 20), (B, 8H, 4) | features that wait for the decoder; the last 4 columns are also the overlap of the next convolution |
| h, c | (2, B, 16H) | LSTM |
| tail5..1 | (B, 8H, 4), (B, 4H, 4), (B, 2H, 4), (B, H, 4), (B, 1, 4) | overlap of the transposed convolutions, before the bias |
| down1, down2 | (B, 2, 112), (B, 2, 111) | past of both phases of the decimation filters |
"""  # noqa: E501  a table's rows are not broken

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.demucs import SINC_ZEROS, Demucs, DemucsConfig

TAPS = 2 * SINC_ZEROS
DOWN_SPARES = (1, 0)
"""Extra samples in each decimator's past: an odd delay in the first would swap the phases of the second."""


@dataclass(frozen=True, slots=True)
class StepTiming:
    """How to start and trim a stream, in samples at the network's rate.

    Push `lead_in` zeros, then the signal; after exactly `reset_after_frames` frames set the states of
    `reset_states` to zero. Output sample j then belongs to input sample j - (lead_in + delay).
    """

    frame: int
    lead_in: int
    reset_after_frames: int
    delay: int


def step_timing(config: DemucsConfig) -> StepTiming:
    """Compute a network's delays; the frame grid is aligned to the first sample as for whole files.

    Raises:
        ValueError: The network differs from the published geometry in more than its width and depth.
    """
    if (config.kernel_size, config.stride, config.resample) != (8, 4, 4):
        raise ValueError(
            f"got kernel {config.kernel_size}, stride {config.stride}, resample {config.resample}; "
            "streaming supports only 8, 4 and 4"
        )
    up_delay = SINC_ZEROS + SINC_ZEROS // 2
    down_delay = SINC_ZEROS // 2 + SINC_ZEROS - 1
    first = reset_after = 2
    for _ in range(config.depth):
        first = config.stride * first - (config.kernel_size - config.stride)
    lead_in = first // config.resample - up_delay
    frame = config.stride**config.depth // config.resample
    return StepTiming(frame, lead_in, reset_after, reset_after * frame - lead_in + down_delay)


def state_shapes(config: DemucsConfig, *, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the shape of every state, in the order of the step's inputs and outputs."""
    overlap = config.kernel_size - config.stride
    shapes: dict[str, tuple[int, ...]] = {
        "up1": (batch, 1, TAPS - 1),
        "up2": (batch, 1, TAPS - 1),
        "xin": (batch, 1, overlap),
    }
    for level in range(1, config.depth):
        shapes[f"skip{level}"] = (batch, config.channels(level), _skip_delay(config, level))
    for name in ("h", "c"):
        shapes[name] = (config.lstm_layers, batch, config.channels(config.depth))
    for level in range(config.depth, 0, -1):
        shapes[f"tail{level}"] = (batch, config.channels(level - 1) if level > 1 else 1, overlap)
    for index, spare in enumerate(DOWN_SPARES, start=1):
        shapes[f"down{index}"] = (batch, 2, TAPS - 1 + spare)
    return shapes


def reset_states(config: DemucsConfig) -> tuple[str, ...]:
    """Return the names of states that the lead-in must not change: those of LSTM and transposed convolutions."""
    return ("h", "c", *(f"tail{level}" for level in range(config.depth, 0, -1)))


class DemucsStep(nn.Module):
    """One step of a stream; the caller normalises the level."""

    def __init__(self, network: Demucs) -> None:
        super().__init__()
        step_timing(network.config)
        self.network = network
        self.names = tuple(state_shapes(network.config))

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Denoise a block.

        Args:
            x: (batch, 1, samples), a multiple of the frame's samples, at unit level.
            states: As `state_shapes`; all zero at first.

        Returns:
            The output block, of the same shape, and the next states.
        """
        state = dict(zip(self.names, states, strict=True))
        y = self._run(x, state)
        return (y, *(state[name] for name in self.names))

    def _run(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        config, sinc = self.network.config, self.network.sinc
        x, state["up1"] = _upsample(x, state["up1"], sinc)
        x, state["up2"] = _upsample(x, state["up2"], sinc)
        overlap, delayed = state["xin"], []
        state["xin"] = x[..., -overlap.shape[-1] :]
        for level, encode in enumerate(self.network.encoder, start=1):
            x = encode(torch.cat([overlap, x], dim=-1))
            if level < config.depth:
                line = state[f"skip{level}"]
                overlap = line[..., -overlap.shape[-1] :]
                skip, state[f"skip{level}"] = _delay(x, line)
                delayed.append(skip)
            else:
                delayed.append(x)
        x = self._recur(x, state)
        for level, decode in zip(range(config.depth, 0, -1), self.network.decoder, strict=True):
            x, state[f"tail{level}"] = _decode(x + delayed.pop(), state[f"tail{level}"], decode)
        for index, spare in enumerate(DOWN_SPARES, start=1):
            x, state[f"down{index}"] = _downsample(x, state[f"down{index}"], sinc, spare=spare)
        return x

    def _recur(self, x: Tensor, state: dict[str, Tensor]) -> Tensor:
        sequence, (state["h"], state["c"]) = self.network.lstm.lstm(x.permute(2, 0, 1), (state["h"], state["c"]))
        return sequence.permute(1, 2, 0)


def _skip_delay(config: DemucsConfig, level: int) -> int:
    delay = 0
    for _ in range(config.depth - level):
        delay = config.kernel_size - config.stride + config.stride * delay
    return delay


def _delay(x: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """Push a block through a delay line: the delayed block, of the same length, and the next line."""
    length = line.shape[-1]
    joined = torch.cat([line, x], dim=-1)
    return joined[..., :-length], joined[..., -length:]


def _upsample(x: Tensor, history: Tensor, sinc: Tensor) -> tuple[Tensor, Tensor]:
    """Double the rate with a delay of SINC_ZEROS samples of the lower rate."""
    joined = torch.cat([history, x], dim=-1)
    between = functional.conv1d(joined, sinc)
    same = joined[..., SINC_ZEROS - 1 : -SINC_ZEROS]
    return torch.stack([same, between], dim=-1).flatten(-2), joined[..., -(TAPS - 1) :]


def _downsample(x: Tensor, history: Tensor, sinc: Tensor, *, spare: int) -> tuple[Tensor, Tensor]:
    """Halve the rate with a delay of SINC_ZEROS - 1 + spare samples of the lower rate."""
    joined = torch.cat([history, torch.cat([x[..., ::2], x[..., 1::2]], dim=1)], dim=-1)
    # Only negative bounds, so that the block's length stays free in the exported graph.
    odd = functional.conv1d(joined[:, 1:, : -spare or None], sinc)
    even = joined[:, :1, SINC_ZEROS : 1 - SINC_ZEROS - spare]
    return 0.5 * (even + odd), joined[..., 1 - TAPS - spare :]


def _decode(x: Tensor, tail: Tensor, decode: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Run one decoder level; the output of the transposed convolution beyond the block is the next tail."""
    convolution = decode[2]
    assert isinstance(convolution, nn.ConvTranspose1d)
    x = functional.conv_transpose1d(decode[1](decode[0](x)), convolution.weight, stride=4)
    overlap = tail.shape[-1]
    joined = torch.cat([x[..., :overlap] + tail, x[..., overlap:]], dim=-1)
    assert convolution.bias is not None
    y = joined[..., :-overlap] + convolution.bias[:, None]
    return decode[3](y) if len(decode) > 3 else y, joined[..., -overlap:]
