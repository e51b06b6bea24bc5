"""Encodes blocks of audio into packets of one stream of the result, with exact sample positions."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import PacketSideData
from numpy.typing import NDArray

from runtime.errors import EncodeError
from runtime.media.audio_samples import AudioBlock, Remixer, make_frame, make_silence
from runtime.media.demux import AnyPacket
from runtime.media.resample import RateConverter

ENCODERS: Final = {"mp3": "libmp3lame", "opus": "libopus"}
LOSSLESS: Final = ("flac", "alac", "truehd", "mlp", "tta", "wavpack", "ape")
_FLOATS: Final = ("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be")
# Samples that these encoders hold back and do not return on their own at the end.
_HELD_BACK: Final = {"ac3": 256, "eac3": 256, "mp2": 481}


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """How a track is encoded.

    `sample_rate` and `layout` are the result's; blocks of `source_rate` are resampled, and those of `source_layout`
    are mixed to `layout`, unless `renames` is set: then their channels only get its names. `bit_rate` is None for
    lossless codecs.
    """

    codec: str
    sample_rate: int
    layout: str
    bit_rate: int | None
    sample_format: str | None
    source_rate: int
    source_layout: str
    renames: bool = False
    options: tuple[tuple[str, str], ...] = ()

    @property
    def holds_peaks(self) -> bool:
        """Whether samples above full scale are preserved."""
        return self.codec in _FLOATS

    @property
    def is_lossless(self) -> bool:
        """Whether the codec is lossless."""
        return self.codec.startswith("pcm_") or self.codec in LOSSLESS


class AudioEncoder:
    """One track of a result; blocks must follow each other without a gap.

    `first_sample`, `samples` and `leading_silence` count in samples of the blocks; `clipped` counts samples above full
    scale that the codec cannot store. The same in samples of the result: `written_first`, `written`, `written_silence`.
    """

    def __init__(self, container: OutputContainer, settings: AudioSettings, *, from_zero: bool = False) -> None:
        """Add the track to a container.

        Args:
            container: The result.
            settings: The result of `choose_audio`.
            from_zero: Write silence from time zero up to a later first sample.

        Raises:
            EncodeError: The encoder or the container refuses the settings.
        """
        self.settings = settings
        self.first_sample: int | None = None
        self.leading_silence = self.clipped = 0
        self._from_zero = from_zero
        self._next = 0
        self._begin = self._end = 0
        self._held: list[AnyPacket] = []
        self._ratio = Fraction(settings.sample_rate, settings.source_rate)
        channels = av.AudioLayout(settings.layout).nb_channels
        self._converter: RateConverter | None = None
        if self._ratio != 1:
            self._converter = RateConverter(settings.source_rate, settings.sample_rate, channels)
        self._mixer: Remixer | None = None
        if settings.layout != settings.source_layout and not settings.renames:
            self._mixer = Remixer(settings.source_layout, settings.layout)
        encoder, options = ENCODERS.get(settings.codec, settings.codec), dict(settings.options)
        try:
            stream = container.add_stream(encoder, rate=settings.sample_rate, options=options)
            assert isinstance(stream, av.AudioStream)
            context = stream.codec_context
            context.layout = settings.layout
            context.time_base = stream.time_base = Fraction(1, settings.sample_rate)
            if settings.bit_rate is not None:
                context.bit_rate = settings.bit_rate
            if settings.sample_format is not None:
                context.format = settings.sample_format
            context.open()
        except (av.FFmpegError, ValueError) as error:
            raise EncodeError(
                f"{settings.codec} cannot be written at {settings.sample_rate} Hz {settings.layout} "
                f"into {container.format.name}: {error}"
            ) from error
        self.stream = stream

    @property
    def is_resampled(self) -> bool:
        """Whether the result has another rate than the blocks."""
        return self._converter is not None

    def describe_losses(self, index: int) -> list[str]:
        """Describe what the codec could not store of track `index` of the source."""
        if not self.clipped:
            return []
        return [
            f"audio track {index}: {self.clipped} samples above full scale were clipped, because {self.settings.codec} "
            "cannot store them; use 32-bit float audio in .wav, .mov or .mkv"
        ]

    @property
    def samples(self) -> int:
        """Samples received so far."""
        return 0 if self.first_sample is None else self._next - self.first_sample

    @property
    def written_silence(self) -> int:
        """Leading silence in samples of the result."""
        return self._scaled(self.leading_silence)

    @property
    def written_first(self) -> int:
        """Position of the first sample in samples of the result."""
        return self._scaled(self.first_sample or 0)

    @property
    def written(self) -> int:
        """Samples of the result that correspond to those received so far."""
        return self._scaled(self._next) - self.written_first

    def encode(self, block: AudioBlock) -> Iterator[AnyPacket]:
        """Encode a block and yield the packets that are ready; leading silence may be long."""
        if self.first_sample is None:
            self.first_sample = self._next = block.pts
            if self._from_zero and block.pts > 0:
                self.leading_silence, self._next = block.pts, 0
            self._begin = self._end = self._scaled(self._next)
            for silence in make_silence(len(block.samples), self._next, block.pts):
                yield from self._encode(silence)
        if block.pts != self._next:
            raise EncodeError(f"a block starts at sample {block.pts}, expected {self._next}")
        yield from self._encode(block)

    def _encode(self, block: AudioBlock) -> list[AnyPacket]:
        self._next += block.samples.shape[1]
        samples: NDArray[np.float32] = block.samples
        if self._mixer is not None:
            samples = self._mixer.mix(samples)
        if not self.settings.holds_peaks:
            clipped = np.clip(samples, -1.0, 1.0)
            self.clipped += int(np.count_nonzero(clipped != samples))
            samples = clipped
        if self._converter is not None:
            samples = self._converter.push(samples)
        return self._put(samples)

    def _put(self, samples: NDArray[np.float32]) -> list[AnyPacket]:
        """Encode samples of the result's own rate and layout."""
        if not samples.shape[1]:
            return []
        settings, pts = self.settings, self._end
        self._end += samples.shape[1]
        if self._converter is not None and not settings.holds_peaks:
            samples = np.clip(samples, -1.0, 1.0)
        frame = make_frame(samples, layout=settings.layout, sample_rate=settings.sample_rate, pts=pts)
        return self._hold(self._send(frame))

    def flush(self) -> list[AnyPacket]:
        """Return the packets that are left at the end."""
        if self.first_sample is None:
            return []
        ready: list[AnyPacket] = []
        if self._converter is not None:
            ready += self._put(self._converter.flush(self._scaled(self._next) - self._begin))
        end = self._end
        held_back = _HELD_BACK.get(self.settings.codec, 0)
        ready += self._put(np.zeros((av.AudioLayout(self.settings.layout).nb_channels, held_back), np.float32))
        self._end = end
        packets = self._send(None)
        ready += self._hold([packet for packet in packets if packet.size])
        ready += self._ended()
        # FLAC's last packet holds no audio, but the header's final values.
        return ready + [packet for packet in packets if not packet.size]

    def _scaled(self, samples: int) -> int:
        return round(samples * self._ratio)

    def _send(self, frame: AudioFrame | None) -> list[AnyPacket]:
        try:
            return self.stream.encode(frame)
        except av.FFmpegError as error:
            raise EncodeError(f"{self.settings.codec} encoder failed: {error}") from error

    def _hold(self, packets: list[AnyPacket]) -> list[AnyPacket]:
        """Keep the newest two packets back: only they are changed."""
        self._held += packets
        ready = self._held[:-2]
        del self._held[:-2]
        return ready

    def _ended(self) -> list[AnyPacket]:
        """Return the last packets; one that would begin after the end, as LAME writes it, is dropped."""
        held, whole = self._held, self.stream.codec_context.frame_size
        if len(held) > 1 and not self.settings.is_lossless and (held[-2].pts or 0) + whole >= self._end:
            held.pop()
        return [*held[:-1], *(self._last(packet) for packet in held[-1:])]

    def _last(self, packet: AnyPacket) -> AnyPacket:
        """Set where the audio ends inside the last packet, which lossy encoders pad."""
        if packet.pts is None or packet.duration is None:
            return packet
        whole = self.stream.codec_context.frame_size or packet.duration
        left = self._end - packet.pts
        if 0 < left < whole:
            packet.duration = left
            if not self.settings.is_lossless and not packet.has_sidedata("skip_samples"):
                side: PacketSideData = PacketSideData(11, 10)  # type: ignore[call-arg]
                side.update(struct.pack("<IIBB", 0, whole - left, 0, 0))
                packet.set_sidedata(side)
        return packet
