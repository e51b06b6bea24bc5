"""The decoder of one video stream, set up so that errors name the packet that is damaged."""

from collections import deque
from contextlib import suppress
from typing import Final

import av
from av.codec.codec import Capabilities
from av.codec.context import CodecContext, ThreadType
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from runtime.media.demux import DECODER_OPTIONS, AnyPacket
from runtime.media.h264 import tells_fields

_SEQUENCES: Final = ("mpeg1video", "mpeg2video")
_SEQUENCE_HEADER: Final = b"\0\0\1\xb3"


class VideoDecoder:
    """A stream's decoder, set up to report only real damage.

    H.264 whose frames may be coded as fields is decoded by one thread. FFmpeg's frame threads confuse the error table
    of field pictures with that of the next whole picture and randomly report correct frames as corrupt; its slice
    threads conceal nothing.

    A decoder of MPEG-1 or MPEG-2 drops the frame that it still holds when the size changes, so it is flushed first.
    """

    def __init__(self, source: av.VideoStream, threads: int) -> None:
        self._context: VideoCodecContext = source.codec_context
        self._extradata = bytes(self._context.extradata or b"")
        self._may_change = self._context.name == "h264" and threads > 1
        self._size: bytes | None = None
        if self._may_change and tells_fields(self._extradata):
            self._may_change, threads = False, 1
        source.thread_type, source.thread_count = ThreadType.AUTO, threads
        self.threads = threads if self._context.codec.capabilities & Capabilities.frame_threads else 1
        self._waiting: deque[AnyPacket] = deque(maxlen=self.threads)
        self.refused: AnyPacket | None = None
        """The packet that the last error was about; with frame threads it is reported some packets later."""

    def decode(self, packet: AnyPacket) -> list[VideoFrame]:
        """Decode a packet, or flush with an empty one.

        Raises:
            FFmpegError: The packet `refused` cannot be decoded.
        """
        frames: list[VideoFrame] = []
        if self._may_change and packet.size and tells_fields(bytes(packet), extradata=self._extradata):
            frames += self._change(threads=1)
            self._may_change = False
        if self._context.name in _SEQUENCES and packet.size and self._changes_size(bytes(packet)):
            frames += self._change(threads=self.threads)
        if packet.size:
            self._waiting.append(packet)
        self.refused = self._waiting[0] if self._waiting else None
        return frames + self._context.decode(packet)

    def _changes_size(self, data: bytes) -> bool:
        """Return whether a packet has a sequence header of another size than the last (ISO/IEC 13818-2, 6.2.2.1)."""
        place = data.find(_SEQUENCE_HEADER)
        if place < 0:
            return False
        before, self._size = self._size, data[place + 4 : place + 7]
        return before not in (None, self._size)

    def _change(self, *, threads: int) -> list[VideoFrame]:
        """Flush the decoder and continue with a new one."""
        found: list[VideoFrame] = []
        with suppress(av.FFmpegError):
            found = self._context.decode(None)
        context = CodecContext.create(self._context.name, "r")
        assert isinstance(context, VideoCodecContext)
        context.extradata = self._extradata or None
        context.options = dict(DECODER_OPTIONS)
        context.thread_count = self.threads = threads
        self._context, self._waiting = context, deque(maxlen=threads)
        return found
