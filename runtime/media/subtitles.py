"""Text subtitles from one codec to another, where the container of the result does not take the source's."""

from fractions import Fraction
from typing import Final

from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream

from runtime.media.source import AnyPacket

TEXT_CODECS: Final = ("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text")
# What each container takes, the one that others become first.
CONTAINER_SUBTITLES: Final = {
    ".mp4": "mov_text",
    ".m4v": "mov_text",
    ".mov": "mov_text",
    ".mkv": "subrip",
    ".webm": "webvtt",
}


class SubtitleTranscoder:
    """Decodes packets of one subtitle stream and encodes them again."""

    def __init__(self, container: OutputContainer, source: SubtitleStream, codec: str) -> None:
        """Add the stream to a container; styles of the source travel in its header."""
        decoder = source.codec_context
        decoder.open(strict=False)
        stream = container.add_stream(codec)
        assert isinstance(stream, SubtitleStream)
        self._decoder, self._encoder = decoder, stream.codec_context
        self._encoder.subtitle_header = decoder.subtitle_header
        self._encoder.time_base = stream.time_base = source.time_base or Fraction(1, 1000)
        self._encoder.open()
        self.stream = stream

    def transcode(self, packet: AnyPacket) -> list[AnyPacket]:
        """Give the packet in the new codec, nothing where it held no text."""
        subtitles = self._decoder.decode2(packet)
        if subtitles is None or not len(subtitles):
            return []
        result = self._encoder.encode_subtitle(subtitles)
        result.pts, result.dts, result.duration = packet.pts, packet.pts, packet.duration
        result.time_base, result.stream = packet.time_base, self.stream
        return [result]
