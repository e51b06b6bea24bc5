"""FFmpeg's audio filters over blocks of samples, and a loudness meter (ITU-R BS.1770, EBU R 128) made of one."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph
from numpy.typing import NDArray

from runtime.media.audio_samples import make_frame, read_samples

Block = NDArray[np.float32]

_SILENT_LUFS: Final = -70.0
"""The absolute gate of BS.1770: nothing quieter is measured."""


class AudioFilter:
    """A chain of FFmpeg's filters over (channels, n) float32 blocks, of one thread, so that its bits do not vary.

    Args:
        filters: Names and arguments, in order.
        layout: FFmpeg's name of the channel layout.
        sample_rate: Of every block, Hz.
    """

    def __init__(self, filters: Sequence[tuple[str, str]], *, layout: str, sample_rate: int) -> None:
        self._layout, self._rate = layout, sample_rate
        self._channels = av.AudioLayout(layout).nb_channels
        self._pts = 0
        self._graph = graph = Graph()
        graph.threads = 1
        arguments = f"sample_rate={sample_rate}:sample_fmt=fltp:channel_layout={layout}:time_base=1/{sample_rate}"
        self._source = graph.add("abuffer", arguments)
        self._sink = graph.add("abuffersink")
        graph.link_nodes(self._source, *(graph.add(*one) for one in filters), self._sink).configure()

    def push(self, block: Block) -> Block:
        """Return the samples that are ready, fewer or more than the block has."""
        if not block.shape[1]:
            return block
        self._source.push(make_frame(block, layout=self._layout, sample_rate=self._rate, pts=self._pts))
        self._pts += block.shape[1]
        return self._pull()

    def flush(self) -> Block:
        """End the stream and return the rest."""
        self._source.push(None)
        return self._pull()

    def _pull(self) -> Block:
        blocks = [np.empty((self._channels, 0), np.float32)]
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(blocks, axis=1)
            assert isinstance(frame, AudioFrame)
            self._look_at(frame)
            blocks.append(read_samples(frame))

    def _look_at(self, frame: AudioFrame) -> None:
        """Inspect a frame that the filters return; does nothing by default."""


@dataclass(frozen=True, slots=True)
class Loudness:
    """The loudness of a track by EBU R 128; None for silence.

    integrated: LUFS. range: LU. true_peak: dBTP.
    """

    integrated: float | None
    range: float
    true_peak: float | None


class LoudnessMeter(AudioFilter):
    """Measures loudness; push blocks, flush, then ask for the result."""

    STEP_S: Final = 0.1

    def __init__(self, *, layout: str, sample_rate: int) -> None:
        super().__init__([("ebur128", "metadata=1:peak=true")], layout=layout, sample_rate=sample_rate)
        self.momentary = array("f")
        """LUFS of the 0.4 s before the end of every tenth of a second."""
        self._last: dict[str, str] = {}

    def push(self, block: Block) -> Block:
        """Measure a block and return it."""
        super().push(block)
        return block

    def result(self) -> Loudness:
        """Return what was measured so far."""
        integrated, peak = float(self._last.get("I", _SILENT_LUFS)), float(self._last.get("true_peak", 0.0))
        return Loudness(
            integrated=integrated if integrated > _SILENT_LUFS else None,
            range=float(self._last.get("LRA", 0.0)),
            true_peak=round(20 * math.log10(peak), 3) if peak > 0 else None,
        )

    def _look_at(self, frame: AudioFrame) -> None:
        found = {name.removeprefix("lavfi.r128."): value for name, value in frame.metadata.items()}
        if "M" in found:
            self._last = found
            self.momentary.append(float(found["M"]))
