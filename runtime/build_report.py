"""The report of a job, built from its outcome."""

import resource
import sys
from dataclasses import dataclass, replace
from fractions import Fraction

from runtime.audio.finishing import FinishSummary
from runtime.audio.pipeline import AudioOutcome
from runtime.backend_selection import JobBackends
from runtime.engine.choose import Choice
from runtime.manifest import zoo_folder
from runtime.media.audio_filters import Loudness
from runtime.media.deinterlace import Interlacing
from runtime.media.output_tracks import Tracks
from runtime.media.probe import MediaInfo
from runtime.media.stream_mapping import StreamPlan
from runtime.media.verify import CarriedData, Verification
from runtime.media.video_encoder import EncodeSettings
from runtime.media.video_reader import VideoReader
from runtime.plan import JobPlan, VideoPlan
from runtime.read_back import Pairs, actual_plan, compare_parts, pair_streams
from runtime.report import (
    Action,
    AudioReport,
    AvOffset,
    DamagedPlace,
    EngineFacts,
    FinishReport,
    LoudnessFacts,
    MediaFile,
    Report,
    Speed,
    StageTime,
    StateReset,
    StreamOutcome,
    Tiling,
    VideoFacts,
    VideoReport,
)
from runtime.version import relume_version
from runtime.video.pipeline import PipelineResult
from runtime.video.tile_plan import Canvas


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """The video of the source as it was decoded."""

    facts: VideoFacts
    time_base: Fraction
    interlacing: Interlacing


@dataclass(frozen=True, slots=True)
class VideoOutcome:
    """The enhanced video of a job; `end_pts` is the end of the last frame."""

    plan: VideoPlan
    source: SourceVideo
    settings: EncodeSettings
    canvas: Canvas
    passed: PipelineResult
    end_pts: int | None
    side_data: tuple[CarriedData, ...]
    warnings: tuple[str, ...]
    damage: tuple[DamagedPlace, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished job, before its result gets its name.

    `resumes` counts the earlier attempts; `frames_made`, `stages` (seconds by name) and the times are of the last one.
    """

    plan: JobPlan
    backends: JobBackends
    video: VideoOutcome | None
    audios: tuple[AudioOutcome, ...]
    tracks: Tracks
    check: Verification
    warnings: tuple[str, ...]
    compared: bool
    resumes: int
    wall_s: float
    first_frame_s: float | None
    frames_made: int
    stages: dict[str, float]


def build_report(outcome: Outcome) -> Report:
    """Return the report of a job whose result is complete and is about to get its name."""
    plan, check = outcome.plan, outcome.check
    result = replace(check.info, path=plan.target)
    pairs = pair_streams(plan.streams, result)
    counts = outcome.tracks.copies.counts
    mapped = [actual_plan(one, pairs, result, written=counts, found=check.packets) for one in plan.streams]
    parts = compare_parts(
        plan.info,
        result,
        pairs,
        encoded=[one.index for one in plan.streams if one.action in (Action.ENHANCED, Action.TRANSCODED)],
        side_data=check.side_data,
        start=plan.options.start,
        end=plan.options.end,
    )
    return Report(
        relume=relume_version(),
        preset=plan.preset.preset.name,
        source=_file(plan.info),
        result=_file(result),
        streams=tuple(_stream(plan.info, one, pairs) for one in mapped),
        parts=parts,
        picture=None if outcome.video is None else _video(outcome, outcome.video, result),
        sound=tuple(_audio(outcome, audio) for audio in outcome.audios),
        av_offsets=_offsets(check),
        damage=_damage(outcome),
        engines=tuple(_engines(outcome)),
        compare=str(plan.options.compare) if outcome.compared else None,
        speed=Speed(
            wall_s=round(outcome.wall_s, 3),
            first_frame_s=None if outcome.first_frame_s is None else round(outcome.first_frame_s, 3),
            fps=round(outcome.frames_made / outcome.wall_s, 2) if outcome.frames_made else None,
            peak_memory_bytes=_peak_memory_bytes(),
            stages=tuple(StageTime(name, round(seconds, 3)) for name, seconds in outcome.stages.items()),
        ),
        warnings=tuple(_warnings(outcome)),
        resumes=outcome.resumes,
        check_failures=check.failures,
    )


def describe_source(reader: VideoReader) -> SourceVideo:
    """Return the facts of the source's video that its reader found."""
    colour, stream = reader.colour, reader.stream
    facts = VideoFacts(
        width=reader.width,
        height=reader.height,
        pixel_format=stream.pixel_format,
        bits=stream.bit_depth,
        matrix=colour.matrix,
        primaries=colour.primaries,
        transfer=colour.transfer,
        colour_range="full" if colour.full_range else "limited",
        frame_rate=None if stream.average_rate is None else str(stream.average_rate),
        time_base=str(stream.time_base),
        sample_aspect=str(stream.sample_aspect),
        rotation_degrees=stream.rotation,
        hdr10=stream.hdr is not None,
    )
    return SourceVideo(facts, stream.time_base, reader.interlacing)


def _file(info: MediaInfo) -> MediaFile:
    duration_s = None if info.duration is None else round(float(info.duration), 6)
    return MediaFile(str(info.path), info.container, info.size_bytes, duration_s)


def _stream(info: MediaInfo, plan: StreamPlan, pairs: Pairs) -> StreamOutcome:
    stream = next(stream for stream in info.streams if stream.index == plan.index)
    return StreamOutcome(
        index=plan.index,
        kind=plan.kind,
        codec=plan.codec,
        action=plan.action,
        out_index=pairs[plan.index].index if plan.index in pairs else None,
        out_codec=plan.out_codec,
        language=stream.tags.get("language"),
        reason=plan.reason,
    )


def _video(outcome: Outcome, video: VideoOutcome, result: MediaInfo) -> VideoReport:
    facts, settings, canvas, passed = video.source.facts, video.settings, video.canvas, video.passed
    check, plan, track = outcome.check.video, outcome.plan, outcome.tracks.video
    height, width = canvas.tile_shape
    return VideoReport(
        source=facts,
        result=replace(
            facts,
            width=settings.width,
            height=settings.height,
            pixel_format="" if track is None else track.stream.codec_context.pix_fmt or "",
            bits=settings.bit_depth,
            sample_aspect=facts.sample_aspect if result.video is None else str(result.video.sample_aspect),
            primaries=settings.colour.primaries,
            transfer=settings.colour.transfer,
        ),
        frames_in=len(passed.pts),
        frames_out=check.frames_out if check is not None else 0,
        pts_equal=check is not None and check.pts_equal,
        scale=video.plan.scale.scale,
        scale_reason=video.plan.scale.reason,
        strength=plan.preset.strength,
        grain=plan.preset.grain,
        tiling=Tiling(height, width, canvas.halo, len(canvas.tiles)),
        deinterlaced=video.source.interlacing.interlaced,
        interlace_reason=video.source.interlacing.reason,
        scene_cuts=passed.scene_cuts,
        state_resets=tuple(StateReset(rerun.frame, rerun.tile, rerun.cured) for rerun in passed.reruns),
        kept_tiles=passed.kept_tiles,
    )


def _audio(outcome: Outcome, audio: AudioOutcome) -> AudioReport:
    checks = {check.index: check for check in outcome.check.audios}
    index, summary, strength = audio.index, audio.summary, outcome.plan.preset.strength
    guarded = None if summary is None else round(summary.guarded_share, 4)
    mode = "speech" if summary is not None else "transcoded" if audio.finish is None else "repair"
    measured = checks[index].loudness if index in checks else None
    return AudioReport(
        index=index,
        mode=mode,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        samples_in=audio.samples,
        samples_out=checks[index].samples_out if index in checks else 0,
        strength=strength if summary is not None else None,
        guard_share=guarded,
        mean_effect=None if guarded is None else round(strength * (1 - guarded), 4),
        state_resets=0 if summary is None else summary.non_finite_blocks,
        finish=None if audio.finish is None else _finish(audio.finish, measured),
    )


def _finish(finish: FinishSummary, measured: Loudness | None) -> FinishReport:
    return FinishReport(
        source=_loudness(finish.before),
        result=None if measured is None else _loudness(measured),
        target_lufs=None if finish.target is None else finish.target.lufs,
        ceiling_dbtp=None if finish.target is None else finish.target.true_peak,
        gain_db=finish.gain_db,
        levelled_db=finish.levelled_db,
        is_limited=finish.is_limited,
        is_repaired=finish.repaired,
        hum_hz=finish.hum_hz,
        clipped_share=round(finish.clipped_share, 6),
    )


def _loudness(one: Loudness) -> LoudnessFacts:
    return LoudnessFacts(one.integrated, one.range, one.true_peak)


def _offsets(check: Verification) -> tuple[AvOffset, ...]:
    return tuple(
        AvOffset(audio.index, audio.sample_rate, audio.offset_before, audio.offset_after)
        for audio in check.audios
        if audio.offset_before is not None and audio.offset_after is not None
    )


def _damage(outcome: Outcome) -> tuple[DamagedPlace, ...]:
    in_video = () if outcome.video is None else outcome.video.damage
    return (*in_video, *(place for audio in outcome.audios for place in audio.damage))


def _engines(outcome: Outcome) -> list[EngineFacts]:
    found = []
    backends, video = outcome.backends, outcome.video
    if backends.video is not None and video is not None:
        found.append(_engine(backends.video, video.passed.backend, video.passed.precision))
    summary = next((audio.summary for audio in outcome.audios if audio.summary is not None), None)
    if backends.speech is not None and summary is not None:
        found.append(_engine(backends.speech, summary.backend, backends.speech.backend.precision))
    return found


def _engine(choice: Choice, backend: str, precision: str) -> EngineFacts:
    manifest = choice.model.manifest
    scheme = choice.backend.info.quant_scheme
    file = next(file for file in manifest.files if file.precision == precision and file.fits(scheme))
    return EngineFacts(manifest.name, file.sha256, precision, backend, choice.reason, manifest.licence)


def _warnings(outcome: Outcome) -> list[str]:
    plan, video, tracks = outcome.plan, outcome.video, outcome.tracks
    found = [*_licence(plan), *plan.notes, *outcome.warnings]
    found += () if video is None else video.warnings
    found += tracks.copies.warnings
    found += [] if tracks.video is None else tracks.video.warnings
    for audio in outcome.audios:
        found += audio.warnings
    if video is not None and video.passed.reruns:
        failed = sum(not rerun.cured for rerun in video.passed.reruns)
        found.append(
            f"{len(video.passed.reruns)} tiles were processed again because their output was invalid"
            + (f"; {failed} of them fell back to bicubic upscaling" if failed else "")
        )
    check, suffix = outcome.check.video, plan.target.suffix
    if check is not None and check.rounded_to is not None:
        found.append(f"{suffix} stores times in steps of {check.rounded_to} s; PTS were rounded")
    if check is not None and check.shift_s:
        found.append(f"{suffix} shifted all streams by {float(check.shift_s):+.4f} s")
    return list(dict.fromkeys(found))


def _licence(plan: JobPlan) -> list[str]:
    """Return the licence of a video model that does not ship with Relume."""
    if plan.video is None or plan.video.model.folder.resolve().parent == zoo_folder().resolve():
        return []
    manifest = plan.video.model.manifest
    return [f"model {manifest.name} is your own model; its licence is {manifest.licence}"]


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
