"""Each video codec that Relume writes: its encoder, capabilities and options."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from runtime.media.colour import HdrMetadata
from runtime.media.pixel_formats import Chroma
from runtime.options import Speed

Formatter = Callable[[Fraction], str]
CodecName = Literal["h264", "hevc", "av1", "prores", "ffv1"]

_LARGE_PIXELS: Final = 2560 * 1440
_HUGE_PIXELS: Final = 4096 * 4096
_SLICED_PIXELS: Final = 320 * 240
_PRORES_HQ: Final = "3"
_PRORES_4444: Final = "4"
_HUNDRED_THOUSANDTH: Final = 50_000  # chromaticities are counted in 0.00002
_TENTH_OF_MILLI: Final = 10_000  # luminances are counted in 0.0001 cd/m2


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """The capabilities of a codec.

    `containers` are suffixes of the result, the default one first. `even` chromas need sizes that are whole numbers of
    chroma samples.
    """

    name: CodecName
    encoder: str
    containers: tuple[str, ...]
    chromas: tuple[Chroma, ...]
    depths: tuple[int, ...]
    presets: dict[Speed, str]
    crf: int | None
    smallest: int
    needs_whole_chroma: bool


CODECS: Final[dict[CodecName, VideoCodec]] = {
    "h264": VideoCodec(
        "h264", "libx264", (".mp4", ".mov", ".mkv", ".m4v"), ("420", "422", "444"), (8, 10),
        {"fast": "veryfast", "balanced": "medium", "small": "slow"}, 18, 2, True,
    ),
    "hevc": VideoCodec(
        "hevc", "libx265", (".mp4", ".mov", ".mkv", ".m4v"), ("420", "422", "444"), (8, 10),
        {"fast": "superfast", "balanced": "fast", "small": "medium"}, 20, 16, True,
    ),
    "av1": VideoCodec(
        "av1", "libsvtav1", (".mp4", ".mkv", ".webm"), ("420",), (8, 10),
        {"fast": "10", "balanced": "8", "small": "6"}, 28, 16, False,
    ),
    "prores": VideoCodec(
        "prores", "prores", (".mov", ".mkv"), ("422", "444"), (10,), {}, None, 2, False,
    ),
    "ffv1": VideoCodec(
        "ffv1", "ffv1", (".mkv",), ("420", "422", "444"), (8, 10), {}, None, 4, False,
    ),
}  # fmt: skip


def encoder_options(
    codec: VideoCodec,
    *,
    crf: int | None,
    speed: Speed,
    threads: int,
    hdr: HdrMetadata | None,
    chroma: Chroma,
    pixels: int,
) -> dict[str, str]:
    """Return an encoder's options; memory is bounded by short look-ahead, shorter still above 1440 lines."""
    large, huge = pixels > _LARGE_PIXELS, pixels > _HUGE_PIXELS
    options: dict[str, str] = {}
    if codec.presets:
        options["preset"] = codec.presets[speed]
    if codec.crf is not None:
        options["crf"] = str(codec.crf if crf is None else crf)
    if codec.name == "h264":
        # At 3840x2160 the encoder takes 780 MB with 16 frames of look-ahead and 3 B-frames, 330 MB with 2 and 1.
        # At 7680x4320: 1210 MB so, 930 MB with 1 and none.
        bounds = ["rc-lookahead=2", "bframes=1"] if large else ["rc-lookahead=16"]
        bounds = ["rc-lookahead=1", "bframes=0"] if huge else bounds
        options["x264-params"] = ":".join([*bounds, "sync-lookahead=0", *x264_instructions(), *_x264_hdr(hdr)])
    elif codec.name == "hevc":
        # At 3840x2160: 1520 MB with a look-ahead of 10, 1150 MB as here, in 10 bits.
        bounds = [f"pools={threads}", "frame-threads=1", "log-level=none"]
        # At 7680x4320: 2460 MB so, 1870 MB without B-frames.
        order = ["rc-lookahead=1", "bframes=0"] if huge else ["rc-lookahead=3", "bframes=2"]
        bounds += [*order, "b-adapt=0", "ref=1"] if large else ["rc-lookahead=10"]
        options["x265-params"] = ":".join([*bounds, *_x265_hdr(hdr)])
    elif codec.name == "av1":
        # At 3840x2160: 1960 MB with bidirectional prediction, 320 MB without.
        bounds = ["lp=1", "pred-struct=1"] if large else [f"lp={threads}"]
        options["svtav1-params"] = ":".join([*bounds, *_svt_hdr(hdr)])
    elif codec.name == "prores":
        options["profile"] = _PRORES_4444 if chroma == "444" else _PRORES_HQ
    elif codec.name == "ffv1":
        options |= {"level": "3", "slicecrc": "1", "coder": "1"}
        options |= {"slices": "4"} if pixels >= _SLICED_PIXELS else {}
    return options


def carries_hdr(codec: VideoCodec) -> bool:
    """Return whether a codec's own bit stream holds HDR10 values."""
    return codec.name in ("h264", "hevc", "av1")


@lru_cache(maxsize=1)
def x264_instructions() -> tuple[str, ...]:
    """Keep x264 off AVX-512 where the processor has it.

    Its AVX-512 code for macroblock trees reads memory that nothing has written, so that with B-frames the same frames
    give different bytes each time (x264 core 165, seen with `MALLOC_PERTURB_`); AVX2 costs no measurable time.
    """
    table = Path("/proc/cpuinfo")
    if table.is_file() and "avx512f" in table.read_text(errors="replace"):
        return ("asm=avx2,fma3,bmi2,lzcnt",)
    return ()


def _x264_hdr(hdr: HdrMetadata | None) -> list[str]:
    return [
        *([f"mastering-display={_integers(hdr)}"] if hdr is not None and hdr.has_display else []),
        *([f"cll={_light(hdr)}"] if hdr is not None and hdr.max_content_light is not None else []),
    ]


def _x265_hdr(hdr: HdrMetadata | None) -> list[str]:
    if hdr is None:
        return []
    parts = ["repeat-headers=1", "hdr10=1"]
    if hdr.has_display:
        parts.append(f"master-display={_integers(hdr)}")
    if hdr.max_content_light is not None:
        parts.append(f"max-cll={_light(hdr)}")
    return parts


def _svt_hdr(hdr: HdrMetadata | None) -> list[str]:
    if hdr is None:
        return []
    parts = []
    if hdr.has_display:
        parts.append(f"mastering-display={_display(hdr, lambda v: f'{float(v):.5f}', lambda v: f'{float(v):.4f}')}")
    if hdr.max_content_light is not None:
        parts.append(f"content-light={_light(hdr)}")
    return parts


def _integers(hdr: HdrMetadata) -> str:
    return _display(
        hdr,
        lambda value: str(round(value * _HUNDRED_THOUSANDTH)),
        lambda value: str(round(value * _TENTH_OF_MILLI)),
    )


def _display(hdr: HdrMetadata, place: Formatter, light: Formatter) -> str:
    points = {"G": hdr.green, "B": hdr.blue, "R": hdr.red, "WP": hdr.white}
    text = ""
    for name, point in points.items():
        assert point is not None
        text += f"{name}({place(point[0])},{place(point[1])})"
    assert hdr.max_luminance is not None
    assert hdr.min_luminance is not None
    return f"{text}L({light(hdr.max_luminance)},{light(hdr.min_luminance)})"


def _light(hdr: HdrMetadata) -> str:
    return f"{hdr.max_content_light or 0},{hdr.max_frame_average_light or 0}"
