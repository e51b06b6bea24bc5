"""The supported containers: every demuxer of the installed FFmpeg except those listed here by kind."""

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import av
from av.container import InputContainer
from av.format import ContainerFormat

_NO_FILE: Final = 1
"""FFmpeg's AVFMT_NOFILE."""

# Demuxers that open other files or addresses. (Those that open devices or a network, or read frames by a pattern of
# names, have the flag "no file" and are excluded by it.)
_REFERENCES: Final = {
    "applehttp", "concat", "dash", "hls", "imf", "mlv", "mpegtsraw", "rtp", "rtsp", "sap", "sdp", "vobsub",
    "webm_dash_manifest",
}  # fmt: skip
# Text that would be rendered as video or played as audio, subtitles, captions and tags: no video, no audio.
_TEXT: Final = {
    "adf", "aqtitle", "ass", "bin", "dvbsub", "dvbtxt", "ffmetadata", "idf", "jacosub", "lrc", "mcc", "microdvd",
    "mpl2", "mpsub", "pjs", "rcwt", "realtext", "sami", "sbg", "scc", "srt", "stl", "subviewer", "subviewer1", "sup",
    "tedcaptions", "tty", "vplayer", "webvtt", "xbin",
}  # fmt: skip
# Still images; the names of most end in "_pipe".
_IMAGES: Final = {"alias_pix", "brender_pix", "fits", "ico", "image2pipe", "msp", "txd"}
# Raw samples: neither content nor suffix tells how to read them.
_HEADERLESS: Final = {
    "bitpacked", "codec2raw", "data", "g726", "g726le", "rawvideo", "v210", "v210x", "vidc",
    *(f"{kind}{bits}{order}" for kind in "fsu" for bits in (16, 24, 32, 64) for order in ("be", "le")), "s8", "u8",
}  # fmt: skip

# Demuxers that declare no suffix, or not the usual ones.
_MORE_SUFFIXES: Final = {
    "aac": ".adts", "aiff": ".aif .aiff .aifc", "amr": ".amr .awb", "apng": ".apng", "asf": ".asf .wmv .wma",
    "au": ".au .snd", "avi": ".divx", "caf": ".caf", "dv": ".dif", "gxf": ".gxf", "h263": ".h263", "ivf": ".ivf",
    "loas": ".latm .loas", "mov": ".qt", "mpeg": ".mpg .mpeg .vob .vro .mod .dat .evo",
    "mpegts": ".ts .m2ts .mts .m2t .tod .trp .tp", "mpegvideo": ".m1v .m2v .mpv", "mxf": ".mxf", "nuv": ".nuv",
    "ogg": ".ogg .oga .ogv .ogx .opus .spx", "pva": ".pva", "qcp": ".qcp", "rm": ".rm .rmvb .ra", "sox": ".sox",
    "swf": ".swf", "voc": ".voc", "w64": ".w64", "wav": ".wav .bwf .rf64", "wtv": ".wtv", "wv": ".wv",
    "yuv4mpegpipe": ".y4m",
}  # fmt: skip
# Suffixes that usually mean something other than what FFmpeg assumes.
_AMBIGUOUS: Final = {
    ".302", ".art", ".asc", ".avif", ".bit", ".c2", ".cgi", ".dcstr", ".heic", ".heif", ".ism", ".j2k", ".jxl", ".mks",
    ".mpo", ".nc", ".nfo", ".rgb", ".sb", ".str", ".svs", ".sw", ".txt", ".ub", ".uw", ".v", ".vb", ".way", ".xl",
    ".yuv",
}  # fmt: skip
# Their content has no signature, so the suffix decides.
_BY_SUFFIX: Final = {
    ".722": "g722", ".al": "alaw", ".alaw": "alaw", ".aptx": "aptx", ".aptxhd": "aptx_hd", ".dfpwm": "dfpwm",
    ".g722": "g722", ".g723_1": "g723_1", ".g728": "g728", ".g729": "g729", ".gsm": "gsm", ".msbc": "sbc",
    ".mulaw": "mulaw", ".sbc": "sbc", ".sln": "sln", ".ul": "mulaw", ".ulaw": "mulaw",
}  # fmt: skip


@lru_cache
def demuxers() -> tuple[str, ...]:
    """Return the names of the demuxers that are used, as FFmpeg's `format_whitelist` takes them."""
    return tuple(sorted(_suffixes_by_demuxer()))


@lru_cache
def media_suffixes() -> frozenset[str]:
    """Return the suffixes of files that can be read, such as `.mp4`."""
    suffixes = {suffix for suffixes in _suffixes_by_demuxer().values() for suffix in suffixes}
    suffixes.add(".webp")  # animated ones, which `runtime.media.webp` unpacks
    return frozenset(suffixes | {suffix for suffix, name in _BY_SUFFIX.items() if name in demuxers()}) - _AMBIGUOUS


def demuxer_by_suffix(suffix: str) -> str | None:
    """Return the demuxer of a file whose content has no signature; None if the content decides."""
    name = _BY_SUFFIX.get(suffix.lower())
    return name if name in demuxers() else None


def demuxer_options(demuxer: str) -> dict[str, str]:
    """Return the options that FFmpeg needs for a format besides its name."""
    return {"sample_rate": "8000"} if demuxer in ("alaw", "mulaw") else {}  # G.711; FFmpeg assumes 44.1 kHz


def demuxers_of_suffix(suffix: str) -> list[str]:
    """Return the demuxers that claim a suffix, for content that no demuxer recognises."""
    return [name for name, suffixes in _suffixes_by_demuxer().items() if suffix.lower() in suffixes]


@lru_cache
def _suffixes_by_demuxer() -> dict[str, frozenset[str]]:
    found = {}
    for name in av.formats_available:
        if name.endswith("_pipe") or name in _REFERENCES | _TEXT | _IMAGES | _HEADERLESS:
            continue
        try:
            demuxer = ContainerFormat(name, "r")
        except ValueError:
            continue  # only written
        if demuxer.flags & _NO_FILE:
            continue
        suffixes = {f".{suffix.lower()}" for suffix in demuxer.extensions}
        found[name] = frozenset(suffixes | set(_MORE_SUFFIXES.get(name, "").split()))
    return found


_ENCRYPTED: Final = (b"encv", b"enca", b"drmi", b"drms", b"aavd")
"""Sample entries of MP4 and MOV tracks that are encrypted: common encryption, iTunes, Audible."""
_MOST_TRACKS: Final = 1000
_TS_PACKETS: Final = 500
"""Packets examined at each position of a transport stream."""


def is_encrypted(handle: int, container: InputContainer) -> bool:
    """Return True if a file that is open at a descriptor holds encrypted video or audio."""
    names = container.format.name.split(",")
    if "mov" in names:
        return any(entry in _ENCRYPTED for entry in _sample_entries(handle))
    if "mpegts" in names:
        return _is_scrambled(handle, {stream.id for stream in container.streams if stream.type in ("video", "audio")})
    return any("enc_key_id" in stream.metadata for stream in container.streams)  # Matroska


def _sample_entries(handle: int) -> list[bytes]:
    """Return the four-character code of each track's samples in an MP4 or MOV file."""
    size = os.fstat(handle).st_size
    # The first one: a live recording has thousands of boxes after it.
    moov = next((box for box in walk_boxes(handle, 0, size) if box[0] == b"moov"), None)
    found: list[bytes] = []
    todo = [] if moov is None else [moov[1:]]
    while todo and len(found) < _MOST_TRACKS:
        for kind, inner, after in walk_boxes(handle, *todo.pop()):
            if kind in (b"trak", b"mdia", b"minf", b"stbl"):
                todo.append((inner, after))
            elif kind == b"stsd":
                found.append(os.pread(handle, 16, inner)[12:16])
    return found


def walk_boxes(handle: int, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind, the start of the content and the end of each box of an MP4 or MOV file."""
    for _ in range(100_000):
        header = os.pread(handle, 16, begin)
        if begin + 8 > end or len(header) < 8:
            return
        (length,) = struct.unpack_from(">I", header)
        inner = begin + 8
        if length == 1 and len(header) == 16:
            (length,) = struct.unpack_from(">Q", header, 8)
            inner = begin + 16
        after = end if length == 0 else begin + length
        if after < inner:
            return
        yield header[4:8], inner, min(after, end)
        begin = after


def _is_scrambled(handle: int, streams: set[int]) -> bool:
    """Return True if the video and audio of a transport stream are scrambled at every sampled position."""
    size = os.fstat(handle).st_size
    for length, offset in ((188, 0), (192, 4)):
        if [os.pread(handle, 1, offset + length * number) for number in range(3)] != [b"G"] * 3:
            continue
        # Recordings may begin scrambled and become clear as soon as the receiver has the key.
        places = {size * part // 8 // length * length for part in range(8)}
        looks = [os.pread(handle, length * _TS_PACKETS, place)[offset:] for place in places]
        counts = [
            (scrambled, filled) for scrambled, filled in (_count(data, length, streams) for data in looks) if filled
        ]
        return bool(counts) and all(2 * scrambled > filled for scrambled, filled in counts)
    return False


def _count(data: bytes, length: int, streams: set[int]) -> tuple[int, int]:
    """Count the scrambled packets of some streams, and all packets with a payload."""
    scrambled = filled = 0
    for at in range(0, len(data) - 4, length):
        sync, high, low, flags = data[at : at + 4]
        if sync == 0x47 and flags & 0x10 and ((high & 0x1F) << 8 | low) in streams:
            filled += 1
            scrambled += flags & 0x80 != 0
    return scrambled, filled
