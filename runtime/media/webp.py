"""Animated WebP as video: FFmpeg 8.1 has no demuxer for it, so libwebp decodes it into a lossless temporary stream.

FFmpeg's `webp_pipe` skips the chunks of an animation. Pillow (libwebp) returns one composed frame after the other, and
each is written as PNG into an unnamed QuickTime file, which stores the time and duration of each exactly.
"""

import os
import struct
import tempfile
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

import av
import numpy as np
from av.video.frame import VideoFrame

from runtime.errors import DecodeError, MediaError, UnsupportedMediaError

MOST_CONVERTED_BYTES: Final = 16 << 30
"""Limit of the temporary stream."""
_MOST_BYTES: Final = 1 << 30
"""Limit of the WebP: libwebp needs all of it in memory."""
_MOST_FRAMES: Final = 1_000_000
_ANIMATED: Final = 2
_DEFAULT_MS: Final = 100
"""Duration of a frame that declares zero, as in browsers."""
_CLOCK: Final = Fraction(1, 1000)

_Identity = tuple[int, int, int, int]
_lock = threading.Lock()
_converted: dict[_Identity, int] = {}
"""The descriptor of the last converted file, by that file's identity: a job opens its source many times."""


def is_animated_webp(head: bytes) -> bool:
    """Return True if these first bytes are those of a WebP whose header declares an animation."""
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return is_webp and head[12:16] == b"VP8X" and len(head) >= 30 and bool(head[20] & _ANIMATED)


def read_durations(handle: int) -> tuple[int, ...]:
    """Return the duration of each frame of an animation in milliseconds; empty if nothing is animated."""
    durations: list[int] = []
    size, position, has_animation = os.fstat(handle).st_size, 12, False
    while position + 8 <= size and len(durations) <= _MOST_FRAMES:
        head = os.pread(handle, 24, position)
        if len(head) < 8:
            break
        kind, length = head[:4], struct.unpack_from("<I", head, 4)[0]
        has_animation = has_animation or kind == b"ANIM"
        if kind == b"ANMF" and len(head) == 24:
            durations.append(int.from_bytes(head[20:23], "little") or _DEFAULT_MS)
        position += 8 + length + length % 2
    return tuple(durations) if has_animation else ()


def is_cut_short(handle: int) -> bool:
    """Return True if a WebP's header declares more bytes than the file has."""
    head = os.pread(handle, 8, 0)
    return len(head) < 8 or 8 + int(struct.unpack_from("<I", head, 4)[0]) > os.fstat(handle).st_size


def open_converted(path: Path, handle: int, head: bytes, durations: tuple[int, ...], *, most_pixels: int) -> int:
    """Open a lossless stream of an animated WebP, created at the first call and kept until that of another file.

    Args:
        path: The file, for messages.
        handle: Its descriptor.
        head: Its first bytes.
        durations: The result of `read_durations`.
        most_pixels: The size of the largest accepted frame.

    Returns:
        A descriptor for the caller to close.

    Raises:
        DecodeError: A frame cannot be decoded, or there is no space for the stream.
        UnsupportedMediaError: Its frames, the file, or the number of frames are too large.
    """
    found = os.fstat(handle)
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    if width * height > most_pixels:
        raise UnsupportedMediaError(f"{path} has frames of more than 8192x8192 pixels; scale it down first")
    if found.st_size > _MOST_BYTES or len(durations) > _MOST_FRAMES:
        raise UnsupportedMediaError(
            f"{path} is an animated WebP of more than 1 GiB or {_MOST_FRAMES} frames; convert it to MP4 first"
        )
    with _lock:
        if identity not in _converted:
            _release()
            _converted[identity] = _convert(path, handle, (width, height), durations)
        return os.open(f"/proc/self/fd/{_converted[identity]}", os.O_RDONLY | os.O_CLOEXEC)


def release_converted() -> None:
    """Free the disk space of the last converted file; open descriptors stay readable."""
    with _lock:
        _release()


def _release() -> None:
    while _converted:
        os.close(_converted.popitem()[1])


def _convert(path: Path, handle: int, size: tuple[int, int], durations: tuple[int, ...]) -> int:
    folder = tempfile.gettempdir()
    try:
        target = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _no_room(path, folder, error) from error
    try:
        with os.fdopen(os.dup(target), "w+b") as file, closing(_frames(path, handle, durations)) as frames:
            _write(path, file, frames, size, durations)
    except BaseException as error:
        os.close(target)
        if isinstance(error, (av.FFmpegError, OSError)) and not isinstance(error, MediaError):
            raise _no_room(path, folder, error) from error
        raise
    return target


def _write(
    path: Path, file: BinaryIO, frames: Iterator[VideoFrame], size: tuple[int, int], durations: tuple[int, ...]
) -> None:
    pts = 0
    options = {"video_track_timescale": str(_CLOCK.denominator)}
    with av.open(file, "w", format="mov", container_options=options) as container:
        stream = container.add_stream("png", rate=_CLOCK.denominator, options={"compression_level": "1"})
        stream.width, stream.height = size
        for number, (frame, duration) in enumerate(zip(frames, durations, strict=True)):
            if not number:
                stream.pix_fmt = frame.format.name
            frame.pts, frame.time_base = pts, _CLOCK
            for packet in stream.encode(frame):
                packet.duration = duration
                container.mux(packet)
            pts += duration
            if file.tell() > MOST_CONVERTED_BYTES:
                raise UnsupportedMediaError(
                    f"{path} is an animated WebP of more than 16 GiB of frames; convert it to MP4 first"
                )
        container.mux(stream.encode(None))


def _frames(path: Path, handle: int, durations: tuple[int, ...]) -> Generator[VideoFrame, None, None]:
    """Decode one composed frame after the other, as RGB or, if the file has transparency, RGBA."""
    from PIL import Image
    from PIL.WebPImagePlugin import WebPImageFile

    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        try:
            image = WebPImageFile(file)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DecodeError(f"{path} is an animated WebP that is incomplete or damaged; copy it again") from error
        with image:
            for number in range(len(durations)):
                try:
                    image.seek(number)
                    image.load()
                except (EOFError, OSError, ValueError) as error:
                    raise DecodeError(
                        f"{path} is damaged: frame {number + 1} of {len(durations)} cannot be decoded; copy it again"
                    ) from error
                yield VideoFrame.from_ndarray(np.asarray(image), format="rgba" if image.mode == "RGBA" else "rgb24")


def _no_room(path: Path, folder: str, error: Exception) -> DecodeError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return DecodeError(
        f"{path} cannot be unpacked: {reason}; an animated WebP needs space for its frames in {folder}; "
        "free some space or set TMPDIR"
    )
