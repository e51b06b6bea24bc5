"""Gives account of a job: from what it held while it ran to the report."""

import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.action import Action
from runtime.audio.pipeline import AudioOutcome
from runtime.engine.choose import Choice
from runtime.manifest import zoo_folder
from runtime.media.probe import MediaInfo, probe
from runtime.media.stream_mapping import StreamPlan
from runtime.read_back import Pairs, compare_parts, pair_streams, true_plan
from runtime.report import (
    AvOffset,
    DamagedPlace,
    EngineFacts,
    MediaFile,
    PictureFacts,
    PictureReport,
    Report,
    SoundReport,
    Speed,
    StageTime,
    StateReset,
    StreamOutcome,
    Tiling,
)
from runtime.version import relume_version

if TYPE_CHECKING:
    from runtime.job import Job


def account(job: "Job", written: Path) -> Report:
    """Write the report of a job whose result is `written`, complete, and is about to get its name."""
    result = replace(probe(written), path=job.work.target)
    wall_s = time.monotonic() - job.started
    frames = job.frames_made
    options = job.work.options
    pairs = pair_streams(job.work.streams, result)
    sent = {} if job.tracks is None else job.tracks.copies.counts
    found = {} if job.check is None else job.check.packets
    plans = [true_plan(plan, pairs, result, written=sent, found=found) for plan in job.work.streams]
    parts = compare_parts(
        job.work.info,
        result,
        pairs,
        encoded=[plan.index for plan in job.work.streams if plan.action in (Action.ENHANCED, Action.TRANSCODED)],
        side_data=() if job.check is None else job.check.side_data,
        start=options.start,
        end=options.end,
    )
    return Report(
        relume=relume_version(),
        preset=job.work.plan.preset.name,
        source=_file(job.work.info),
        result=_file(result),
        streams=tuple(_fate(job, plan, pairs) for plan in plans),
        parts=parts,
        picture=_picture(job, result),
        sound=tuple(_sound(job, sound) for sound in job.sounds),
        av_offsets=_offsets(job),
        damage=_damage(job),
        engines=tuple(_engines(job)),
        compare=str(job.work.options.compare) if job.compared else None,
        speed=Speed(
            wall_s=round(wall_s, 3),
            first_frame_s=None if job.first_frame_s is None else round(job.first_frame_s, 3),
            fps=round(frames / wall_s, 2) if frames else None,
            peak_memory_bytes=_peak_memory_bytes(),
            stages=tuple(StageTime(name, round(seconds, 3)) for name, seconds in job.clock.seconds.items()),
        ),
        warnings=tuple(_warnings(job)),
        resumes=job.resumes,
        check_failures=() if job.check is None else job.check.failures,
    )


def _file(info: MediaInfo) -> MediaFile:
    duration_s = None if info.duration is None else round(float(info.duration), 6)
    return MediaFile(str(info.path), info.container, info.size_bytes, duration_s)


def _fate(job: "Job", plan: StreamPlan, pairs: Pairs) -> StreamOutcome:
    stream = next(stream for stream in job.work.info.streams if stream.index == plan.index)
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


def _picture(job: "Job", result: MediaInfo) -> PictureReport | None:
    reader, settings, canvas, passed = job.reader, job.settings, job.canvas, job.passed
    if reader is None or settings is None or canvas is None or passed is None:
        return None
    check = job.check.pictures if job.check is not None else None
    colour = reader.colour
    rate = reader.stream.average_rate
    facts = PictureFacts(
        width=reader.width,
        height=reader.height,
        pixel_format=reader.stream.pixel_format,
        bits=reader.stream.bit_depth,
        matrix=colour.matrix,
        primaries=colour.primaries,
        transfer=colour.transfer,
        colour_range="full" if colour.full_range else "limited",
        frame_rate=None if rate is None else str(rate),
        time_base=str(reader.stream.time_base),
        sample_aspect=str(reader.stream.sample_aspect),
        rotation_degrees=reader.stream.rotation,
        hdr10=reader.stream.hdr is not None,
    )
    height, width = canvas.tile_shape
    interlacing = reader.interlacing
    return PictureReport(
        source=facts,
        result=replace(
            facts,
            width=settings.width,
            height=settings.height,
            pixel_format=job.tracks.video.stream.codec_context.pix_fmt or "" if job.tracks and job.tracks.video else "",
            bits=settings.bit_depth,
            sample_aspect=facts.sample_aspect if result.video is None else str(result.video.sample_aspect),
            primaries=settings.colour.primaries,
            transfer=settings.colour.transfer,
        ),
        frames_in=len(passed.pts),
        frames_out=check.frames_out if check is not None else 0,
        pts_equal=check is not None and check.pts_equal,
        scale=job.work.scale.scale,
        scale_reason=job.work.scale.reason,
        strength=job.work.plan.strength,
        tiling=Tiling(height, width, canvas.halo, len(canvas.tiles)),
        deinterlaced=interlacing.interlaced,
        interlace_reason=interlacing.reason,
        scene_cuts=passed.scene_cuts,
        state_resets=tuple(StateReset(rerun.frame, rerun.tile, rerun.cured) for rerun in passed.reruns),
    )


def _sound(job: "Job", sound: AudioOutcome) -> SoundReport:
    checks = {check.index: check for check in (job.check.sounds if job.check is not None else ())}
    index, summary = sound.index, sound.summary
    guarded = None if summary is None else round(summary.guarded_share, 4)
    return SoundReport(
        index=index,
        mode="speech" if summary is not None else "transcoded",
        sample_rate=sound.sample_rate,
        channels=sound.channels,
        samples_in=sound.samples,
        samples_out=checks[index].samples_out if index in checks else 0,
        strength=job.work.plan.strength if summary is not None else None,
        guard_share=guarded,
        mean_effect=None if guarded is None else round(job.work.plan.strength * (1 - guarded), 4),
        state_resets=0 if summary is None else summary.non_finite_blocks,
    )


def _offsets(job: "Job") -> tuple[AvOffset, ...]:
    return tuple(
        AvOffset(check.index, check.sample_rate, check.offset_before, check.offset_after)
        for check in (job.check.sounds if job.check is not None else ())
        if check.offset_before is not None and check.offset_after is not None
    )


def _damage(job: "Job") -> tuple[DamagedPlace, ...]:
    return (*job.picture_damage, *(place for sound in job.sounds for place in sound.damage))


def _engines(job: "Job") -> list[EngineFacts]:
    found = []
    picture, voice = job.selection.picture, job.selection.sound
    if picture is not None and job.passed is not None:
        found.append(_engine(picture, job.passed.backend, job.passed.precision))
    sound = next((sound.summary for sound in job.sounds if sound.summary is not None), None)
    if voice is not None and sound is not None:
        found.append(_engine(voice, sound.backend, voice.backend.precision))
    return found


def _engine(choice: Choice, backend: str, precision: str) -> EngineFacts:
    manifest = choice.model.manifest
    scheme = choice.backend.info.quant_scheme
    file = next(file for file in manifest.files if file.precision == precision and file.fits(scheme))
    return EngineFacts(manifest.name, file.sha256, precision, backend, choice.reason, manifest.licence)


def _warnings(job: "Job") -> list[str]:
    found = [*_licence(job), *job.work.notes, *job.warnings, *job.picture_warnings]
    if job.tracks is not None:
        found += job.tracks.copies.warnings
        found += job.tracks.video.warnings if job.tracks.video is not None else []
    for sound in job.sounds:
        found += sound.warnings
    if job.passed is not None and job.passed.reruns:
        failed = sum(not rerun.cured for rerun in job.passed.reruns)
        found.append(
            f"{len(job.passed.reruns)} tiles were run again after the network failed"
            + (f"; {failed} of them show the plain enlargement" if failed else "")
        )
    check = job.check
    if check is not None and check.pictures is not None and check.pictures.rounded_to is not None:
        found.append(
            f"{job.work.target.suffix} holds times in steps of {check.pictures.rounded_to} s; PTS were rounded"
        )
    if check is not None and check.pictures is not None and check.pictures.shift_s:
        found.append(f"{job.work.target.suffix} moved all streams alike by {float(check.pictures.shift_s):+.4f} s")
    return list(dict.fromkeys(found))


def _licence(job: "Job") -> list[str]:
    """Tell under which licence a model is that did not come with Relume."""
    model = job.work.video_model
    if model is None or model.folder.resolve().parent == zoo_folder().resolve():
        return []
    return [f"model {model.manifest.name} is your own; its licence is {model.manifest.licence}"]


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
