"""The path of the audio: decode -> repair -> enhance -> finish -> encode, in a separate thread for each track."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from kernels.ring import Block
from runtime.audio.finishing import Finisher, FinishSummary
from runtime.audio.speech_enhancer import SpeechEnhancer, SpeechSummary
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.audio_reader import AudioReader
from runtime.media.audio_samples import AudioBlock
from runtime.media.damage import damaged_places
from runtime.media.demux import AnyPacket
from runtime.media.verify import AudioTimes
from runtime.report import DamagedPlace
from runtime.stages import Stage, StageClock, StopSignal

_WAITING_PACKETS = 64


@dataclass(frozen=True, slots=True)
class AudioOutcome:
    """The outcome of one processed track.

    `summary` is None for a track whose noise was not removed, `finish` for one that was not finished.

    `index`, the rate, the first sample and the count are the source's; `written` describes the track in the result,
    where that differs.
    """

    index: int
    sample_rate: int
    channels: int
    first_sample: int
    samples: int
    leading_silence: int
    summary: SpeechSummary | None
    warnings: tuple[str, ...]
    finish: FinishSummary | None = None
    written: AudioTimes | None = None
    damage: tuple[DamagedPlace, ...] = ()

    def times(self, out_index: int) -> AudioTimes:
        """Return the times that stream `out_index` of the result is verified against."""
        times = self.written or AudioTimes(
            self.index, out_index, self.sample_rate, self.first_sample, self.samples, self.leading_silence
        )
        return replace(times, out_index=out_index, measures_loudness=self.finish is not None)


class AudioPipeline:
    """Process one track from its reader through the enhancer into encoded packets.

    `source` yields the reader's blocks. Without an enhancer and `open_finisher`, which is called in the thread, the
    audio is only re-encoded, for a container that does not support its codec. A context manager: leaving it stops the
    thread.
    """

    def __init__(
        self,
        reader: AudioReader,
        source: Iterable[AudioBlock],
        enhancer: SpeechEnhancer | None,
        encoder: AudioEncoder,
        *,
        open_finisher: Callable[[], Finisher] | None = None,
        clock: StageClock,
        stop: StopSignal,
        on_samples: Callable[[int], None],
    ) -> None:
        self.reader, self.enhancer, self.encoder = reader, enhancer, encoder
        self._source, self._open_finisher = source, open_finisher
        self._finisher: Finisher | None = None
        self._clock, self._stop, self._on_samples = clock, stop, on_samples
        self._stage: Stage[AudioBlock, AnyPacket] | None = None

    def packets(self) -> Iterator[AnyPacket]:
        """Start the thread and yield the encoded packets in order."""
        blocks = self._clock.timed("decode", self._source)
        self._stage = Stage(
            f"audio-{self.reader.stream.index}", blocks, self._enhance, depth=_WAITING_PACKETS, stop=self._stop
        )
        return iter(self._stage)

    def outcome(self) -> AudioOutcome:
        """Return the outcome, once the packets have ended."""
        reader = self.reader
        return AudioOutcome(
            index=reader.stream.index,
            sample_rate=reader.sample_rate,
            channels=reader.channels,
            first_sample=reader.first_sample,
            samples=reader.samples,
            leading_silence=self.encoder.leading_silence,
            summary=None if self.enhancer is None else self.enhancer.summary(),
            warnings=(
                *reader.warnings,
                *self._describe_shortfall(),
                *self.encoder.describe_losses(reader.stream.index),
            ),
            finish=None if self._finisher is None else self._finisher.summary(),
            written=AudioTimes.between(reader, self.encoder) if self.encoder.is_resampled else None,
            damage=damaged_places(reader.holes),
        )

    def _describe_shortfall(self) -> list[str]:
        finish = None if self._finisher is None else self._finisher.summary()
        if finish is None or finish.target is None or finish.shortfall is None:
            return []
        return [
            f"audio track {self.reader.stream.index} is {finish.shortfall:.1f} LU below the target of "
            f"{finish.target.lufs:g} LUFS; more gain would raise its noise"
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._stage is not None:
            self._stage.join()
        if self.enhancer is not None:
            self.enhancer.close()
        if self._finisher is not None:
            self._finisher.close()
        self.reader.close()

    def _enhance(self, blocks: Iterator[AudioBlock]) -> Iterator[AnyPacket]:
        if self._open_finisher is not None:
            with self._clock.measure("audio"):
                self._finisher = self._open_finisher()
        place = self.reader.first_sample
        for samples in self._finished(self._processed(blocks)):
            yield from self._encode(AudioBlock(samples, place))
            place += samples.shape[1]
        with self._clock.measure("encode"):
            packets = self.encoder.flush()
        yield from packets

    def _processed(self, blocks: Iterator[AudioBlock]) -> Iterator[Block]:
        """Repair and enhance; as many samples come out as go in."""
        taken = 0
        for block in blocks:
            yield self._process(block.samples)
            taken += block.samples.shape[1]
            self._on_samples(taken)
        rest = None if self._finisher is None else self._finisher.flush()
        if rest is not None:
            yield self._enhance_speech(rest)
        if self.enhancer is not None:
            with self._clock.measure("audio"):
                samples = self.enhancer.flush()
            yield samples

    def _process(self, samples: Block) -> Block:
        if self._finisher is not None:
            with self._clock.measure("audio"):
                samples = self._finisher.repair(samples)
        return self._enhance_speech(samples)

    def _enhance_speech(self, samples: Block) -> Block:
        if self.enhancer is None:
            return samples
        with self._clock.measure("audio"):
            return self.enhancer.push(samples)

    def _finished(self, processed: Iterator[Block]) -> Iterator[Block]:
        """Apply the levels of the whole track, once all of it has been processed."""
        if self._finisher is None:
            return processed
        for samples in processed:
            with self._clock.measure("audio"):
                self._finisher.store(samples)
        return self._clock.timed("sound", self._finisher.finish())

    def _encode(self, block: AudioBlock) -> Iterator[AnyPacket]:
        if block.samples.shape[1]:
            yield from self._clock.timed("encode", self.encoder.encode(block))
