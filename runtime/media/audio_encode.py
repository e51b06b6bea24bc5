"""Encodes blocks of sound into packets of one stream of the result, every sample at its place."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import PacketSideData

from runtime.errors import EncodeError
from runtime.media.audio import AudioBlock, make_frame, make_silence
from runtime.media.source import AnyPacket
from runtime.media.streams import AudioStream

_ENCODERS: Final = {"mp3": "libmp3lame", "opus": "libopus"}
_LOSSLESS: Final = ("flac", "alac", "truehd", "mlp", "tta", "wavpack", "ape")
_OPUS_RATES: Final = (48_000, 24_000, 16_000, 12_000, 8_000)
_PCM: Final = ("pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_f64le")
# What each container takes: the codecs kept, then the default for lossy and for lossless sources. An MP4 does not
# tell where MP3 ends.
_CONTAINERS: Final[dict[str, tuple[tuple[str, ...], str, str]]] = {
    ".mp4": (("aac", "opus", "flac", "alac", "ac3", "eac3"), "aac", "alac"),
    ".m4v": (("aac", "alac", "ac3", "eac3"), "aac", "alac"),
    ".m4a": (("aac", "alac"), "aac", "alac"),
    ".mov": (("aac", "alac", "ac3", *_PCM), "aac", "pcm_s24le"),
    ".mkv": (("aac", "opus", "flac", "alac", "mp3", "ac3", "eac3", *_PCM), "aac", "flac"),
    ".mka": (("aac", "opus", "flac", "alac", "mp3", "ac3", "eac3", *_PCM), "aac", "flac"),
    ".webm": (("opus",), "opus", "opus"),
    ".wav": (("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"), "pcm_s16le", "pcm_s24le"),
    ".flac": (("flac",), "flac", "flac"),
    ".mp3": (("mp3",), "mp3", "mp3"),
    ".ogg": (("opus", "flac"), "opus", "flac"),
    ".opus": (("opus",), "opus", "opus"),
}
_MP3_CHANNELS: Final = 2
_KBITS_A_CHANNEL: Final = {"aac": 96, "opus": 64, "mp3": 96, "ac3": 112, "eac3": 96}
_MOST_KBITS_A_CHANNEL: Final = {"aac": 192, "opus": 160, "mp3": 160, "ac3": 160, "eac3": 160}
_HIGHEST_RATES: Final = {"mp3": 48_000, "ac3": 48_000, "eac3": 48_000, "aac": 96_000}


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """How a track is encoded; `bit_rate` is None for lossless codecs."""

    codec: str
    sample_rate: int
    layout: str
    bit_rate: int | None
    sample_format: str | None


def choose_audio(stream: AudioStream, suffix: str) -> AudioSettings:
    """Choose the codec of a processed track: the source's own where the container takes it.

    Raises:
        EncodeError: The container takes no sound that can be encoded.
    """
    if suffix not in _CONTAINERS:
        raise EncodeError(f"container {suffix} is not written, expected {', '.join(_CONTAINERS)}")
    kept, lossy, lossless = _CONTAINERS[suffix]
    pure = stream.codec.startswith("pcm_") or stream.codec in _LOSSLESS
    wishes = [stream.codec, lossless if pure else lossy, lossy, lossless]
    for codec in wishes:
        if codec in kept and _fits(codec, stream):
            return AudioSettings(
                codec, stream.sample_rate, stream.layout, _bit_rate(codec, stream), _format(codec, stream)
            )
    raise EncodeError(f"{suffix} takes no sound of {stream.sample_rate} Hz in {stream.layout}; choose .mp4 or .mkv")


class AudioEncoder:
    """One track of a result; blocks must follow each other without a gap."""

    def __init__(self, container: OutputContainer, settings: AudioSettings, *, from_zero: bool = False) -> None:
        """Add the track to a container.

        Args:
            container: The result.
            settings: What `choose_audio` gave.
            from_zero: Write silence from time zero to a later first sample.

        Raises:
            EncodeError: The encoder or the container refuses the settings.
        """
        self.settings = settings
        self.first_sample: int | None = None
        self.leading_silence = 0
        self._from_zero = from_zero
        self._next = 0
        self._held: AnyPacket | None = None
        try:
            stream = container.add_stream(_ENCODERS.get(settings.codec, settings.codec), rate=settings.sample_rate)
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
    def samples(self) -> int:
        """Samples taken so far."""
        return 0 if self.first_sample is None else self._next - self.first_sample

    def encode(self, block: AudioBlock) -> list[AnyPacket]:
        """Encode a block and give the packets that are ready."""
        packets: list[AnyPacket] = []
        if self.first_sample is None:
            self.first_sample = self._next = block.pts
            if self._from_zero and block.pts > 0:
                self.leading_silence, self._next = block.pts, 0
                for silence in make_silence(len(block.samples), 0, block.pts):
                    packets += self._encode(silence)
        if block.pts != self._next:
            raise EncodeError(f"a block starts at sample {block.pts}, expected {self._next}")
        return packets + self._encode(block)

    def _encode(self, block: AudioBlock) -> list[AnyPacket]:
        self._next += block.samples.shape[1]
        settings = self.settings
        frame = make_frame(block.samples, layout=settings.layout, sample_rate=settings.sample_rate, pts=block.pts)
        return self._hold(self._send(frame))

    def flush(self) -> list[AnyPacket]:
        """Give the packets that are left at the end."""
        if self.first_sample is None:
            return []
        packets = self._send(None)
        ready = self._hold([packet for packet in packets if packet.size])
        if self._held is not None:
            ready.append(self._last(self._held))
        # FLAC's last packet holds no sound, but the header's final values.
        return ready + [packet for packet in packets if not packet.size]

    def _send(self, frame: AudioFrame | None) -> list[AnyPacket]:
        try:
            return self.stream.encode(frame)
        except av.FFmpegError as error:
            raise EncodeError(f"{self.settings.codec} encoder failed: {error}") from error

    def _hold(self, packets: list[AnyPacket]) -> list[AnyPacket]:
        """Keep the newest packet back: only the last one is changed."""
        ready: list[AnyPacket] = []
        for packet in packets:
            if self._held is not None:
                ready.append(self._held)
            self._held = packet
        return ready

    def _last(self, packet: AnyPacket) -> AnyPacket:
        """Tell the container where the sound ends inside the last packet, which encoders fill up."""
        if packet.pts is None or packet.duration is None:
            return packet
        whole = self.stream.codec_context.frame_size or packet.duration
        left = self._next - packet.pts
        if 0 < left < whole:
            packet.duration = left
            if not packet.has_sidedata("skip_samples"):
                side: PacketSideData = PacketSideData(11, 10)  # type: ignore[call-arg]
                side.update(struct.pack("<IIBB", 0, whole - left, 0, 0))
                packet.set_sidedata(side)
        return packet


def _fits(codec: str, stream: AudioStream) -> bool:
    if codec == "opus":
        return stream.sample_rate in _OPUS_RATES
    if codec == "mp3" and stream.channels > _MP3_CHANNELS:
        return False
    return stream.sample_rate <= _HIGHEST_RATES.get(codec, stream.sample_rate)


def _bit_rate(codec: str, stream: AudioStream) -> int | None:
    if codec not in _KBITS_A_CHANNEL:
        return None
    least = _KBITS_A_CHANNEL[codec] * stream.channels * 1000
    most = _MOST_KBITS_A_CHANNEL[codec] * stream.channels * 1000
    return min(most, max(least, stream.bit_rate or 0))


def _format(codec: str, stream: AudioStream) -> str | None:
    """Keep 16 bits at 16 and everything deeper at 24 in lossless codecs."""
    deep = stream.sample_format not in ("s16", "s16p", "u8", "u8p")
    if codec == "flac":
        return "s32" if deep else "s16"
    if codec == "alac":
        return "s32p" if deep else "s16p"
    return None
