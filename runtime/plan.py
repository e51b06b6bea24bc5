"""What a job will do, decided before anything is written: target, models, scale and the mapping of the streams."""

import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, cast

from runtime.audio.finishing import TARGETS, FinishPlan
from runtime.errors import DecodeError, ManifestError, OptionError, OutputError, UnsupportedMediaError
from runtime.manifest import Model, VideoSpec, find_model
from runtime.media.audio_reader import find_audio
from runtime.media.codecs import CODECS, CodecName
from runtime.media.demux import is_too_large
from runtime.media.muxer import FORMATS, default_suffix, refuse_suffix
from runtime.media.probe import AudioStream, MediaInfo, VideoStream, probe
from runtime.media.sampling import look_ahead
from runtime.media.stream_mapping import StreamPlan, plan_streams
from runtime.media.timecode import find_time_code, time_code_rate
from runtime.media.video_encoder import EncodeSettings, settings_for
from runtime.media.video_reader import VideoReader
from runtime.options import AudioMode, EnhanceOptions
from runtime.presets import ResolvedPreset, ScaleChoice, choose_scale, resolve_preset

MIN_SIDE: Final = 16
# Peak memory of a job in bytes: libraries and engine; per pixel of the network's plane (51 channels of float32 states,
# and those of tiles that wait for their neighbours), of the source (decoded frames, one RGB frame, luma and motion) and
# of the result (one RGB frame, planes, frames in the encoder). Measured at 7680x4320 with `restore` and H.264: 5.8 GB,
# of which the states take 1.6 GB, tiles that wait and the engine 1.0 GB, the RGB frames 0.8 GB and x264 1.0 GB.
_BASE_BYTES: Final = 400 << 20
_BYTES_PER_PLANE_PIXEL: Final = 320
_BYTES_PER_SOURCE_PIXEL: Final = 32
_BYTES_PER_RESULT_PIXEL: Final = 18
_BYTES_PER_ENCODED_PIXEL: Final[dict[CodecName, int]] = {"h264": 32, "hevc": 60, "av1": 17, "prores": 10, "ffv1": 10}
_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
MAX_SPEECH_TRACKS: Final = 16

_AUDIO_SUFFIXES: Final = (".wav", ".flac", ".mp3", ".m4a", ".m4b", ".ogg", ".opus", ".mka")


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """How the video is enhanced; `spec` is the model's."""

    stream: VideoStream
    model: Model
    spec: VideoSpec
    scale: ScaleChoice
    codec: CodecName


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The plan of one job.

    `video` is None where the video is copied or missing. `tracks` are the audio tracks that are processed: `speech` is
    the model that removes their noise, None where it stays, and `finish` what else is done to them, None for nothing.
    `notes` are warnings for the report.
    """

    info: MediaInfo
    target: Path
    options: EnhanceOptions
    preset: ResolvedPreset
    video: VideoPlan | None
    tracks: tuple[AudioStream, ...]
    speech: Model | None
    finish: FinishPlan | None
    streams: tuple[StreamPlan, ...]
    notes: tuple[str, ...] = ()


def plan_job(source: Path, target: Path | None, options: EnhanceOptions) -> JobPlan:
    """Plan everything about a job except the backends of its models.

    Raises:
        OptionError: Options are refused, or leave nothing to do.
        MediaError: The source cannot be read or is of a kind that is not enhanced.
        OutputError: The target is the source, or its suffix does not fit the codec.
    """
    preset = resolve_preset(options)
    info = probe(source)
    stream = None if preset.preset.copies_video else info.video
    start, end = options.start, options.end
    found = {track.index: find_audio(info.path, track, start=start, end=end) for track in info.audios}
    tracks = () if preset.audio is AudioMode.OFF else info.audios
    tracks = tuple(track for track in tracks if found[track.index] == "sound")
    nothing = "it is empty" if start is None and end is None else "it is empty from --start to --end"
    left_out = {index: nothing for index, what in found.items() if what == "nothing"}
    if stream is None and not tracks:
        raise OptionError(_nothing_to_do(info, preset, options, left_out))
    notes: list[str] = []
    if len(tracks) > MAX_SPEECH_TRACKS:
        notes.append(
            f"only the first {MAX_SPEECH_TRACKS} of {len(tracks)} audio tracks were enhanced; "
            "the others were copied unchanged"
        )
        tracks = tracks[:MAX_SPEECH_TRACKS]
    codec = None if preset.codec is None else cast(CodecName, str(preset.codec))
    target = target or _default_target(source, info, None if stream is None else codec)
    _check_target(source, target, None if stream is None else codec)
    video = None
    if stream is not None and codec is not None:
        video = _plan_video(info, stream, codec, preset, options)
    streams = plan_streams(
        info,
        target.suffix.lower(),
        video=None if video is None else video.stream,
        video_codec=codec,
        processed_audio=[track.index for track in tracks],
        left_out=left_out,
        start=options.start,
        end=options.end,
    )
    speech = find_model(preset.preset.audio_model) if tracks and preset.audio.denoises else None
    finish = _plan_finish(preset) if tracks else None
    return JobPlan(info, target, options, preset, video, tracks, speech, finish, streams, tuple(notes))


def encode_settings(plan: JobPlan, video: VideoPlan, reader: VideoReader, *, threads: int) -> EncodeSettings:
    """Return the encoder settings: those of the source at the new size, at the bit depth that the preset requires."""
    settings = settings_for(
        reader,
        video.codec,
        width=reader.width * video.scale.scale,
        height=reader.height * video.scale.scale,
        crf=plan.preset.crf,
        speed=plan.preset.preset.speed,
        threads=threads,
    )
    time_code = find_time_code(plan.info)
    if time_code is not None:
        # Containers count a time code at the frame rate, which is not the mean rate where it varies.
        rate = time_code_rate(time_code, plan.info)
        settings = replace(settings, average_rate=rate or settings.average_rate)
    least = plan.preset.preset.least_bits
    if settings.bit_depth < least and least in CODECS[video.codec].depths:
        settings = replace(settings, bit_depth=least)
    return settings


def expected_frames(plan: JobPlan) -> int | None:
    """Estimate the number of frames that the job will process; None where the source does not declare it."""
    if plan.video is None or plan.video.stream.average_rate is None:
        return None
    stream, rate = plan.video.stream, plan.video.stream.average_rate
    start, end = plan.options.start or Fraction(0), plan.options.end
    if stream.frames is not None and not start and end is None:
        return stream.frames
    duration = plan.info.duration
    if duration is None and end is None:
        return None
    last = min(value for value in (duration, end) if value is not None)
    return max(1, round((last - start) * rate))


def expected_samples(plan: JobPlan) -> int | None:
    """Estimate the number of samples of the first processed track; None where the source does not declare it."""
    if not plan.tracks or plan.info.duration is None:
        return None
    last = min(plan.info.duration, plan.options.end or plan.info.duration)
    return max(1, round((last - (plan.options.start or 0)) * plan.tracks[0].sample_rate))


def _plan_finish(preset: ResolvedPreset) -> FinishPlan | None:
    target = TARGETS.get(preset.loudness)
    if not preset.audio.repairs and target is None:
        return None
    return FinishPlan(repair=preset.audio.repairs, level=preset.audio is AudioMode.FULL, target=target)


def _plan_video(
    info: MediaInfo, stream: VideoStream, codec: CodecName, preset: ResolvedPreset, options: EnhanceOptions
) -> VideoPlan:
    _check_frames(info.path, stream)
    _check_memory(info.path, stream, _BYTES_PER_SOURCE_PIXEL)
    stream = look_ahead(info, stream)
    scale, model = _choose_model(preset, options, stream)
    spec = model.manifest.video
    if spec is None:
        raise ManifestError(f"model {model.manifest.name} is not a video model; its manifest has no video section")
    _check_memory(info.path, stream, bytes_per_pixel(spec, scale.scale, codec))
    return VideoPlan(stream, model, spec, scale, codec)


def bytes_per_pixel(spec: VideoSpec, scale: int, codec: CodecName) -> int:
    """Return the memory that a job takes at its peak for each pixel of the source, in bytes."""
    plane = _BYTES_PER_PLANE_PIXEL // spec.grid**2
    result = (_BYTES_PER_RESULT_PIXEL + _BYTES_PER_ENCODED_PIXEL[codec]) * scale**2
    return plane + _BYTES_PER_SOURCE_PIXEL + result


def _choose_model(preset: ResolvedPreset, options: EnhanceOptions, video: VideoStream) -> tuple[ScaleChoice, Model]:
    """Choose the scale and the preset's model for it; a model named in the options has its own scale."""
    if options.model is None:
        scale = _scale(preset, options, video)
        return scale, find_model(preset.preset.models[scale.scale])
    model = find_model(options.model, options.zoo)
    spec = model.manifest.video
    if spec is None:
        raise OptionError(f"model {options.model} is for {model.manifest.task}, not for video; choose another one")
    if options.scale not in (None, "auto", spec.scale):
        raise OptionError(f"model {options.model} is for scale {spec.scale}, got --scale {options.scale}; remove it")
    return ScaleChoice(spec.scale, f"the scale of model {options.model}"), model


def _scale(preset: ResolvedPreset, options: EnhanceOptions, video: VideoStream) -> ScaleChoice:
    name, models = preset.preset.name, preset.preset.models
    if preset.scale == "auto":
        return choose_scale(video.height, video.width, preset.preset)
    if preset.scale not in models:
        offered = ", ".join(str(factor) for factor in sorted(models))
        raise OptionError(f"preset {name} has no model for scale {preset.scale}; it has {offered}")
    asked = options.scale is not None
    return ScaleChoice(preset.scale, "requested" if asked else f"preset {name} always uses x{preset.scale}")


def _check_frames(source: Path, video: VideoStream) -> None:
    if video.codec == "unknown":
        raise UnsupportedMediaError(f"{source} has video in an unknown codec; convert it to H.264 first")
    if is_too_large(video.width, video.height):
        raise UnsupportedMediaError(
            f"{source} has frames of more than 8192x8192 pixels, or of size 0; scale it down first"
        )
    if min(video.width, video.height) < MIN_SIDE:
        raise UnsupportedMediaError(
            f"{source} has frames of {video.width}x{video.height}, expected at least {MIN_SIDE}x{MIN_SIDE}; "
            "such frames are too small to enhance"
        )


def spare_memory_bytes(video: VideoPlan) -> int:
    """Return the memory that a job leaves unused, which larger tiles may take."""
    pixels = video.stream.width * video.stream.height
    needed = _BASE_BYTES + pixels * bytes_per_pixel(video.spec, video.scale.scale, video.codec)
    return max(0, _memory_bytes() - needed)


def _check_memory(source: Path, video: VideoStream, bytes_each: int) -> None:
    """Refuse frames that need more memory than available, before any work is done."""
    # Small frames need little beside the libraries, which are loaded already.
    needed, there = _BASE_BYTES + video.width * video.height * bytes_each, _memory_bytes()
    if needed > there and needed > 2 * _BASE_BYTES:
        raise UnsupportedMediaError(
            f"{source} has frames of {video.width}x{video.height}, which need about {needed / 1e9:.1f} GB of memory, "
            f"but {there / 1e9:.1f} GB are available; choose a smaller scale, scale the source down first, or use "
            "a machine with more memory"
        )


def _memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or less in a container or under a limit."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # a group without a limit has "max"
            limits.append(int(Path(name).read_text(encoding="ascii")))
    return min([there, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])


def _nothing_to_do(
    info: MediaInfo, preset: ResolvedPreset, options: EnhanceOptions, left_out: Mapping[int, str]
) -> str:
    if preset.audio is not AudioMode.OFF and info.audios and len(left_out) == len(info.audios):
        reason = f"{info.path} has no audio to enhance: {next(iter(left_out.values()))}"
        if options.start is None and options.end is None:
            raise UnsupportedMediaError(reason)
        return reason
    if preset.preset.copies_video:
        return f"{info.path} has no audio that can be read, and preset {preset.preset.name} enhances only audio"
    if info.audios:
        return f"{info.path} has only audio, and the options copy the audio: nothing is left to enhance"
    raise DecodeError(f"{info.path} has no video and no audio that can be read")


def _default_target(source: Path, info: MediaInfo, codec: CodecName | None) -> Path:
    containers: Sequence[str]
    if codec is not None:
        containers = CODECS[codec].containers
    elif info.video is not None:
        containers = (".mkv", *(suffix for suffix in FORMATS if suffix not in _AUDIO_SUFFIXES))
    else:
        containers = (".mka", *_AUDIO_SUFFIXES)
    suffix = default_suffix(source, tuple(containers))
    return source.with_name(f"{source.stem}.relume{suffix}")


def _check_target(source: Path, target: Path, codec: CodecName | None) -> None:
    if target.absolute() == source.absolute() or (os.path.exists(target) and target.samefile(source)):
        raise OutputError(f"the result {target} is the source itself; choose another name with -o")
    suffix = target.suffix.lower()
    refuse_suffix(target)
    if codec is None:
        return
    fitting = CODECS[codec].containers
    if suffix not in fitting:
        raise OptionError(
            f"codec {codec} cannot be stored in {suffix or 'a name without a suffix'}; "
            f"use {' or '.join(fitting)}, or choose another codec"
        )
