"""One job from source to result: here the journeys of the picture and of the sound begin and end.

Video: `media/video_reader` -> `kernels/colour` -> `video/motion` (`kernels/flow`) -> `video/recurrent`
(`kernels/tiles`, `kernels/warp`, `engine`; for an imported model `video/sliding_window` or `video/bidirectional`) ->
`kernels/colour` -> `media/video_encoder`. Audio: `media/audio_reader` -> `audio/speech_enhancer` ->
`media/audio_encoder`. Both, and the copied streams, meet in `media/muxer`; `media/verify` reads the result back.

There are two ways to the result. `_stream` sends every packet straight to the container: at once, but whole or not at
all. With a workspace, `resume/run` stores the sound and the picture piece by piece first and merges them at the end,
so that a job that was killed goes on where it was.
"""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from runtime.audio.pipeline import AudioPipeline
from runtime.build_report import account
from runtime.job import (
    Job,
    Teller,
    check_result,
    copied_packets,
    draw_comparison,
    open_audio_pipeline,
    open_pictures,
    open_video_pipeline,
    refuse_damage,
    refuse_unverified,
)
from runtime.media.muxer import Muxer
from runtime.media.output_tracks import add_tracks
from runtime.options import EnhanceOptions, Progress
from runtime.plan import Selection, Work, encode_settings, plan_work, run_with_engines
from runtime.report import Report, damaged_places
from runtime.resume.run import run_in_segments
from runtime.resume.writer import SegmentRule
from runtime.stages import StopSignal


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
        options: What is wished.
        on_progress: Called from any thread, several times a second.
        cancel: Ends the job when set.
        workspace: A folder that belongs to this job alone, made if it is missing. What is done is kept there, and the
            same call goes on with it after any interruption: a cancel, an error, a crash. Once the result has its
            name, the same call only gives the report again. See `docs/durable-jobs.md`.
        rule: With a workspace: how long a segment of the picture is; None is about ten seconds.
        engines: The folder of the engines that were built for this box, and of what `relume doctor` measured on it;
            None for neither: then ONNX Runtime runs the models in float32, unless the options say another.

    Returns:
        The report. The result is in its place, complete.

    Raises:
        RelumeError: The job was refused, failed or was cancelled; no result and, outside the workspace, no temporary
            file is left.
    """
    work = plan_work(source, target, options)
    if workspace is not None:
        return run_in_segments(work, workspace, rule=rule, engines=engines, on_progress=on_progress, cancel=cancel)
    threads = work.options.threads or len(os.sched_getaffinity(0))
    return run_with_engines(
        work,
        lambda selection: _stream(work, selection, threads=threads, on_progress=on_progress, cancel=cancel),
        threads=threads,
        engines=engines,
    )


def _stream(
    work: Work,
    selection: Selection,
    *,
    threads: int,
    on_progress: Callable[[Progress], None] | None,
    cancel: threading.Event | None,
) -> Report:
    """Send every packet straight to the result's container."""
    job = Job(work, threads, selection, StopSignal(cancel))
    tell = Teller(job, on_progress)
    tell.stage("opening")
    with ExitStack() as stack:
        muxer = stack.enter_context(Muxer(work.target, overwrite=work.options.overwrite))
        if work.video is not None:
            job.reader = stack.enter_context(open_pictures(job))
            job.settings = encode_settings(work, job.reader, threads=threads)
        job.tracks = add_tracks(
            muxer, work.info, work.streams, video=job.settings, start=work.options.start, end=work.options.end
        )
        tracks, video = [], None
        sounds: list[AudioPipeline] = []
        if job.reader is not None and job.tracks.video is not None:
            pictures = refuse_damage(job.reader, job.reader, work)
            video = stack.enter_context(open_video_pipeline(job, pictures, job.tracks.video, tell))
            tracks.append(video.packets())
        for index, encoder in job.tracks.audios.items():
            sounds.append(stack.enter_context(open_audio_pipeline(job, index, encoder, tell)))
            tracks.append(sounds[-1].packets())
        tell.stage("enhancing")
        muxer.run([*tracks, copied_packets(job)])
        job.passed = video.passed() if video is not None else None
        job.end_pts = job.tracks.video.end_pts if job.tracks.video is not None else None
        job.side_data = job.tracks.video.carried_data() if job.tracks.video is not None else ()
        job.sounds = [sound.outcome() for sound in sounds]
        if job.reader is not None:
            job.picture_warnings, job.picture_damage = list(job.reader.warnings), damaged_places(job.reader.holes)
        tell.stage("checking")
        written = muxer.finish()
        check_result(job, muxer, written)
        draw_comparison(job)
        job.warnings += muxer.warnings
        report = account(job, written)
        refuse_unverified(job, muxer, report)
        muxer.publish()
    return report
