"""Named presets, and their combination with a job's own options."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, Literal

from runtime.errors import OptionError
from runtime.options import (
    AudioMode,
    Codec,
    EnhanceOptions,
    LoudnessStandard,
    Scale,
    Speed,
    check_crf,
    check_options,
)

Factor = Literal[1, 2, 4]

MAX_AUTO_LINES: Final = 2160
MAX_AUTO_COLUMNS: Final = 4096


_LIGHT: Final[Mapping[Factor, str]] = MappingProxyType({1: "light-restore", 2: "light-x2", 4: "light-x4"})
_NO_VIDEO: Final[Mapping[Factor, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Preset:
    """A named way to enhance.

    `models` names the zoo's video model for each scale that the preset offers; none means that
    the video is copied. `auto_limit` is the largest scale that `--scale auto` chooses. `least_bits` is the minimum bit
    depth of the result; a deeper source keeps its own.
    With `keeps_static` tiles that do not change, as before a fixed camera, are not computed again for every frame.
    """

    name: str
    title: str
    sentence: str
    models: Mapping[Factor, str] = field(default_factory=lambda: _LIGHT)
    scale: Scale = "auto"
    auto_limit: Factor = 4
    codec: Codec | None = Codec.H264
    crf: int | None = None
    speed: Speed = "fast"
    least_bits: Literal[8, 10] = 8
    audio: AudioMode = AudioMode.SPEECH
    loudness: LoudnessStandard = LoudnessStandard.OFF
    strength: float = 1.0
    grain: float = 0.0
    audio_model: str = "speech-mask"
    keeps_static: bool = False

    @property
    def copies_video(self) -> bool:
        """Return whether the video is copied instead of enhanced."""
        return not self.models


@dataclass(frozen=True, slots=True)
class ScaleChoice:
    """A scale and the reason for it, for the report."""

    scale: Factor
    reason: str


@dataclass(frozen=True, slots=True)
class ResolvedPreset:
    """A preset with the options of a job applied.

    Only an automatic scale is still open; `crf` None is the codec's default. `codec` is None if video is copied.
    """

    preset: Preset
    scale: Scale
    codec: Codec | None
    crf: int | None
    audio: AudioMode
    loudness: LoudnessStandard
    strength: float
    grain: float = 0.0


_SOUND_ONLY: Final = Preset(
    name="sound-only",
    title="Audio only",
    sentence="Removes background noise from speech; video is copied unchanged.",
    models=_NO_VIDEO,
    scale=1,
    auto_limit=1,
    codec=None,
)

_TABLE = (
    Preset(
        name="upscale",
        title="Upscale",
        sentence="Upscales video up to 4K and removes background noise from speech.",
        crf=18,
    ),
    Preset(
        name="restore",
        title="Restore",
        sentence="Removes noise and compression artefacts at the original size; cleans speech.",
        scale=1,
        auto_limit=1,
        crf=18,
    ),
    Preset(
        name="surveillance",
        title="CCTV and low light",
        sentence="Removes noise, upscales up to 2× and makes voices clearer.",
        auto_limit=2,
        codec=Codec.HEVC,
        crf=22,
        keeps_static=True,
    ),
    Preset(
        name="archive",
        title="Archive (lossless)",
        sentence="Light cleaning at the original size; audio unchanged, video stored losslessly.",
        scale=1,
        auto_limit=1,
        codec=Codec.FFV1,
        speed="balanced",
        least_bits=10,
        audio=AudioMode.OFF,
        strength=0.7,
        grain=0.5,
    ),
    Preset(
        name="studio",
        title="For editing (ProRes)",
        sentence="Upscales up to 4K into 10-bit ProRes for editing software.",
        codec=Codec.PRORES,
        speed="balanced",
        least_bits=10,
    ),
    _SOUND_ONLY,
    replace(
        _SOUND_ONLY,
        name="speech",
        title="Podcast and interview",
        sentence="Repairs speech, removes noise, evens out speakers and sets podcast loudness; video is copied.",
        audio=AudioMode.FULL,
        loudness=LoudnessStandard.PODCAST,
    ),
    replace(
        _SOUND_ONLY,
        name="dialogue-for-video",
        title="Dialogue for broadcast",
        sentence="Repairs speech, removes noise, evens out speakers and sets EBU R 128 loudness; video is copied.",
        audio=AudioMode.FULL,
        loudness=LoudnessStandard.EBU,
    ),
    replace(
        _SOUND_ONLY,
        name="music-safe",
        title="Music and concerts",
        sentence="Removes hum, clicks and clipping and leaves everything else as it is; video is copied.",
        audio=AudioMode.REPAIR,
    ),
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({entry.name: entry for entry in _TABLE})


def find_preset(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        OptionError: There is no such preset.
    """
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise OptionError(f"no preset named {name!r}; {hint}there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def resolve_preset(options: EnhanceOptions) -> ResolvedPreset:
    """Apply the options of a job to its preset.

    Raises:
        OptionError: An option is outside its range, or conflicts with the preset or another one.
    """
    check_options(options)
    preset = find_preset(options.preset)
    audio = options.audio or preset.audio
    loudness = options.loudness or preset.loudness
    if audio is AudioMode.OFF:
        if options.loudness not in (None, LoudnessStandard.OFF):
            raise OptionError(
                f"--audio off copies the audio, so its loudness cannot be set to {options.loudness}; "
                "leave --loudness out or choose another --audio"
            )
        loudness = LoudnessStandard.OFF
    strength = preset.strength if options.strength is None else options.strength
    if preset.copies_video:
        _refuse_video_options(options, preset)
        if audio is AudioMode.OFF:
            raise OptionError(
                f"preset {preset.name} copies the video and --audio off copies the audio: nothing is left to enhance"
            )
        return ResolvedPreset(preset, 1, None, None, audio, loudness, strength)
    scale = preset.scale if options.scale is None else options.scale
    codec = options.codec or preset.codec
    assert codec is not None
    crf = _choose_crf(options, preset, codec)
    grain = preset.grain if options.grain is None else options.grain
    return ResolvedPreset(preset, scale, codec, crf, audio, loudness, strength, grain)


def choose_scale(height: int, width: int, preset: Preset) -> ScaleChoice:
    """Choose the scale of `--scale auto`: the largest that the preset offers and that fits 4K.

    The result never has more than 2160 lines because of it; a source that has more keeps its size.
    """
    fitting = [
        factor
        for factor in sorted(preset.models)
        if factor <= preset.auto_limit and height * factor <= MAX_AUTO_LINES and width * factor <= MAX_AUTO_COLUMNS
    ]
    scale = fitting[-1] if fitting else 1
    size = f"{width}x{height}"
    if scale == preset.auto_limit:
        return ScaleChoice(scale, f"{size}: x{scale} is the maximum of preset {preset.name}")
    larger = min(factor for factor in preset.models if factor > scale)
    return ScaleChoice(
        scale,
        f"{size}: x{larger} would be {width * larger}x{height * larger}, over the automatic limit "
        f"of {MAX_AUTO_COLUMNS}x{MAX_AUTO_LINES}",
    )


def _choose_crf(options: EnhanceOptions, preset: Preset, codec: Codec) -> int | None:
    if options.crf is not None:
        check_crf(codec, options.crf)
        return options.crf
    return preset.crf if codec is preset.codec else None


def _refuse_video_options(options: EnhanceOptions, preset: Preset) -> None:
    values = {
        "--codec": options.codec,
        "--crf": options.crf,
        "--compare": options.compare,
        "--model": options.model,
        "--grain": options.grain,
    }
    given = [name for name, value in values.items() if value is not None]
    if options.scale not in (None, 1, "auto"):
        given.append("--scale")
    if given:
        raise OptionError(
            f"preset {preset.name} copies the video, so {' and '.join(given)} cannot be used; "
            "remove it, or choose another preset"
        )
