"""Which containers are read: every demuxer of the installed FFmpeg but those that are listed here, kind by kind."""

from functools import lru_cache
from typing import Final

import av
from av.format import ContainerFormat

_NO_FILE: Final = 1
"""FFmpeg's AVFMT_NOFILE."""

# Those that open other files or addresses. (What opens devices or a network, or reads pictures by a pattern of
# names, has the flag "no file" and is left out by it.)
_REFERENCES: Final = {
    "applehttp", "concat", "dash", "hls", "imf", "mlv", "mpegtsraw", "rtp", "rtsp", "sap", "sdp", "vobsub",
    "webm_dash_manifest",
}  # fmt: skip
# Text that would be drawn as a film or played as a sound, subtitles, captions and tags: no picture, no sound.
_TEXT: Final = {
    "adf", "aqtitle", "ass", "bin", "dvbsub", "dvbtxt", "ffmetadata", "idf", "jacosub", "lrc", "mcc", "microdvd",
    "mpl2", "mpsub", "pjs", "rcwt", "realtext", "sami", "sbg", "scc", "srt", "stl", "subviewer", "subviewer1", "sup",
    "tedcaptions", "tty", "vplayer", "webvtt", "xbin",
}  # fmt: skip
# Single pictures; the names of most end in "_pipe".
_PICTURES: Final = {"alias_pix", "brender_pix", "fits", "ico", "image2pipe", "msp", "txd"}
# Bare numbers: neither content nor suffix says how they are to be read.
_HEADERLESS: Final = {
    "bitpacked", "codec2raw", "data", "g726", "g726le", "rawvideo", "v210", "v210x", "vidc",
    *(f"{kind}{bits}{order}" for kind in "fsu" for bits in (16, 24, 32, 64) for order in ("be", "le")), "s8", "u8",
}  # fmt: skip

# Demuxers that tell FFmpeg no suffix, or not the usual ones.
_MORE_SUFFIXES: Final = {
    "aac": ".adts", "aiff": ".aif .aiff .aifc", "amr": ".amr .awb", "apng": ".apng", "asf": ".asf .wmv .wma",
    "au": ".au .snd", "avi": ".divx", "caf": ".caf", "dv": ".dif", "gxf": ".gxf", "h263": ".h263", "ivf": ".ivf",
    "loas": ".latm .loas", "mov": ".qt", "mpeg": ".mpg .mpeg .vob .vro .mod .dat .evo",
    "mpegts": ".ts .m2ts .mts .m2t .tod .trp .tp", "mpegvideo": ".m1v .m2v .mpv", "mxf": ".mxf", "nuv": ".nuv",
    "ogg": ".ogg .oga .ogv .ogx .opus .spx", "pva": ".pva", "qcp": ".qcp", "rm": ".rm .rmvb .ra", "sox": ".sox",
    "swf": ".swf", "voc": ".voc", "w64": ".w64", "wav": ".wav .bwf .rf64", "wtv": ".wtv", "wv": ".wv",
    "yuv4mpegpipe": ".y4m",
}  # fmt: skip
# Suffixes that mean something else far more often than what FFmpeg takes them for.
_AMBIGUOUS: Final = {
    ".302", ".art", ".asc", ".avif", ".bit", ".c2", ".cgi", ".dcstr", ".heic", ".heif", ".ism", ".j2k", ".jxl", ".mks",
    ".mpo", ".nc", ".nfo", ".rgb", ".sb", ".str", ".svs", ".sw", ".txt", ".ub", ".uw", ".v", ".vb", ".way", ".xl",
    ".yuv",
}  # fmt: skip
# Their content has no mark, so the suffix decides.
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
    told = {suffix for suffixes in _suffixes_by_demuxer().values() for suffix in suffixes}
    told.add(".webp")  # an animated one, which `runtime.media.webp` unpacks
    return frozenset(told | {suffix for suffix, name in _BY_SUFFIX.items() if name in demuxers()}) - _AMBIGUOUS


def demuxer_by_suffix(suffix: str) -> str | None:
    """Return the demuxer of a file whose content has no mark, None where the content decides."""
    name = _BY_SUFFIX.get(suffix.lower())
    return name if name in demuxers() else None


def demuxer_options(demuxer: str) -> dict[str, str]:
    """Return what FFmpeg has to be told of a format beside its name."""
    return {"sample_rate": "8000"} if demuxer in ("alaw", "mulaw") else {}  # G.711; FFmpeg takes 44.1 kHz


def demuxers_of_suffix(suffix: str) -> list[str]:
    """Return the demuxers that claim a suffix, for content that none of them knows."""
    return [name for name, suffixes in _suffixes_by_demuxer().items() if suffix.lower() in suffixes]


@lru_cache
def _suffixes_by_demuxer() -> dict[str, frozenset[str]]:
    found = {}
    for name in av.formats_available:
        if name.endswith("_pipe") or name in _REFERENCES | _TEXT | _PICTURES | _HEADERLESS:
            continue
        try:
            demuxer = ContainerFormat(name, "r")
        except ValueError:
            continue  # only written
        if demuxer.flags & _NO_FILE:
            continue
        told = {f".{suffix.lower()}" for suffix in demuxer.extensions}
        found[name] = frozenset(told | set(_MORE_SUFFIXES.get(name, "").split()))
    return found
