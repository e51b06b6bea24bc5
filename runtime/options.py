"""Options of a job."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

from runtime.errors import OptionError

Scale = Literal["auto", 1, 2, 4]

Speed = Literal["fast", "balanced", "small"]
"""Encoder speed: slower encoding gives a smaller file at the same quality."""

DEFAULT_PRESET = "upscale"

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)


class AudioMode(StrEnum):
    """Audio processing."""

    SPEECH = "speech"
    """Speech is denoised."""
    REPAIR = "repair"
    """Hum, clicks and clipping are repaired; noise and music stay as they are."""
    FULL = "full"
    """Speech is repaired and denoised, and speakers are brought to a similar level."""
    OFF = "off"
    """Audio is copied bit for bit."""

    @property
    def repairs(self) -> bool:
        """Whether hum, clicks and clipping are repaired."""
        return self in (AudioMode.REPAIR, AudioMode.FULL)

    @property
    def denoises(self) -> bool:
        """Whether a speech network removes noise."""
        return self in (AudioMode.SPEECH, AudioMode.FULL)


class LoudnessStandard(StrEnum):
    """Loudness to which audio is brought."""

    OFF = "off"
    EBU = "ebu"
    """EBU R 128: -23 LUFS, at most -1 dBTP."""
    ATSC = "atsc"
    """ATSC A/85: -24 LUFS, at most -2 dBTP."""
    PODCAST = "podcast"
    """-16 LUFS, at most -1 dBTP."""


class Codec(StrEnum):
    """Codec of the enhanced video."""

    H264 = "h264"
    HEVC = "hevc"
    AV1 = "av1"
    PRORES = "prores"
    FFV1 = "ffv1"


CRF_RANGES = {Codec.H264: range(52), Codec.HEVC: range(52), Codec.AV1: range(64)}
"""The range of the constant rate factor of a codec; the other codecs have none."""


@dataclass(frozen=True, slots=True)
class EnhanceOptions:
    """The options of one job; None means the preset's value.

    `model` replaces the preset's video model; it is searched for in `zoo`, a folder of the owner's own models, or among
    those that ship. `grain` is the share of the removed noise that comes back as film grain. `allow_damaged` enhances a
    damaged source as far as it can be read, instead of refusing it. `keep_unverified` gives the result its name even if
    its verification failed. `start` and `end` are seconds of the source's time line, `start` included and `end` not.
    """

    preset: str = DEFAULT_PRESET
    scale: Scale | None = None
    audio: AudioMode | None = None
    strength: float | None = None
    grain: float | None = None
    loudness: LoudnessStandard | None = None
    backend: str = "auto"
    precision: str = "auto"
    codec: Codec | None = None
    crf: int | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    overwrite: bool = False
    allow_damaged: bool = False
    keep_unverified: bool = False
    compare: Path | None = None
    threads: int | None = None
    model: str | None = None
    zoo: Path | None = None


def check_options(options: EnhanceOptions) -> None:
    """Check every option by itself; `runtime.presets` checks them against the preset.

    Raises:
        OptionError: An option is outside its range.
    """
    if options.scale is not None and options.scale not in get_args(Scale):
        raise OptionError(f"scale is {options.scale}, expected auto, 1, 2 or 4")
    strength = options.strength
    if strength is not None and not (math.isfinite(strength) and 0.0 <= strength <= 1.0):
        raise OptionError(f"strength is {strength}, expected 0 (no effect) to 1 (full effect)")
    if options.grain is not None and not (math.isfinite(options.grain) and 0.0 <= options.grain <= 1.0):
        raise OptionError(f"grain is {options.grain}, expected 0 (none) to 1 (all that was removed)")
    if options.threads is not None and options.threads < 1:
        raise OptionError(f"threads is {options.threads}, expected 1 or more")
    if options.zoo is not None and options.model is None:
        raise OptionError(f"--zoo {options.zoo} selects a folder of models but no model; select one with --model")
    _check_times(options.start, options.end)


def check_crf(codec: Codec, crf: int) -> None:
    """Check a constant rate factor against its codec.

    Raises:
        OptionError: It is out of the codec's range, or the codec has none.
    """
    allowed = CRF_RANGES.get(codec)
    if allowed is None:
        raise OptionError(f"codec {codec} has no crf; remove --crf, or choose h264, hevc or av1")
    if crf not in allowed:
        raise OptionError(f"crf is {crf}, expected 0 to {allowed.stop - 1} for codec {codec}")


def parse_scale(text: str) -> Scale:
    """Read a scale.

    Raises:
        OptionError: The text is neither auto nor 1, 2 or 4.
    """
    scales: dict[str, Scale] = {"auto": "auto", "1": 1, "2": 2, "4": 4}
    if text not in scales:
        raise OptionError(f"scale is {text}, expected auto, 1, 2 or 4")
    return scales[text]


def parse_time(text: str) -> Fraction:
    """Read seconds, mm:ss or hh:mm:ss, each with an optional decimal fraction, exactly.

    Raises:
        OptionError: The text is not such a time.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"time {text!r} is not readable, expected seconds, mm:ss or hh:mm:ss such as 01:02:03.5")
    hours, minutes, seconds = match.groups()
    if minutes is not None and (Fraction(seconds) >= 60 or (hours and int(minutes) >= 60)):
        raise OptionError(f"time {text!r} has 60 or more minutes or seconds beside a larger unit")
    return Fraction(hours or 0) * 3600 + Fraction(minutes or 0) * 60 + Fraction(seconds)


def _check_times(start: Fraction | None, end: Fraction | None) -> None:
    if start is not None and start < 0:
        raise OptionError(f"start is {float(start):g} s, expected 0 or later")
    if end is not None and end <= (start or 0):
        raise OptionError(f"end is {float(end):g} s, expected later than the start ({float(start or 0):g} s)")
