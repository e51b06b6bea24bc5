"""What a job will do, decided before anything is written: the result's name, the model, and each stream's fate."""

import logging
import os
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeVar, cast

from runtime.engine.choose import Choice, Wish, choose_engine, is_measured, offered_precisions
from runtime.engine.speeds import write_speeds
from runtime.errors import DecodeError, OpenError, OptionError, OutputError, UnsupportedMediaError
from runtime.manifest import Model, find_model
from runtime.media.audio_reader import find_sound
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
from runtime.presets import JobPlan, ScaleChoice, choose_scale, plan_job

LEAST_SIDE = 16
# What a job holds of pictures at once: planes, RGB and states of the source, RGB and planes of the result.
_BYTES_A_PIXEL: Final = 60
_BYTES_A_RESULT_PIXEL: Final = 40
MOST_SOUNDS = 16

_SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".m4b", ".ogg", ".opus", ".mka")


@dataclass(frozen=True, slots=True)
class Work:
    """One job, decided.

    `video` and `video_model` are None where the picture is copied or missing; `sounds` are the tracks whose speech is
    cleaned, by `sound_model`. `notes` are warnings for the report.
    """

    info: MediaInfo
    target: Path
    options: EnhanceOptions
    plan: JobPlan
    video: VideoStream | None
    scale: ScaleChoice
    video_model: Model | None
    sounds: tuple[AudioStream, ...]
    sound_model: Model | None
    streams: tuple[StreamPlan, ...]
    notes: tuple[str, ...] = ()


def plan_work(source: Path, target: Path | None, options: EnhanceOptions) -> Work:
    """Decide everything about a job.

    Raises:
        OptionError: Options are refused, or leave nothing to do.
        MediaError: The source cannot be read or is not something that is enhanced.
        OutputError: The place of the result is the source, or its suffix does not go with the codec.
    """
    plan = plan_job(options)
    info = probe(source)
    video = None if plan.preset.copies_picture else info.video
    start, end = options.start, options.end
    found = {sound.index: find_sound(info.path, sound, start=start, end=end) for sound in info.audios}
    sounds = info.audios if plan.audio is AudioMode.SPEECH else ()
    sounds = tuple(sound for sound in sounds if found[sound.index] == "sound")
    nothing = "nothing in it" if start is None and end is None else "nothing in it from --start to --end"
    left_out = {index: nothing for index, what in found.items() if what == "nothing"}
    if video is None and not sounds:
        raise OptionError(_nothing_to_do(info, plan, options, left_out))
    notes: list[str] = []
    if len(sounds) > MOST_SOUNDS:
        notes.append(
            f"only the first {MOST_SOUNDS} of {len(sounds)} sound tracks were cleaned; the others are as they were"
        )
        sounds = sounds[:MOST_SOUNDS]
    target = target or _default_target(source, info, plan, video)
    _check_target(source, target, plan, video)
    scale = ScaleChoice(1, "the picture is copied")
    model = None
    if video is not None:
        _check_picture(source, video)
        _check_size(source, video, 1)
        video = look_ahead(info.path, video)
        scale, model = _choose_model(plan, options, video)
        _check_size(source, video, scale.scale)
    streams = plan_streams(
        info,
        target.suffix.lower(),
        video=video,
        video_codec=None if plan.codec is None else str(plan.codec),
        processed_audio=[sound.index for sound in sounds],
        left_out=left_out,
        start=options.start,
        end=options.end,
    )
    return Work(
        info=info,
        target=target,
        options=options,
        plan=plan,
        video=video,
        scale=scale,
        video_model=model,
        sounds=sounds,
        sound_model=find_model(plan.preset.audio_model) if sounds else None,
        streams=streams,
        notes=tuple(notes),
    )


def encode_settings(work: Work, reader: VideoReader, *, threads: int) -> EncodeSettings:
    """Return the settings of the result's picture: the source's facts at the new size, at the preset's least depth."""
    assert work.plan.codec is not None
    codec = cast(CodecName, str(work.plan.codec))
    settings = settings_for(
        reader,
        codec,
        width=reader.width * work.scale.scale,
        height=reader.height * work.scale.scale,
        crf=work.plan.crf,
        speed=work.plan.preset.speed,
        threads=threads,
    )
    time_code = find_time_code(work.info)
    if time_code is not None:
        # Containers count a time code at the rate of the pictures, which is not the mean where it varies.
        rate = time_code_rate(time_code, work.info)
        settings = replace(settings, average_rate=rate or settings.average_rate)
    least = work.plan.preset.least_bits
    if settings.bit_depth < least and least in CODECS[codec].depths:
        settings = replace(settings, bit_depth=least)
    return settings


def expected_frames(work: Work) -> int | None:
    """Estimate how many pictures the job will see; None where the source does not tell."""
    video = work.video
    if video is None or video.average_rate is None:
        return None
    start, end = work.options.start or Fraction(0), work.options.end
    if video.frames is not None and not start and end is None:
        return video.frames
    duration = work.info.duration
    if duration is None and end is None:
        return None
    last = min(value for value in (duration, end) if value is not None)
    return max(1, round((last - start) * video.average_rate))


def expected_samples(work: Work) -> int | None:
    """Estimate how many samples the first processed track has; None where the source does not tell."""
    if not work.sounds or work.info.duration is None:
        return None
    last = min(work.info.duration, work.options.end or work.info.duration)
    return max(1, round((last - (work.options.start or 0)) * work.sounds[0].sample_rate))


def _choose_model(plan: JobPlan, options: EnhanceOptions, video: VideoStream) -> tuple[ScaleChoice, Model]:
    """Choose the scale and by it the preset's model; a model that was asked for has its own scale."""
    if options.model is None:
        scale = _scale(plan, options, video)
        return scale, find_model(plan.preset.models[scale.scale])
    model = find_model(options.model, options.zoo)
    spec = model.manifest.video
    if spec is None:
        raise OptionError(f"model {options.model} is for {model.manifest.task}, not for the picture; name another one")
    if options.scale not in (None, "auto", spec.scale):
        raise OptionError(f"model {options.model} is for scale {spec.scale}, got --scale {options.scale}; leave it out")
    return ScaleChoice(spec.scale, f"the scale of model {options.model}"), model


def _scale(plan: JobPlan, options: EnhanceOptions, video: VideoStream) -> ScaleChoice:
    if plan.scale == "auto":
        return choose_scale(video.height, video.width, plan.preset)
    if plan.scale not in plan.preset.models:
        offered = ", ".join(str(factor) for factor in sorted(plan.preset.models))
        raise OptionError(f"preset {plan.preset.name} has no model for scale {plan.scale}; it has {offered}")
    asked = options.scale is not None
    return ScaleChoice(plan.scale, "asked for" if asked else f"preset {plan.preset.name} always takes it")


def _check_picture(source: Path, video: VideoStream) -> None:
    if video.codec == "unknown":
        raise UnsupportedMediaError(f"{source} holds pictures of an unknown codec; convert it to H.264 first")
    if is_too_large(video.width, video.height):
        raise UnsupportedMediaError(
            f"{source} shows pictures of more pixels than 8192x8192 has, or of no size; make them smaller first"
        )
    if min(video.width, video.height) < LEAST_SIDE:
        raise UnsupportedMediaError(
            f"{source} shows pictures of {video.width}x{video.height}, expected at least {LEAST_SIDE}x{LEAST_SIDE}; "
            "there is nothing in it to enhance"
        )


def _check_size(source: Path, video: VideoStream, scale: int) -> None:
    """Refuse pictures for which there is not enough memory, before any work is done."""
    pixels, told = video.width * video.height, f"{source} shows pictures of {video.width}x{video.height}"
    needed, there = pixels * (_BYTES_A_PIXEL + _BYTES_A_RESULT_PIXEL * scale * scale), _memory_bytes()
    if needed > there:
        raise UnsupportedMediaError(
            f"{told}, for which about {needed / 2**30:.1f} GiB of memory are needed, but {there / 2**30:.1f} GiB are "
            "there; make them smaller first, or choose a smaller scale"
        )


def _memory_bytes() -> int:
    """Return the memory that this process may take."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([there, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])


def _nothing_to_do(info: MediaInfo, plan: JobPlan, options: EnhanceOptions, left_out: Mapping[int, str]) -> str:
    if plan.audio is AudioMode.SPEECH and info.audios and len(left_out) == len(info.audios):
        reason = f"{info.path} has no sound to enhance: {next(iter(left_out.values()))}"
        if options.start is None and options.end is None:
            raise UnsupportedMediaError(reason)
        return reason
    if plan.preset.copies_picture:
        return f"{info.path} has no sound that can be read, and preset {plan.preset.name} works on sound alone"
    if info.audios:
        return f"{info.path} has only sound, and the sound is to be copied: nothing is left to enhance"
    raise DecodeError(f"{info.path} has no moving picture and no sound that can be read")


def _default_target(source: Path, info: MediaInfo, plan: JobPlan, video: VideoStream | None) -> Path:
    containers: Sequence[str]
    if video is not None and plan.codec is not None:
        containers = CODECS[cast(CodecName, str(plan.codec))].containers
    elif info.video is not None:
        containers = (".mkv", *(suffix for suffix in FORMATS if suffix not in _SOUND_SUFFIXES))
    else:
        containers = (".mka", *_SOUND_SUFFIXES)
    suffix = default_suffix(source, tuple(containers))
    return source.with_name(f"{source.stem}.relume{suffix}")


def _check_target(source: Path, target: Path, plan: JobPlan, video: VideoStream | None) -> None:
    if target.absolute() == source.absolute() or (os.path.exists(target) and target.samefile(source)):
        raise OutputError(f"the result {target} is the source itself; give another name with -o")
    suffix = target.suffix.lower()
    refuse_suffix(target)
    if video is None or plan.codec is None:
        return
    fitting = CODECS[cast(CodecName, str(plan.codec))].containers
    if suffix not in fitting:
        raise OptionError(
            f"codec {plan.codec} does not go into {suffix or 'a name without suffix'}; "
            f"name the result {' or '.join(fitting)}, or choose another codec"
        )


logger = logging.getLogger(__name__)

_LEAST_UNITS: Final = 400.0
"""A job worth less is done before the measurement has paid off."""
_FIRST_BUDGET_S: Final = 0.2
"""For each way to run the model; there are four to six, and each is opened and run three times at least."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Selection:
    """What runs the picture's model and the sound's; None where the job has no such model."""

    picture: Choice | None
    sound: Choice | None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Those that there are."""
        return tuple(choice for choice in (self.picture, self.sound) if choice is not None)

    def marks(self) -> str:
        """Return for each model what decides its results' last bits: backend, precision and library."""
        used = [(choice.model.manifest.name, choice.backend) for choice in self.choices]
        return "; ".join(f"{model} on {one.name} in {one.precision} by {one.library}" for model, one in used)


def read_marks(text: str) -> dict[str, Wish]:
    """Read what `Selection.marks` wrote, as wishes by the model's name; another text holds none."""
    wishes = {}
    for name, backend, precision in re.findall(r"([^ ;]+) on ([^ ]+) in ([^ ]+) by", text):
        wishes[name] = Wish(backend, precision)
    return wishes


def run_with_engines(
    work: Work,
    run: Callable[[Selection], Result],
    *,
    threads: int,
    engines: Path | None = None,
    kept: Mapping[str, Wish] | None = None,
) -> Result:
    """Choose what runs a job's models and run it; where a backend does not open, begin again with a safer one.

    Args:
        work: The job; its options hold the user's wish, which wins.
        run: Does the job; it is called again only if it raised `OpenError`.
        threads: CPU threads for the picture.
        engines: The folder of the box's engines and measurements.
        kept: What an earlier attempt with the same options began with, by the model's name.

    Raises:
        OptionError: There is no such backend or precision, or the model has no such file.
        SessionError: What was asked for cannot be used here, or nothing safer can take its place.
    """
    failed: dict[str, OpenError] = {}
    while True:
        selection = select_engines(work, threads=threads, engines=engines, kept=kept, failed=failed)
        try:
            return run(selection)
        except OpenError as error:
            asked = work.options.backend != "auto" and not error.waits
            if asked or error.backend == "cpu" or error.model in failed:
                raise
            logger.warning("model %s begins again on another backend: %s", error.model, error)
            failed[error.model] = error


def select_engines(
    work: Work,
    *,
    threads: int,
    engines: Path | None = None,
    kept: Mapping[str, Wish] | None = None,
    failed: Mapping[str, OpenError] | None = None,
) -> Selection:
    """Choose what runs a job's models, as `run_with_engines`; `failed` tells what could not be opened."""
    wish = Wish(work.options.backend, work.options.precision)
    if work.video_model is not None and not (failed or kept):
        _measure_first(work.video_model, work, wish, engines)

    def choose(model: Model, wish: Wish, threads: int) -> Choice:
        name = model.manifest.name
        error = (failed or {}).get(name)
        if error is None:
            return choose_engine(model, wish, threads=threads, engines=engines, kept=(kept or {}).get(name))
        wish = replace(wish, backend="auto")
        choice = choose_engine(model, wish, threads=threads, engines=engines, without=error.backend)
        return replace(choice, reason=f"in place of {error.backend}: {error}")

    return Selection(
        # One thread keeps up with sound many times over; the cores belong to the picture.
        picture=None if work.video_model is None else choose(work.video_model, wish, threads),
        sound=None if work.sound_model is None else choose(work.sound_model, _for_sound(work, wish), 1),
    )


def _measure_first(model: Model, work: Work, wish: Wish, engines: Path | None) -> None:
    """Measure the picture's model before the first job that is long enough: the safe choice is often half as fast.

    It takes a second or two, and is kept for later jobs where `relume doctor` keeps it.
    """
    from runtime.engine.benchmark import measure_model

    if engines is None or wish.backend != "auto" or _work_units(work) < _LEAST_UNITS or is_measured(model, engines):
        return
    logger.info("model %s was not measured here yet: looking for what runs it fastest", model.manifest.name)
    speeds = measure_model(model, budget_s=_FIRST_BUDGET_S)
    try:
        write_speeds(engines, speeds)
    except OutputError as error:
        logger.warning("what was measured cannot be kept, so the job takes the safe choice: %s", error)


def _work_units(work: Work) -> float:
    """Return how many frames of the usual size, 320x180, a job is worth."""
    frames = expected_frames(work)
    if frames is None or work.video is None:
        return 0.0
    return frames * work.video.width * work.video.height / (320 * 180)


def _for_sound(work: Work, wish: Wish) -> Wish:
    """Return the wish for the sound; a precision that it does not offer was meant for the picture."""
    assert work.sound_model is not None
    if work.video_model is None or wish.precision in ("auto", *offered_precisions(work.sound_model)):
        return wish
    return replace(wish, precision="auto")
