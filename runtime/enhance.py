"""One job from source to result: plan, select backends, enhance the audio and the video, merge, verify, report.

Video: `media/video_reader` -> `kernels/colour` -> `video/motion` (`kernels/flow`) -> `video/recurrent`
(`kernels/tiles`, `kernels/warp`, `engine`; for an imported model `video/sliding_window` or `video/bidirectional`) ->
`kernels/colour` -> `media/video_encoder`. Audio: `media/audio_reader` -> `audio/speech_enhancer` ->
`media/audio_encoder`. Both are stored in a workspace (`resume`), audio track by track and video segment by segment, so
that a job that was killed resumes. At the end `media/muxer` merges them with the copied streams and `media/verify`
reads the result back.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runtime.atomic_files import convert_os_errors, read_signature
from runtime.audio.pipeline import AudioOutcome
from runtime.backend_selection import JobBackends, parse_engine_fingerprint, run_with_backends, select_backends
from runtime.build_report import Outcome, VideoOutcome, build_report, describe_source
from runtime.engine.choose import Choice
from runtime.errors import DecodeError
from runtime.fingerprint import compute_fingerprint, describe_options, identify_source
from runtime.job import (
    JobRun,
    open_audio_pipeline,
    open_frames,
    open_video_pipeline,
    plan_tiles,
    read_siting,
    refuse_damage,
    refuse_unverified,
    verify_result,
)
from runtime.media.audio_codecs import choose_audio
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.damage import damaged_places
from runtime.media.demux import AnyPacket
from runtime.media.media_info import AudioStream
from runtime.media.muxer import Muxer, begins_at_zero, open_scratch, partial_path, refuse_target
from runtime.media.output_tracks import add_tracks
from runtime.media.pixel_formats import YuvFrame
from runtime.media.verify import join_carried
from runtime.media.video_reader import VideoReader
from runtime.options import EnhanceOptions
from runtime.plan import JobPlan, VideoPlan, encode_settings, expected_frames, expected_samples, plan_job
from runtime.progress import Progress, ProgressReporter
from runtime.report import Action, Report
from runtime.resume.packets import PacketHead, PacketReader, PacketWriter, join_segments
from runtime.resume.position import FrameCrcs, SourceChangedError, seek_to_resume_point
from runtime.resume.states import read_passed, read_start
from runtime.resume.workspace import AudioRecord, VideoEnd, Workspace
from runtime.resume.writer import SegmentRule, SegmentWriter, default_rule
from runtime.stages import StopSignal

_REPORT_EVERY = 50
"""Frames that are skipped to the resume point between two reports of progress."""


def enhance(
    source: Path,
    target: Path | None,
    options: EnhanceOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    workspace: Path | None = None,
    rule: SegmentRule | None = None,
    engines: Path | None = None,
) -> Report:
    """Enhance one file.

    Args:
        source: A video or audio file; it is only read.
        target: The result; its suffix chooses the container. None names it after the source.
        options: Options of the job.
        on_progress: Called from any thread, several times a second.
        cancel: Stops the job when set.
        workspace: A folder that belongs to this job alone, created if it is missing. Finished work is kept there, and
            the same call resumes after any interruption: a cancel, an error, a crash. Once the result has its name,
            the same call only returns the report again. See `docs/durable-jobs.md`. None takes a temporary folder
            beside the target, which is removed in any case.
        rule: The length of a segment of video; None is about ten seconds.
        engines: The folder of this machine's engines and of the measurements of `relume doctor`; None for neither; then
        ONNX Runtime runs the models in float32, unless the options say otherwise.

    Returns:
        The report. The result is in its place, complete.

    Raises:
        RelumeError: The job was refused, failed or was cancelled; no result and, outside the workspace, no temporary
            file is left.
    """
    plan = plan_job(source, target, options)
    rule = rule or default_rule(plan.video.stream.average_rate if plan.video is not None else None)
    threads = options.threads or len(os.sched_getaffinity(0))
    with _open_workspace(workspace, plan) as work:

        def run(backends: JobBackends) -> Report:
            work.begin(compute_fingerprint(plan, backends, rule=rule), target=plan.target, threads=threads)
            manifest = work.manifest
            if work.is_published() and manifest.report is not None:
                work.clear()
                return manifest.report
            if manifest.threads != threads:
                # Encoders produce different bytes with another number of threads, so that of the first attempt is kept.
                used = parse_engine_fingerprint(backends.engine_fingerprint())
                backends = select_backends(plan, threads=manifest.threads, engines=engines, kept=used)
            progress = ProgressReporter(
                on_progress, frames_total=expected_frames(plan), samples_total=expected_samples(plan)
            )
            return _run(JobRun(plan, backends, manifest.threads, progress, cancel), work, rule)

        # Measurements and engines newer than the job must not change the backends that it resumes with.
        before = work.stored_fingerprint()
        kept = parse_engine_fingerprint(before["engine"]) if before.get("options") == describe_options(plan) else {}
        return run_with_backends(plan, run, threads=threads, engines=engines, kept=kept)


@contextmanager
def _open_workspace(folder: Path | None, plan: JobPlan) -> Generator[Workspace]:
    """Open the job's workspace, or a temporary one beside the target, where the result needs space anyway."""
    if folder is not None:
        with Workspace(folder) as workspace:
            yield workspace
        return
    refuse_target(plan.target, overwrite=plan.options.overwrite)
    with convert_os_errors(plan.target.parent, result=plan.target):
        temporary = Path(tempfile.mkdtemp(prefix=".relume-", suffix=".work", dir=plan.target.parent))
    try:
        with Workspace(temporary, temporary_for=plan.target) as workspace:
            yield workspace
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run(run: JobRun, workspace: Workspace, rule: SegmentRule) -> Report:
    """Do the work that is not yet stored in the workspace, then merge."""
    plan = run.plan
    workspace.remove_empty_target()
    _refuse_place(plan, workspace)
    run.progress.stage("opening")
    stored = [_store_audio(run, workspace, stream) for stream in plan.info.audios]
    audios = [audio for audio in stored if audio is not None]
    video = None
    if plan.video is not None and run.backends.video is not None:
        video = _store_video(run, plan.video, run.backends.video, workspace, rule)
    _refuse_change(plan.info.path, workspace.manifest.fingerprint["source"])
    return _merge(run, workspace, video, audios)


def _refuse_change(source: Path, before: str) -> None:
    """Refuse the result of a source that changed during the job.

    A removed source was read completely; if streams still have to be copied from it, opening it fails later.
    """
    if source.exists() and identify_source(source) != before:
        raise DecodeError(f"{source} changed while it was being read; start the job again when it is complete")


def _refuse_place(plan: JobPlan, workspace: Workspace) -> None:
    """Check that the result can be written before hours of work are done for it."""
    refuse_target(plan.target, overwrite=plan.options.overwrite)
    trial = partial_path(plan.target, workspace.manifest.token)
    with convert_os_errors(plan.target.parent):
        trial.touch()
        trial.unlink()


def _store_audio(run: JobRun, workspace: Workspace, stream: AudioStream) -> AudioOutcome | None:
    """Store one audio track as a whole if it is re-encoded and not yet stored; None for one that is copied."""
    suffix, index = run.plan.target.suffix.lower(), stream.index
    mapped = next(one for one in run.plan.streams if one.index == index)
    if mapped.out_codec is None or mapped.action is Action.COPIED:
        return None
    stored = next((audio for audio in workspace.manifest.sounds if audio.outcome.index == index), None)
    if stored is not None:
        run.progress.samples(stored.outcome.samples)
        return stored.outcome
    run.progress.stage("enhancing")
    settings = choose_audio(stream, suffix)
    scratch = workspace.folder / f"sound-{index}.samples"
    with ExitStack() as stack:
        container = open_scratch(suffix)
        stack.callback(container.close)
        encoder = AudioEncoder(container, settings, from_zero=begins_at_zero(suffix, settings))
        pipeline = stack.enter_context(open_audio_pipeline(run, stream, encoder, stop=run.new_stop(), scratch=scratch))
        context = encoder.stream.codec_context
        head = PacketHead(settings.codec, context.time_base, bytes(context.extradata or b""))
        with workspace.convert_os_errors():
            file = stack.enter_context(PacketWriter(workspace.folder / f"sound-{index}.packets", head))
        for packet in pipeline.packets():
            with workspace.convert_os_errors():
                file.write(packet)
        with workspace.convert_os_errors():
            record = AudioRecord(file.finish(), pipeline.outcome())
    workspace.commit(sounds=(*workspace.manifest.sounds, record))
    return record.outcome


def _store_video(
    run: JobRun, video: VideoPlan, choice: Choice, workspace: Workspace, rule: SegmentRule
) -> VideoOutcome:
    """Store every frame of the video, from the first one that is not stored yet."""
    stop = run.new_stop()
    with ExitStack() as stack:
        if workspace.manifest.picture is None:
            siting = read_siting(run.plan, video)
            reader, frames = _open_at_resume_point(run, video, workspace, stop)
            stack.enter_context(reader)
        else:
            reader = stack.enter_context(open_frames(run, video))
            run.progress.start_frames(workspace.manifest.frames)
        settings = encode_settings(run.plan, video, reader, threads=run.threads)
        canvas = plan_tiles(run, video, choice, reader)
        if workspace.manifest.picture is None:
            start = read_start(workspace)
            crcs = FrameCrcs(len(start.pts))
            writer = SegmentWriter(
                workspace,
                settings,
                suffix=run.plan.target.suffix.lower(),
                rule=rule,
                crcs=crcs,
                is_plain=lambda: reader.is_plain,
                snapshot=start.snapshot,
            )
            run.progress.stage("enhancing")
            run.progress.start_frames(len(start.pts))
            pipeline = open_video_pipeline(
                run,
                choice,
                reader,
                crcs.watch(refuse_damage(reader, frames, run.plan)),
                writer,
                canvas=canvas,
                settings=settings,
                siting=siting,
                stop=stop,
                segmenter=writer,
                start=start,
            )
            with writer, pipeline as stages:
                for _ in stages.packets():
                    pass
                writer.finish(stages.result(), VideoEnd(tuple(reader.warnings), damaged_places(reader.holes)))
        source = describe_source(reader)
    segments, end = workspace.manifest.segments, workspace.manifest.picture
    assert end is not None
    return VideoOutcome(
        plan=video,
        source=source,
        settings=settings,
        canvas=canvas,
        passed=read_passed(workspace),
        end_pts=segments[-1].end_pts if segments else None,
        side_data=join_carried(one for segment in segments for one in segment.side_data),
        warnings=(*end.warnings, *(warning for segment in segments for warning in segment.warnings)),
        damage=end.damage,
    )


def _open_at_resume_point(
    run: JobRun, video: VideoPlan, workspace: Workspace, stop: StopSignal
) -> tuple[VideoReader, Iterator[YuvFrame]]:
    """Open the source at the first frame that is not stored."""
    manifest = workspace.manifest

    def on_frame(count: int) -> None:
        stop.check()
        if count % _REPORT_EVERY == 0:
            run.progress.stage("opening")

    if manifest.segments:
        last = manifest.segments[-1]
        try:
            return seek_to_resume_point(
                lambda near: open_frames(run, video, near=near),
                last.tail,
                manifest.frames,
                seek=last.seekable,
                on_frame=on_frame,
            )
        except SourceChangedError:
            workspace.start_over("the source decodes to different frames than before the interruption; started over")
    reader = open_frames(run, video)
    return reader, iter(reader)


def _merge(run: JobRun, workspace: Workspace, video: VideoOutcome | None, audios: list[AudioOutcome]) -> Report:
    """Merge what is stored with the copied streams, verify the result, give it its name, and clear the workspace."""
    plan, manifest, stop = run.plan, workspace.manifest, run.new_stop()
    run.progress.stage("merging")
    with Muxer(plan.target, overwrite=plan.options.overwrite, token=manifest.token) as muxer:
        tracks = add_tracks(
            muxer,
            plan.info,
            plan.streams,
            video=None if video is None else video.settings,
            start=plan.options.start,
            end=plan.options.end,
        )
        packets: list[Iterator[AnyPacket]] = []
        if tracks.video is not None and video is not None:
            packets.append(
                join_segments(
                    workspace.folder,
                    manifest.segments,
                    tracks.video,
                    times=video.passed.pts,
                    stop=stop,
                    remove=workspace.is_temporary,
                )
            )
        packets += [
            _read_audio(workspace, audio, tracks.audios[audio.outcome.index], stop) for audio in manifest.sounds
        ]
        with run.clock.measure("merge"):
            muxer.run([*packets, _until_stopped(tracks.copies, stop)])
        run.progress.stage("checking")
        written = muxer.finish()
        check = verify_result(run, muxer, written, tracks, video, audios)
        outcome = Outcome(
            plan=plan,
            backends=run.backends,
            video=video,
            audios=tuple(audios),
            tracks=tracks,
            check=check,
            warnings=(*manifest.warnings, *muxer.warnings),
            compared=_draw_comparison(plan, video),
            resumes=manifest.attempts - 1,
            wall_s=time.monotonic() - run.progress.started,
            first_frame_s=run.progress.first_frame_s,
            frames_made=run.progress.frames_made,
            stages=run.clock.seconds,
        )
        report = build_report(outcome)
        refuse_unverified(plan, muxer, report)
        # From here on, the next attempt recognises the result by its mark if the end is interrupted.
        workspace.commit(result=read_signature(written), report=report)
        muxer.publish()
    workspace.clear()
    return report


def _read_audio(
    workspace: Workspace, audio: AudioRecord, encoder: AudioEncoder, stop: StopSignal
) -> Iterator[AnyPacket]:
    """Yield the packets of a stored audio track as those of a stream of the result."""
    for packet in PacketReader(workspace.folder / audio.file.name).packets():
        stop.check()
        packet.stream = encoder.stream
        yield packet


def _until_stopped(packets: Iterable[AnyPacket], stop: StopSignal) -> Iterator[AnyPacket]:
    """Yield packets until the job is stopped: some copied streams are re-encoded in the process."""
    for packet in packets:
        stop.check()
        yield packet


def _draw_comparison(plan: JobPlan, video: VideoOutcome | None) -> bool:
    """Write the before/after image where one is requested and its frame exists; return whether it was written."""
    if plan.options.compare is None or video is None or video.passed.snapshot is None:
        return False
    from runtime.compare import save_comparison

    save_comparison(video.passed.snapshot.before, video.passed.snapshot.after, plan.options.compare)
    return True
