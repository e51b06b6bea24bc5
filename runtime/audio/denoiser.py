"""The level tracker: speech networks expect unit level, so the level is tracked and divided out.

The published cumulative average takes seconds to follow a step. This one moves in decibels, fast up and slow down, so
it settles near the level of the loud syllables. Training uses this very code.
"""

import logging
import math

import numpy as np
from numpy.typing import NDArray

from kernels.ring import Ring
from runtime.engine.session import Array, Backend, Session
from runtime.errors import ManifestError
from runtime.manifest import AudioSpec, Model

HOP_SAMPLES = 256
"""Samples between two level updates; blocks are multiples of it."""

Samples = NDArray[np.float32]


class LevelTracker:
    """Follow the level of one channel.

    Digital silence keeps the level at its floor, and the first hop above the floor sets it at once: after silence there
    is nothing that a jump could disturb.

    Args:
        sample_rate: Of the channel, Hz.
        rise_db_per_s: Fastest way up.
        fall_db_per_s: Fastest way down.
        floor_db: Lowest level, dB of full scale.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        rise_db_per_s: float = 60.0,
        fall_db_per_s: float = 10.0,
        floor_db: float = -70.0,
    ) -> None:
        hops_per_s = sample_rate / HOP_SAMPLES
        self._rise_db = rise_db_per_s / hops_per_s
        self._fall_db = fall_db_per_s / hops_per_s
        self._floor_db = floor_db
        self._level_db = floor_db

    @property
    def level_db(self) -> float:
        """The level after the last block, dB of full scale."""
        return self._level_db

    def push(self, block: Samples) -> Samples:
        """Return the level at each sample of a block of whole hops, as an amplitude: (n,) float32 to the same."""
        hops = np.asarray(block, np.float64).reshape(-1, HOP_SAMPLES)
        power = np.mean(hops * hops, axis=1)
        measured = 10 * np.log10(np.maximum(power, 10 ** (self._floor_db / 10)))
        starts, ends = np.empty(len(hops)), np.empty(len(hops))
        for hop, target in enumerate(measured.tolist()):
            starts[hop], self._level_db = self._step(target)
            ends[hop] = self._level_db
        ramp = np.arange(1, HOP_SAMPLES + 1) / HOP_SAMPLES
        levels_db = starts[:, None] + (ends - starts)[:, None] * ramp
        return np.exp(levels_db * (math.log(10) / 20)).astype(np.float32).reshape(-1)

    def _step(self, target_db: float) -> tuple[float, float]:
        before = self._level_db
        if before <= self._floor_db:
            return target_db, target_db
        change = min(max(target_db - before, -self._fall_db), self._rise_db)
        return before, before + change


logger = logging.getLogger(__name__)


class RecurrentDenoiser:
    """Run a step engine over a stream of any block size; a context manager.

    Output sample j belongs to input sample j: the network's delay is compensated here, and after `flush` as many
    samples came out as were pushed.

    Raises:
        ManifestError: The model is not one that the audio pipeline runs.
        SessionError: The session cannot be opened.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self.spec = _audio_spec(model)
        self._states = {state.input: state.output for state in model.manifest.states}
        self._block = self.spec.block_samples
        self._input = model.manifest.inputs[0].name
        self._output = model.manifest.outputs[0].name
        self._session: Session = backend.open(model, "step", {"samples": self._block})
        shapes = {binding.name: binding.shape for binding in self._session.inputs}
        self._zeros = {name: np.zeros(shapes[name], np.float32) for name in self._states}
        # Whole frames of silence before the lead-in place the reset of the states between two blocks.
        frames = self._block // self.spec.frame_samples
        spare = -self.spec.reset_after_frames % frames
        self._reset_block = (self.spec.reset_after_frames + spare) // frames
        lead_in = self.spec.lead_in_samples + spare * self.spec.frame_samples
        self._waiting = Ring(1, lead_in + 2 * self._block, filled=lead_in)
        self._to_drop = lead_in + self.spec.delay_samples
        self.blocks = 0
        self.non_finite_blocks = 0
        self._given = self._taken = 0
        self._start()

    @property
    def backend(self) -> str:
        """The session that runs the network."""
        return self._session.backend

    def push(self, samples: Samples) -> Samples:
        """Denoise (n,) float32; return the (m,) samples that are ready."""
        self._taken += len(samples)
        return self._feed(samples)

    def flush(self) -> Samples:
        """Return the rest, so that as many samples come out in all as were pushed."""
        rest = [np.empty(0, np.float32)]
        while self._given < self._taken:
            part = self._feed(np.zeros(self._block, np.float32))
            surplus = max(0, self._given - self._taken)
            self._given -= surplus
            rest.append(part[: len(part) - surplus])
        return np.concatenate(rest)

    def close(self) -> None:
        """Release the engine."""
        self._session.close()

    def _start(self) -> None:
        """Reset all states."""
        self._state: dict[str, Array] = dict(self._zeros)
        self._level = LevelTracker(self.spec.sample_rate)
        delay = self.spec.delay_samples
        self._levels = Ring(1, delay + self._block, filled=delay)
        self._dry = Ring(1, delay + self._block, filled=delay)

    def _feed(self, samples: Samples) -> Samples:
        parts = [np.empty(0, np.float32)]
        for start in range(0, len(samples), self._block):
            self._waiting.push(samples[None, start : start + self._block])
            while len(self._waiting) >= self._block:
                parts.append(self._step(self._waiting.pop(self._block)[0]))
        ready = np.concatenate(parts)
        dropped = min(self._to_drop, len(ready))
        self._to_drop -= dropped
        self._given += len(ready) - dropped
        return ready[dropped:]

    def _step(self, block: Samples) -> Samples:
        if self.blocks == self._reset_block:
            self._state |= {name: self._zeros[name] for name in self.spec.reset_states}
        level = self._level.push(block)
        x = block / level
        late_level = self._levels.delay(level[None])[0]
        late_x = self._dry.delay(x[None])[0]
        self.blocks += 1
        y = self._run(x, late_x)
        if y is None:
            y = self._recover(x, late_x)
        enhanced: Samples = y * late_level
        return enhanced

    def _run(self, x: Samples, late_x: Samples) -> Samples | None:
        """Return the speech of one step; None, with the states unchanged, if any value is not finite."""
        result = self._session.run({self._input: x[None, None], **self._state})
        if not all(np.isfinite(tensor).all() for tensor in result.values()):
            return None
        self._state = {name: result[output] for name, output in self._states.items()}
        y: Samples = result[self._output][0, 0]
        return late_x - y if self.spec.predicts == "noise" else y

    def _recover(self, x: Samples, late_x: Samples) -> Samples:
        """Run the block again from zero states; if that fails too, pass it through unchanged."""
        self.non_finite_blocks += 1
        logger.warning("audio block %d is not finite: states reset", self.blocks - 1)
        self._state = dict(self._zeros)
        y = self._run(x, late_x)
        return late_x if y is None else y


def _audio_spec(model: Model) -> AudioSpec:
    manifest = model.manifest
    spec = manifest.audio
    if manifest.task != "speech-denoise" or spec is None:
        raise ManifestError(f"model {manifest.name} is for {manifest.task}, not for speech")
    fits = spec.block_samples % spec.block_multiple == 0
    if not fits or spec.block_samples % spec.frame_samples or spec.block_samples % HOP_SAMPLES:
        raise ManifestError(
            f"model {manifest.name} has blocks of {spec.block_samples} samples; "
            f"expected a multiple of {spec.block_multiple} and of {HOP_SAMPLES}"
        )
    return spec
