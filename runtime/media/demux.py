"""Opens a media file for reading: one local file, in a container that FFmpeg reads on its own."""

import ctypes
import errno
import os
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from runtime.errors import DecodeError, UnsupportedMediaError
from runtime.media.containers import (
    demuxer_by_suffix,
    demuxer_options,
    demuxers,
    demuxers_of_suffix,
    is_encrypted,
    walk_boxes,
)
from runtime.media.webp import is_animated_webp, is_cut_short, open_converted, read_durations, release_converted
from runtime.safe_open import NotPlainError, open_plain

_IMAGES: Final = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"8BPS": "Photoshop",
}
_IMAGE_BRANDS: Final = (b"heic", b"heix", b"mif1", b"avif", b"heim", b"heis")
_IMAGE_DEMUXERS: Final = ("gif", "apng", "mjpeg", "mpjpeg", "smjpeg", "jpegxl_anim")
"""Demuxers that also read a still image."""
_PLAYLISTS: Final = (b"#EXTM3U", b"ffconcat", b"v=0", b"[playlist]", b"<?xml", b"<MPD", b"http")
_UNREADABLE_IN_A_ROW: Final = 50
_RESYNC_BYTES: Final = 1 << 16
"""Bytes that FFmpeg searches for the next packet of a transport stream before it returns EAGAIN."""
_MOST_STREAMS: Final = 32
MOST_PIXELS: Final = 8192 * 8192
"""Limit for one frame: no decoder allocates a larger one, whatever a small file declares."""
DECODER_OPTIONS: Final = {"max_pixels": str(MOST_PIXELS)}
_HEAD_BYTES: Final = 512

if TYPE_CHECKING:
    AnyPacket = Packet[Any]
else:  # PyAV's packet is generic only in its stubs
    AnyPacket = Packet

av.logging.set_level(None)


_held: dict[str, int] = {}
"""Descriptors of the pinned files, by their absolute paths."""


@contextmanager
def hold_source(
    path: Path, *, below: Path | None = None, size: int | None = None, mtime_ns: int | None = None
) -> Iterator[None]:
    """Pin a path: every `open_source` of it in this process opens the file that has that name now.

    A link or another file that replaces it meanwhile is not read.

    Args:
        path: The file.
        below: A folder below which no link is followed.
        size: The size that the file must have.
        mtime_ns: The time of change that the file must have.

    Raises:
        DecodeError: It cannot be opened, is no regular file, or is not the one of that size and time.
    """
    handle, key = _open(path, below), _key(path)
    try:
        found = os.fstat(handle)
        if (size is not None and found.st_size != size) or (mtime_ns is not None and found.st_mtime_ns != mtime_ns):
            raise DecodeError(f"{path} changed since it was selected; add it again")
        before = _held.get(key)
        _held[key] = handle
        try:
            yield
        finally:
            if before is None:
                del _held[key]
            else:
                _held[key] = before
            release_converted()
    finally:
        os.close(handle)


def open_source(
    path: Path, *, only: tuple[int, ...] | None = None, orders: dict[int, tuple[str, ...]] | None = None
) -> InputContainer:
    """Open a local media file.

    Args:
        path: The file; it is never written to.
        only: Indexes of the streams that will be read; the reader skips the bytes of the others.
        orders: Filled with the channel names of tracks with a custom channel order, by index.

    Raises:
        DecodeError: The file is missing, empty, unreadable, or broken.
        UnsupportedMediaError: The file is a still image, names other files, is encrypted, or holds too many streams.
    """
    handle = _open(path, None)
    try:
        head = _read_head(path, handle)
        if is_animated_webp(head):
            handle = _replace(handle, _open_readable(path, handle, head))
            head = _read_head(path, handle)
        _refuse_by_head(path, head)
        container = _open_container(path, handle, head)
        try:
            _refuse_by_content(path, handle, head, container)
        except BaseException:
            container.close()
            raise
    finally:
        os.close(handle)
    found = count_unusual_channels(container)
    if orders is not None:
        orders |= found
    for video in container.streams.video:
        if video.codec_context is not None:
            video.codec_context.options = {**video.codec_context.options, **DECODER_OPTIONS}
    if only is not None:
        for stream in container.streams:
            if stream.index not in only:
                stream.discard = Discard.all
    return container


def count_unusual_channels(container: InputContainer) -> dict[int, tuple[str, ...]]:
    """Drop the channel names of a custom order (AIFF, CAF) from decoders; return the names.

    PyAV 18.1 copies such a layout without its list of channels and then frees the list with each copy, so any frame of
    it crashes the process.
    """
    found = {}
    for stream in container.streams.audio:
        context = stream.codec_context
        layout = None if context is None else context.layout
        if layout is None or "channels (" not in layout.name:
            continue
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))  # never to be freed
        found[stream.index] = tuple(channel.name for channel in layout.channels)
        context.layout = f"{layout.nb_channels} channels"
    return found


def is_too_large(width: int, height: int) -> bool:
    """Return whether no decoder accepts frames of a size; FFmpeg reports 0x0 for one that it refused on opening."""
    return not width or not height or width * height > MOST_PIXELS


def read_packets(container: InputContainer, *streams: Stream) -> Iterator[AnyPacket]:
    """Yield the packets of some streams in file order, continuing after unreadable places.

    The last packets are empty, one per stream: they flush the decoders.
    """
    unreadable = searches = 0
    while True:
        try:
            for packet in container.demux(*streams):
                unreadable = searches = 0
                yield packet
        except (av.InvalidDataError, av.error.OSError):
            unreadable += 1
            if unreadable < _UNREADABLE_IN_A_ROW:
                continue
            yield from _flush(streams)
        except av.error.BlockingIOError:
            # A transport stream without a packet for 64 KiB, as in a hole of a sparse file: there may be more behind.
            searches += 1
            if searches <= container.size // _RESYNC_BYTES + 1:
                continue
            yield from _flush(streams)
        return


def _flush(streams: tuple[Stream, ...]) -> Iterator[AnyPacket]:
    for stream in streams:
        flush: AnyPacket = Packet()
        flush.stream = stream
        yield flush


def open_bytes(path: Path) -> BinaryIO:
    """Open the bytes of a media file, the same file that `open_source` reads.

    Raises:
        DecodeError: It cannot be opened.
    """
    handle = _open(path, None)
    try:
        head = os.pread(handle, _HEAD_BYTES, 0)
        if is_animated_webp(head):
            handle = _replace(handle, _open_readable(path, handle, head))
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def find_webp_size(path: Path) -> int | None:
    """Return the size of an animated WebP, which `open_source` reads unpacked; None of any other file.

    Raises:
        DecodeError: It cannot be opened.
    """
    handle = _open(path, None)
    try:
        return os.fstat(handle).st_size if is_animated_webp(_read_head(path, handle)) else None
    finally:
        os.close(handle)


def _open_readable(path: Path, handle: int, head: bytes) -> int:
    """Open the stream that replaces an animated WebP for FFmpeg."""
    durations = read_durations(handle)
    if len(durations) < 2:
        if is_cut_short(handle):
            raise DecodeError(f"{path} is an animated WebP that is incomplete; copy it again from its source")
        raise UnsupportedMediaError(_describe_image(path, "WebP"))
    return open_converted(path, handle, head, durations, most_pixels=MOST_PIXELS)


def _replace(handle: int, other: int) -> int:
    os.close(handle)
    return other


def _open(path: Path, below: Path | None) -> int:
    """Open a file for reading; a pinned one regardless of what has its name now."""
    try:
        held = _held.get(_key(path))
        if held is not None:
            return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC)
        return open_plain(path, below=below)
    except NotPlainError as error:
        what = error.strerror
        if what is not None and what.startswith("it is a folder"):
            raise DecodeError(f"{path} is a folder, expected a media file") from error
        raise DecodeError(f"{path} cannot be read: {what}; copy the file itself there") from error
    except FileNotFoundError as error:
        raise DecodeError(f"{path} does not exist; check the name and the folder") from error
    except OSError as error:
        raise DecodeError(describe_unreadable(path, error)) from error


def _key(path: Path) -> str:
    return os.path.abspath(path)


def describe_unreadable(path: Path | str, error: OSError) -> str:
    """Return the error for a file that cannot be read, with its remedy."""
    advice = {
        errno.EACCES: "check its permissions",
        errno.EPERM: "check its permissions",
        errno.ENOENT: "check the name and the folder",
        errno.EIO: "the disk or the network drive may be failing; copy the file elsewhere and try again",
        errno.ESTALE: "the network drive was remounted; try again",
        errno.ENAMETOOLONG: "give it a shorter name",
        errno.EMFILE: "too many files are open; try again later",
        errno.ENFILE: "too many files are open; try again later",
    }.get(error.errno or 0, "try again, or copy it again from its source")
    return f"{path} cannot be read: {error.strerror or error}; {advice}"


def _read_head(path: Path, handle: int) -> bytes:
    try:
        head = os.pread(handle, _HEAD_BYTES, 0)
    except OSError as error:
        raise DecodeError(describe_unreadable(path, error)) from error
    if not head:
        raise DecodeError(f"{path} is empty; copy it again from its source")
    return head


def _refuse_by_head(path: Path, head: bytes) -> None:
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        raise UnsupportedMediaError(_describe_image(path, "HEIF or AVIF"))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        raise UnsupportedMediaError(_describe_image(path, "WebP"))
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS):
        raise UnsupportedMediaError(f"{path} is a playlist, expected the media file itself")


def _open_container(path: Path, handle: int, head: bytes) -> InputContainer:
    """Open a container; FFmpeg detects the format by content, or by suffix where the content has no signature."""
    tried: list[str | None] = [None]
    if not _is_text(head):
        by_suffix = demuxer_by_suffix(path.suffix)
        tried = [*([by_suffix] if by_suffix is not None else []), None, *demuxers_of_suffix(path.suffix)]
    cause: Exception | None = None
    for demuxer in dict.fromkeys(tried):
        try:
            container = _open_as(handle, demuxer)
        except (av.FFmpegError, UnicodeError) as error:
            cause = cause or error
            if not isinstance(error, (av.InvalidDataError, av.ArgumentError)):
                break
        else:
            if demuxer is None or any(_is_known(stream) for stream in container.streams):
                return container
            container.close()
    assert cause is not None
    kind = next((name for magic, name in _IMAGES.items() if head.startswith(magic)), None)
    if kind is not None:
        raise UnsupportedMediaError(_describe_image(path, kind)) from cause
    raise DecodeError(_describe_refusal(path, handle, head, cause)) from cause


def _is_known(stream: Stream) -> bool:
    """Return True if FFmpeg recognised the content of a stream: a suffix alone does not make a media file."""
    match stream:
        case VideoStream():
            return stream.width > 0
        case AudioStream():
            return stream.sample_rate > 0
    return False


def _open_as(handle: int, demuxer: str | None) -> InputContainer:
    """Open a descriptor with FFmpeg.

    The only protocol is the one of descriptors: a demuxer that would open another file, or an address, cannot.
    """
    os.lseek(handle, 0, os.SEEK_SET)
    options = {"fd": str(handle), "protocol_whitelist": "fd", "format_whitelist": ",".join(demuxers())}
    options |= DECODER_OPTIONS  # for the frames that FFmpeg decodes while it opens a file
    if demuxer is not None:
        options |= demuxer_options(demuxer)
    return av.open("fd:", "r", format=demuxer, options=options, metadata_errors="replace")


def _refuse_by_content(path: Path, handle: int, head: bytes, container: InputContainer) -> None:
    for kind in ("video", "audio"):
        count = sum(stream.type == kind for stream in container.streams)
        if count > _MOST_STREAMS:
            raise UnsupportedMediaError(f"{path} has {count} {kind} streams, expected at most {_MOST_STREAMS}")
    if container.format.name in _IMAGE_DEMUXERS and _is_single(handle, container.format.name):
        kind_of = next((name for magic, name in _IMAGES.items() if head.startswith(magic)), "one frame")
        raise UnsupportedMediaError(_describe_image(path, kind_of))
    if is_encrypted(handle, container):
        raise UnsupportedMediaError(
            f"{path} is encrypted (copy protection), so it cannot be read; get a copy without protection"
        )


def _is_single(handle: int, demuxer: str) -> bool:
    """Return True if a file holds fewer than two frames."""
    with _open_as(handle, demuxer) as container:
        packets = read_packets(container, *container.streams.video)
        return sum(packet.size > 0 for packet, _ in zip(packets, range(2), strict=False)) < 2


def _describe_image(path: Path, kind: str) -> str:
    return f"{path} is a still image ({kind}), expected a video or audio file"


def _describe_refusal(path: Path, handle: int, head: bytes, error: Exception) -> str:
    size = os.fstat(handle).st_size
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide", b"free"):
        if any(kind == b"moov" and after - inner > 8 for kind, inner, after in walk_boxes(handle, 0, size)):
            return f"{path} is an MP4 or MOV file whose index is damaged; copy or record it again"
        return (
            f"{path} is an MP4 or MOV file of {size} bytes without its index: it is truncated "
            "or was never finished; copy or record it again"
        )
    if isinstance(error, av.EOFError):
        return f"{path} ends before its first frame or audio packet; copy or record it again"
    if _is_text(head):
        return f"{path} is a text file, expected a video or audio file"
    return (
        f"{path} is not a media file that can be read ({error.args[1] if len(error.args) > 1 else error}); "
        "expected MP4, MOV, MKV, WebM, AVI, TS or an audio file"
    )


def _is_text(head: bytes) -> bool:
    """Return True if the start of a file is text: UTF-8, UTF-16, or a single-byte encoding with few accents."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", "replace")
    else:
        try:
            # A character that is cut off at the end of the head is fine.
            text = getincrementaldecoder("utf-8-sig")().decode(head, final=len(head) < _HEAD_BYTES)
        except UnicodeDecodeError:
            plain = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
            return plain > 0.8 * len(head) and not any(byte < 9 or 13 < byte < 32 for byte in head)
    return all(letter.isprintable() or letter.isspace() for letter in text)
