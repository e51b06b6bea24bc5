"""A job in a workspace: sound and picture made durable piece by piece, merged at the end, gone on with after a crash.

The journey of a frame is that of `runtime.enhance`, but that its packets end in a segment's file; the last part of the
job reads those files, merges them with what is copied, checks the result and gives it its name.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from runtime.action import Action
from runtime.atomic_files import mark_file, told_errors
from runtime.build_report import account
from runtime.errors import DecodeError
from runtime.job import (
    Job,
    Teller,
    check_result,
    copied_packets,
    draw_comparison,
    open_audio_pipeline,
    open_pictures,
    open_video_pipeline,
    plan_job_canvas,
    refuse_damage,
    refuse_unverified,
)
from runtime.media.audio_codecs import choose_audio
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.demux import AnyPacket
from runtime.media.media_info import AudioStream
from runtime.media.muxer import Muxer, begins_at_zero, open_scratch, partial_path, refuse_target
from runtime.media.output_tracks import add_tracks
from runtime.media.pixel_formats import YuvFrame
from runtime.media.verify import join_carried
from runtime.options import Progress
from runtime.plan import Selection, Work, encode_settings, read_marks, run_with_engines, select_engines
from runtime.report import Report, damaged_places
from runtime.resume.fingerprint import describe_options, find_facts, find_source
from runtime.resume.packets import PacketHead, PacketReader, PacketWriter, join_segments, read_times
from runtime.resume.position import SourceChangedError, SourceMarks, find_place
from runtime.resume.states import read_snapshot, read_state
from runtime.resume.workspace import PictureEnd, SoundRecord, Workspace
from runtime.resume.writer import SegmentRule, SegmentWriter, usual_rule
from runtime.stages import StopSignal
from runtime.video.fallback import TileRetry
from runtime.video.frames import States
from runtime.video.pipeline import Frame, PipelineResult, ResumePoint


def run_in_segments(
    work: Work,
    folder: Path,
    *,
    rule: SegmentRule | None,
    engines: Path | None,
    on_progress: Callable[[Progress], None] | None,
    cancel: threading.Event | None,
) -> Report:
    """Do a job, or what is left of it, with its work kept in a folder; see `runtime.enhance.enhance`."""
    rule = rule or usual_rule(work.video.average_rate if work.video is not None else None)
    threads = work.options.threads or len(os.sched_getaffinity(0))
    with Workspace(folder) as workspace:

        def run(selection: Selection) -> Report:
            workspace.begin(find_facts(work, selection, rule=rule), target=work.target, threads=threads)
            manifest = workspace.manifest
            if workspace.is_published() and manifest.report is not None:
                workspace.clear()
                return manifest.report
            if manifest.threads != threads:
                # Encoders give other bytes with other threads, so those of the first attempt are kept.
                began_with = read_marks(selection.marks())
                selection = select_engines(work, threads=manifest.threads, engines=engines, kept=began_with)
            job = Job(work, manifest.threads, selection, StopSignal(cancel), resumes=manifest.attempts - 1)
            return _go_on(job, workspace, rule, Teller(job, on_progress))

        # What was measured or built since the job began must not change what it goes on with.
        before = workspace.facts()
        kept = read_marks(before["engine"]) if before.get("options") == describe_options(work) else {}
        return run_with_engines(work, run, threads=threads, engines=engines, kept=kept)


def _go_on(job: Job, workspace: Workspace, rule: SegmentRule, tell: Teller) -> Report:
    """Do what is not durable yet, then merge."""
    work = job.work
    workspace.clear_target()
    _refuse_place(work, workspace)
    tell.stage("opening")
    for stream in work.info.audios:
        _keep_sound(job, workspace, stream, tell)
    with ExitStack() as stack:
        if work.video is not None:
            job.stop = job.stop.renewed()
            _keep_picture(job, workspace, rule, tell, stack)
        job.stop = job.stop.renewed()
        _refuse_change(work.info.path, workspace.manifest.facts["source"])
        return _merge(job, workspace, tell)


def _refuse_change(source: Path, before: str) -> None:
    """Refuse what was read of a source that was written to meanwhile.

    A source that was removed was read whole, and what is to be copied from it will be missed by its name.
    """
    if source.exists() and find_source(source) != before:
        raise DecodeError(f"{source} was changed while it was read; start the job again when it is complete")


def _refuse_place(work: Work, workspace: Workspace) -> None:
    """Check the place of the result before hours of work are done for it."""
    refuse_target(work.target, overwrite=work.options.overwrite)
    trial = partial_path(work.target, workspace.manifest.token)
    with told_errors(work.target.parent):
        trial.touch()
        trial.unlink()


def _keep_sound(job: Job, workspace: Workspace, stream: AudioStream, tell: Teller) -> None:
    """Make one track of sound durable, whole, if it is encoded anew and not there yet."""
    suffix, index = job.work.target.suffix.lower(), stream.index
    plan = next(plan for plan in job.work.streams if plan.index == index)
    if plan.out_codec is None or plan.action is Action.COPIED:
        return
    kept = next((sound for sound in workspace.manifest.sounds if sound.outcome.index == index), None)
    if kept is not None:
        job.sounds.append(kept.outcome)
        tell.samples(kept.outcome.samples)
        return
    tell.stage("enhancing")
    job.stop = job.stop.renewed()
    settings = choose_audio(stream, suffix)
    with ExitStack() as stack:
        container = open_scratch(suffix)
        stack.callback(container.close)
        encoder = AudioEncoder(container, settings, from_zero=begins_at_zero(suffix, settings))
        pipeline = stack.enter_context(open_audio_pipeline(job, index, encoder, tell))
        context = encoder.stream.codec_context
        head = PacketHead(settings.codec, context.time_base, bytes(context.extradata or b""))
        with told_errors(workspace.folder):
            file = stack.enter_context(PacketWriter(workspace.folder / f"sound-{index}.packets", head))
        for packet in pipeline.packets():
            with told_errors(workspace.folder):
                file.write(packet)
        with told_errors(workspace.folder):
            record = SoundRecord(file.finish(), pipeline.outcome())
    workspace.commit(sounds=(*workspace.manifest.sounds, record))
    job.sounds.append(record.outcome)


def _keep_picture(job: Job, workspace: Workspace, rule: SegmentRule, tell: Teller, stack: ExitStack) -> None:
    """Make every picture durable, from the first one that is not."""
    assert job.work.video_model is not None
    assert job.work.video_model.manifest.video is not None
    if workspace.manifest.picture is None:
        pictures = _open_place(job, workspace, tell)
        assert job.reader is not None
        stack.enter_context(job.reader)
        job.settings = encode_settings(job.work, job.reader, threads=job.threads)
        start = _read_start(workspace)
        marks = SourceMarks(len(start.pts))
        writer = SegmentWriter(
            workspace,
            job.settings,
            suffix=job.work.target.suffix.lower(),
            rule=rule,
            marks=marks,
            is_plain=lambda: job.reader is not None and job.reader.is_plain,
            snapshot=start.snapshot,
        )
        tell.stage("enhancing")
        tell.begin_frames(len(start.pts))
        source = marks.watch(refuse_damage(job.reader, pictures, job.work))
        with writer, open_video_pipeline(job, source, writer, tell, segmenter=writer, start=start) as video:
            for _ in video.packets():
                pass
            writer.finish(video.passed(), PictureEnd(tuple(job.reader.warnings), damaged_places(job.reader.holes)))
    else:
        job.reader = stack.enter_context(open_pictures(job))
        job.settings = encode_settings(job.work, job.reader, threads=job.threads)
        tell.begin_frames(workspace.manifest.frames)
    job.canvas = plan_job_canvas(job)
    job.passed = _read_passed(workspace)
    manifest = workspace.manifest
    job.end_pts = manifest.segments[-1].end_pts if manifest.segments else None
    assert manifest.picture is not None
    job.picture_warnings, job.picture_damage = [*manifest.picture.warnings], manifest.picture.damage
    job.picture_warnings += [warning for segment in manifest.segments for warning in segment.warnings]
    job.side_data = join_carried(one for segment in manifest.segments for one in segment.side_data)


def _open_place(job: Job, workspace: Workspace, tell: Teller) -> Iterator[YuvFrame]:
    """Open the source at the first picture that is not durable."""
    manifest = workspace.manifest
    if manifest.segments:
        last = manifest.segments[-1]
        try:
            job.reader, pictures = find_place(job, last.tail, manifest.frames, tell, seek=last.seekable)
        except SourceChangedError:
            workspace.start_over("the source gives other pictures than before the interruption; started over")
        else:
            return pictures
    job.reader = open_pictures(job)
    return iter(job.reader)


def _read_start(workspace: Workspace) -> ResumePoint:
    """Read where the earlier attempts ended, from files that were found whole."""
    manifest, passed = workspace.manifest, _read_passed(workspace)
    previous: Frame | None = None
    states: States = {}
    scene_cuts = passed.scene_cuts
    if manifest.segments and manifest.next_is_cut:
        scene_cuts = (*scene_cuts, manifest.frames)
    elif manifest.state is not None:
        previous, states = read_state(workspace.folder / manifest.state.name)
    return ResumePoint(passed.pts, scene_cuts, passed.reruns, passed.snapshot, previous, states)


def _read_passed(workspace: Workspace) -> PipelineResult:
    """Read what the durable pictures told."""
    manifest = workspace.manifest
    snapshot = manifest.snapshot
    return PipelineResult(
        pts=read_times(workspace.folder, manifest.segments),
        scene_cuts=tuple(cut for segment in manifest.segments for cut in segment.scene_cuts),
        reruns=tuple(TileRetry(*rerun) for segment in manifest.segments for rerun in segment.reruns),
        snapshot=None if snapshot is None else read_snapshot(workspace.folder / snapshot.name),
        backend=manifest.backend,
        precision=manifest.precision,
    )


def _merge(job: Job, workspace: Workspace, tell: Teller) -> Report:
    """Merge what is durable with what is copied, check the result, give it its name, and clear the workspace."""
    work, manifest = job.work, workspace.manifest
    tell.stage("merging")
    with Muxer(work.target, overwrite=work.options.overwrite, token=manifest.token) as muxer:
        job.tracks = add_tracks(
            muxer, work.info, work.streams, video=job.settings, start=work.options.start, end=work.options.end
        )
        tracks: list[Iterator[AnyPacket]] = []
        if job.tracks.video is not None and job.passed is not None:
            tracks.append(
                join_segments(
                    workspace.folder, manifest.segments, job.tracks.video, times=job.passed.pts, stop=job.stop
                )
            )
        tracks += [_stored_sound(job, workspace, sound) for sound in manifest.sounds]
        with job.clock.measure("merge"):
            muxer.run([*tracks, copied_packets(job)])
        tell.stage("checking")
        written = muxer.finish()
        check_result(job, muxer, written)
        draw_comparison(job)
        job.warnings += [*manifest.warnings, *muxer.warnings]
        report = account(job, written)
        refuse_unverified(job, muxer, report)
        # From here on the next attempt knows the result by its mark, should the end be interrupted.
        workspace.commit(result=mark_file(written), report=report)
        muxer.publish()
    workspace.clear()
    return report


def _stored_sound(job: Job, workspace: Workspace, sound: SoundRecord) -> Iterator[AnyPacket]:
    assert job.tracks is not None
    stream = job.tracks.audios[sound.outcome.index].stream
    for packet in PacketReader(workspace.folder / sound.file.name).packets():
        job.stop.check()
        packet.stream = stream
        yield packet
