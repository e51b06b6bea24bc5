"""The parts of a running job: the stages of its video and audio, and the check of its result."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels.colour import YuvLayout
from runtime.audio.analysis import analyse
from runtime.audio.finishing import Finisher
from runtime.audio.pipeline import AudioOutcome, AudioPipeline
from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.backend_selection import JobBackends
from runtime.build_report import VideoOutcome
from runtime.engine.choose import Choice
from runtime.errors import DamagedError, MediaError
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.audio_reader import AudioReader
from runtime.media.damage import describe_holes
from runtime.media.demux import AnyPacket
from runtime.media.media_info import AudioStream
from runtime.media.muxer import Muxer
from runtime.media.output_tracks import Tracks
from runtime.media.pixel_formats import YuvFrame
from runtime.media.sampling import find_siting
from runtime.media.verify import Verification, VideoTimes, verify
from runtime.media.video_encoder import EncodeSettings
from runtime.media.video_reader import VideoReader
from runtime.plan import JobPlan, VideoPlan, expected_frames, spare_memory_bytes
from runtime.progress import ProgressReporter
from runtime.report import Report, VerificationError
from runtime.stages import StageClock, StopSignal
from runtime.video.pipeline import Encoder, ResumePoint, Segmenter, VideoPipeline
from runtime.video.static_tiles import TILE_PIXELS, StaticRule
from runtime.video.tile_plan import Canvas, most_tile_pixels, plan_canvas

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class JobRun:
    """One attempt at a job: its plan, its backends, and the services that its stages share."""

    plan: JobPlan
    backends: JobBackends
    threads: int
    progress: ProgressReporter
    cancel: threading.Event | None
    clock: StageClock = field(default_factory=StageClock)

    def new_stop(self) -> StopSignal:
        """Return a stop signal for one part of the job, set by the caller's `cancel` too."""
        return StopSignal(self.cancel)


def open_frames(run: JobRun, video: VideoPlan, *, near: int | None = None) -> VideoReader:
    """Open the reader of the source's frames; `near` as in `VideoReader`."""
    options = run.plan.options
    return VideoReader(
        run.plan.info.path, video.stream, start=options.start, end=options.end, threads=run.threads, near=near
    )


def plan_tiles(run: JobRun, video: VideoPlan, choice: Choice, reader: VideoReader) -> Canvas:
    """Divide the frames into tiles: of any shape where the backend opens any, else of the manifest's shapes."""
    still = run.plan.preset.preset.keeps_static
    most = TILE_PIXELS if still else most_tile_pixels(spare_memory_bytes(video))
    return plan_canvas(reader.height, reader.width, video.spec, any_shape=choice.any_shape, most_pixels=most)


def open_video_pipeline(
    run: JobRun,
    choice: Choice,
    reader: VideoReader,
    frames: Iterable[YuvFrame],
    encoder: Encoder[AnyPacket],
    *,
    canvas: Canvas,
    settings: EncodeSettings,
    siting: tuple[float, float],
    stop: StopSignal,
    segmenter: Segmenter | None = None,
    start: ResumePoint | None = None,
) -> VideoPipeline[AnyPacket]:
    """Set up the stages of the video, from the frames of a reader to an encoder."""
    plan, colour = run.plan, reader.colour
    kr, kb = colour.luma_weights
    return VideoPipeline(
        frames,
        encoder,
        model=choice.model,
        backend=choice.backend,
        canvas=canvas,
        strength=plan.preset.strength,
        grain=plan.preset.grain,
        layout_in=YuvLayout(kr, kb, colour.full_range, reader.bit_depth, reader.chroma, siting),
        layout_out=YuvLayout(kr, kb, settings.colour.full_range, settings.bit_depth, settings.chroma),
        clock=run.clock,
        stop=stop,
        on_frame=run.progress.frame,
        snapshots={0, (expected_frames(plan) or 0) // 2} if plan.options.compare is not None else set(),
        segmenter=segmenter,
        start=start,
        threads=run.threads,
        static=StaticRule() if plan.preset.preset.keeps_static else None,
    )


def read_siting(plan: JobPlan, video: VideoPlan) -> tuple[float, float]:
    """Return the chroma siting; call it before a multi-threaded decoder opens, because it reads FFmpeg's log."""
    return find_siting(plan.info.path, video.stream)


def open_audio_pipeline(
    run: JobRun, stream: AudioStream, encoder: AudioEncoder, *, stop: StopSignal, scratch: Path
) -> AudioPipeline:
    """Set up the stages of one audio track, as the plan says; `scratch` is a file for its samples."""
    plan = run.plan
    reader = AudioReader(plan.info.path, stream, start=plan.options.start, end=plan.options.end)
    enhancer = None
    speech = run.backends.speech
    is_processed = stream in plan.tracks
    if is_processed and plan.speech is not None and speech is not None:
        enhancer = SpeechEnhancer(
            plan.speech,
            speech.backend,
            channels=stream.channels,
            layout=stream.layout,
            sample_rate=stream.sample_rate,
            strength=plan.preset.strength,
        )
    return AudioPipeline(
        reader,
        refuse_damage(reader, reader, plan),
        enhancer,
        encoder,
        open_finisher=_finisher_of(run, stream, stop, scratch) if is_processed else None,
        clock=run.clock,
        stop=stop,
        on_samples=run.progress.samples,
    )


def _finisher_of(run: JobRun, stream: AudioStream, stop: StopSignal, scratch: Path) -> Callable[[], Finisher] | None:
    """Return what analyses a track and opens its finisher; None where the plan has nothing to finish."""
    plan, finish = run.plan, run.plan.finish
    if finish is None:
        return None

    def blocks() -> Iterator[NDArray[np.float32]]:
        with AudioReader(plan.info.path, stream, start=plan.options.start, end=plan.options.end) as reader:
            for block in reader:
                stop.check()
                yield block.samples

    def open_finisher() -> Finisher:
        layout, rate = stream.layout, stream.sample_rate
        analysis = analyse(blocks(), layout=layout, sample_rate=rate)
        return Finisher(finish, analysis, layout=layout, sample_rate=rate, scratch=scratch, stop=stop)

    return open_finisher


def refuse_damage(reader: VideoReader | AudioReader, items: Iterable[Item], plan: JobPlan) -> Iterator[Item]:
    """Yield from a reader, and refuse a source that turns out to be damaged, unless the options allow it.

    Raises:
        DamagedError: A part of it cannot be decoded, or the file ends before its own index does.
    """
    for item in items:
        if reader.holes and not plan.options.allow_damaged:
            break
        yield item
    if plan.options.allow_damaged:
        return
    path = plan.info.path
    what = f"{path} is damaged in stream {reader.stream.index} {describe_holes(reader.holes)}"
    if not reader.holes:
        if not reader.early_end:
            return
        what = f"{path} is truncated: {reader.early_end}"
    raise DamagedError(f"{what}; copy it again from its source, or use --allow-damaged to enhance what can be read")


def verify_result(
    run: JobRun, muxer: Muxer, written: Path, tracks: Tracks, video: VideoOutcome | None, audios: list[AudioOutcome]
) -> Verification:
    """Read the result back before it gets its name.

    Raises:
        VerificationError: It cannot be read, or lacks a stream.
    """
    times = None
    if video is not None:
        times = VideoTimes(video.source.time_base, video.passed.pts, end_pts=video.end_pts)
    expected = [audio.times(tracks.audios[audio.index].stream.index) for audio in audios]
    with run.clock.measure("check"):
        try:
            return verify(written, video=times, audios=expected, side_data=() if video is None else video.side_data)
        except MediaError as error:
            reason = str(error).replace(str(written), "the finished file")
            raise _unverified(muxer, (reason,), None) from error


def refuse_unverified(plan: JobPlan, muxer: Muxer, report: Report) -> None:
    """Keep a result that failed verification under another name, unless the options accept it.

    Raises:
        VerificationError: The verification failed.
    """
    if report.check_failures and not plan.options.keep_unverified:
        raise _unverified(muxer, report.check_failures, report)


def _unverified(muxer: Muxer, failures: tuple[str, ...], report: Report | None) -> VerificationError:
    kept = muxer.set_aside()
    if report is not None:
        report = replace(report, result=replace(report.result, path=str(kept)))
    return VerificationError(
        f"verification of the finished file failed: {'; '.join(failures)}; {muxer.target} was not written, and the "
        f"file is kept as {kept}: play it to check it, or use --keep-unverified to accept such results",
        failures=failures,
        kept=kept,
        report=report,
    )
