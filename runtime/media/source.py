"""Opens a media file for reading: local files and known containers only, refusals told in words."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream

from runtime.errors import DecodeError, UnsupportedMediaError

# Demuxers that read one local file. Playlists, concatenations and session descriptions, which name
# other files or addresses, are not among them, nor are the readers of single pictures.
_CONTAINERS: Final = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,mxf,mxf_d10,gxf,dv,nut,ivf,obu,h264,hevc,m4v,rm,wtv,"
    "yuv4mpegpipe,ogg,wav,w64,aiff,au,caf,flac,mp3,aac,ac3,eac3,amr,ape,tta,wv,mpc,mpc8"
)
_PICTURES: Final = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"\xff\x0a": "JPEG XL",
    b"8BPS": "Photoshop",
}
_PICTURE_BRANDS: Final = (b"heic", b"heix", b"mif1", b"avif", b"heim", b"heis")
_PLAYLISTS: Final = (b"#EXTM3U", b"ffconcat", b"v=0", b"[playlist]", b"<?xml", b"<MPD", b"http")
_UNREADABLE_IN_A_ROW: Final = 50

if TYPE_CHECKING:
    AnyPacket = Packet[Any]
else:  # PyAV's packet is generic in its stubs alone
    AnyPacket = Packet

av.logging.set_level(None)


def open_source(path: Path, *, only: tuple[int, ...] | None = None) -> InputContainer:
    """Open a local media file.

    Args:
        path: The file; it is never written to.
        only: Indexes of the streams that will be read; the reader skips the bytes of the others.

    Raises:
        DecodeError: The file is missing, empty, unreadable, or broken.
        UnsupportedMediaError: The file is a picture or names other files.
    """
    head = _read_head(path)
    _refuse_by_head(path, head)
    # The address form keeps names such as "concat:a" or "http:b" from being anything but a file.
    address = f"file:{path.resolve()}"
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        container = av.open(address, "r", options=options, metadata_errors="replace")
    except (av.FFmpegError, UnicodeError) as error:
        raise DecodeError(_describe_refusal(path, head, error)) from error
    if only is not None:
        for stream in container.streams:
            if stream.index not in only:
                stream.discard = Discard.all
    return container


def read_packets(container: InputContainer, *streams: Stream) -> Iterator[AnyPacket]:
    """Give the packets of some streams in file order, going on after unreadable places.

    The last packets are empty, one a stream: they flush the decoders.
    """
    unreadable = 0
    while True:
        try:
            for packet in container.demux(*streams):
                unreadable = 0
                yield packet
        except (av.InvalidDataError, av.error.OSError):
            unreadable += 1
            if unreadable < _UNREADABLE_IN_A_ROW:
                continue
            for stream in streams:
                flush: AnyPacket = Packet()
                flush.stream = stream
                yield flush
        return


def _read_head(path: Path) -> bytes:
    if os.path.isdir(path):  # unlike Path.is_dir, not an error where the folder may not be read
        raise DecodeError(f"{path} is a folder, expected a media file")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as error:
        raise DecodeError(f"{path} does not exist; check the name and the folder") from error
    except OSError as error:
        raise DecodeError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if not head:
        raise DecodeError(f"{path} is empty; copy it again from where it came from")
    return head


def _refuse_by_head(path: Path, head: bytes) -> None:
    kind = next((name for magic, name in _PICTURES.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "WebP"
    if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
        kind = "HEIF or AVIF"
    if kind is not None:
        raise UnsupportedMediaError(f"{path} is a picture ({kind}), expected a film or a recording")
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_PLAYLISTS):
        raise UnsupportedMediaError(f"{path} is a list of other files or addresses, expected the media file itself")


def _describe_refusal(path: Path, head: bytes, error: Exception) -> str:
    size = os.path.getsize(path)
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide", b"free"):
        return (
            f"{path} is an MP4 or MOV file of {size} bytes without its index; it was cut short "
            "or never finished, so copy or record it again"
        )
    if isinstance(error, av.EOFError):
        return f"{path} ends before its first picture or sound; copy or record it again"
    if not any(byte < 9 for byte in head):
        return f"{path} is a text file, expected a film or a recording"
    return (
        f"{path} is not a media file that can be read ({error.args[1] if len(error.args) > 1 else error}); "
        "expected MP4, MOV, MKV, WebM, AVI, TS or a sound file"
    )
