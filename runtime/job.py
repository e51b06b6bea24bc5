"""What a running job holds, and how its stages are set up: used by both ways of `runtime.enhance`."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from kernels.colour import YuvLayout
from runtime.audio.pipeline import AudioOutcome, AudioPipeline
from runtime.audio.speech_enhancer import SpeechEnhancer
from runtime.engine.session import SharedSessions
from runtime.errors import DamagedError, MediaError, VerificationError
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.audio_reader import AudioReader
from runtime.media.damage import describe_holes
from runtime.media.deinterlace import Interlacing
from runtime.media.demux import AnyPacket
from runtime.media.muxer import Muxer
from runtime.media.output_tracks import Tracks
from runtime.media.pixel_formats import YuvFrame
from runtime.media.sampling import find_siting
from runtime.media.verify import CarriedData, Verification, VideoTimes, verify
from runtime.media.video_encoder import EncodeSettings
from runtime.media.video_reader import VideoReader
from runtime.options import Progress
from runtime.plan import Selection, Work, expected_frames, expected_samples
from runtime.report import DamagedPlace, Report
from runtime.stages import StageClock, StopSignal
from runtime.video.pipeline import Encoder, PipelineResult, ResumePoint, Segmenter, VideoPipeline
from runtime.video.tile_plan import Canvas, plan_canvas

Item = TypeVar("Item")


@dataclass(slots=True)
class Job:
    """What a running job holds, and what its report is made of; `end_pts` is where the last picture ends.

    `passed` and `sounds` are complete once the streams are through. `frames_made` counts the pictures of this attempt
    alone, `resumes` the attempts before it.
    """

    work: Work
    threads: int
    selection: Selection
    stop: StopSignal
    clock: StageClock = field(default_factory=StageClock)
    started: float = field(default_factory=time.monotonic)
    first_frame_s: float | None = None
    frames_made: int = 0
    resumes: int = 0
    reader: VideoReader | None = None
    siting: tuple[float, float] | None = None
    settings: EncodeSettings | None = None
    canvas: Canvas | None = None
    passed: PipelineResult | None = None
    sounds: list[AudioOutcome] = field(default_factory=list)
    tracks: Tracks | None = None
    end_pts: int | None = None
    warnings: list[str] = field(default_factory=list)
    open_speech: SharedSessions | None = None
    picture_warnings: list[str] = field(default_factory=list)
    picture_damage: tuple[DamagedPlace, ...] = ()
    side_data: tuple[CarriedData, ...] = ()
    check: Verification | None = None
    compared: bool = False


def open_pictures(job: Job, *, near: int | None = None, interlacing: Interlacing | None = None) -> VideoReader:
    """Open the reader of the job's pictures; `near` and `interlacing` as in `VideoReader`."""
    work, options = job.work, job.work.options
    assert work.video is not None
    # Before a decoder with many threads is opened: it is read from FFmpeg's log.
    job.siting = job.siting or find_siting(work.info.path, work.video)
    return VideoReader(
        work.info.path,
        work.video,
        start=options.start,
        end=options.end,
        threads=job.threads,
        interlacing=interlacing,
        near=near,
    )


def open_video_pipeline(
    job: Job,
    pictures: Iterable[YuvFrame],
    encoder: Encoder[AnyPacket],
    tell: "Teller",
    *,
    segmenter: Segmenter | None = None,
    start: ResumePoint | None = None,
) -> VideoPipeline[AnyPacket]:
    """Set up the picture's stages, from the job's reader to an encoder."""
    work, reader, settings = job.work, job.reader, job.settings
    assert reader is not None
    assert settings is not None
    assert job.selection.picture is not None
    assert work.video_model is not None
    assert work.video_model.manifest.video is not None
    job.canvas = plan_job_canvas(job)
    kr, kb = reader.colour.luma_weights
    assert job.siting is not None
    total = expected_frames(work)
    return VideoPipeline(
        pictures,
        encoder,
        model=work.video_model,
        backend=job.selection.picture.backend,
        canvas=job.canvas,
        strength=work.plan.strength,
        layout_in=YuvLayout(kr, kb, reader.colour.full_range, reader.bit_depth, reader.chroma, job.siting),
        layout_out=YuvLayout(kr, kb, settings.colour.full_range, settings.bit_depth, settings.chroma),
        clock=job.clock,
        stop=job.stop,
        on_frame=tell.frame,
        snapshots={0, (total or 0) // 2} if work.options.compare is not None else set(),
        segmenter=segmenter,
        start=start,
    )


def plan_job_canvas(job: Job) -> Canvas:
    """Lay the tiles over the job's pictures: cut to measure where what runs the model takes any shape."""
    assert job.reader is not None
    assert job.selection.picture is not None
    spec = job.selection.picture.model.manifest.video
    assert spec is not None
    return plan_canvas(job.reader.height, job.reader.width, spec, any_shape=job.selection.picture.any_shape)


def open_audio_pipeline(job: Job, index: int, encoder: AudioEncoder, tell: "Teller") -> AudioPipeline:
    """Set up the stages of one track of sound; `index` is the source's."""
    work = job.work
    stream = next(audio for audio in work.info.audios if audio.index == index)
    reader = AudioReader(work.info.path, stream, start=work.options.start, end=work.options.end)
    enhancer = None
    if stream in work.sounds and job.selection.sound is not None:
        # Tracks that are cleaned side by side take turns at one network.
        job.open_speech = job.open_speech or SharedSessions(job.selection.sound.backend)
        enhancer = SpeechEnhancer(
            job.selection.sound.model,
            job.open_speech,
            channels=stream.channels,
            layout=stream.layout,
            sample_rate=stream.sample_rate,
            strength=work.plan.strength,
        )
    return AudioPipeline(
        reader,
        refuse_damage(reader, reader, work),
        enhancer,
        encoder,
        clock=job.clock,
        stop=job.stop,
        on_samples=tell.samples,
    )


def refuse_damage(reader: VideoReader | AudioReader, items: Iterable[Item], work: Work) -> Iterator[Item]:
    """Pass on what a reader gives, and refuse a source that turns out damaged, unless the options allow it.

    Raises:
        DamagedError: A place of it cannot be decoded, or the file ends before its own index does.
    """
    for item in items:
        if reader.holes and not work.options.allow_damaged:
            break
        yield item
    if work.options.allow_damaged:
        return
    what = f"{work.info.path} is damaged in stream {reader.stream.index} {describe_holes(reader.holes)}"
    if not reader.holes:
        if not reader.early_end:
            return
        what = f"{work.info.path} is cut short: {reader.early_end}"
    raise DamagedError(
        f"{what}; copy it again from where it came from, or enhance what can be read with --allow-damaged"
    )


def copied_packets(job: Job) -> Iterator[AnyPacket]:
    """Yield the packets of what is copied, and stop when the job does: some pictures are encoded again on the way."""
    assert job.tracks is not None
    for packet in job.tracks.copies:
        job.stop.check()
        yield packet


def check_result(job: Job, muxer: Muxer, written: Path) -> None:
    """Read the result back before it gets its name.

    Raises:
        VerificationError: It cannot be read, or lacks a stream.
    """
    times = None
    if job.passed is not None and job.reader is not None:
        times = VideoTimes(job.reader.stream.time_base, job.passed.pts, end_pts=job.end_pts)
    assert job.tracks is not None
    sounds = [sound.times(job.tracks.audios[sound.index].stream.index) for sound in job.sounds]
    with job.clock.measure("check"):
        try:
            job.check = verify(written, pictures=times, sounds=sounds, side_data=job.side_data)
        except MediaError as error:
            told = str(error).replace(str(written), "the finished file")
            raise _unverified(job, muxer, (told,), None) from error


def refuse_unverified(job: Job, muxer: Muxer, report: Report) -> None:
    """Keep a result whose check failed under another name, unless it is wanted as it is.

    Raises:
        VerificationError: The check failed.
    """
    if report.check_failures and not job.work.options.keep_unverified:
        raise _unverified(job, muxer, report.check_failures, report)


def _unverified(job: Job, muxer: Muxer, failures: tuple[str, ...], report: Report | None) -> VerificationError:
    kept = muxer.set_aside()
    if report is not None:
        report = replace(report, result=replace(report.result, path=str(kept)))
    return VerificationError(
        f"the check of the finished file failed: {'; '.join(failures)}; {job.work.target} was not written and the file "
        f"is kept as {kept}: look at it, and run again with --keep-unverified to take it as it is",
        failures=failures,
        kept=kept,
        report=report,
    )


def draw_comparison(job: Job) -> None:
    """Draw the before/after picture, where it was asked for and its frame passed."""
    path = job.work.options.compare
    if path is None or job.passed is None or job.passed.snapshot is None:
        return
    from runtime.compare import save_comparison

    save_comparison(job.passed.snapshot.before, job.passed.snapshot.after, path)
    job.compared = True


class Teller:
    """Turns counts from the threads into progress messages; frames that are durable already count as done."""

    def __init__(self, job: Job, on_progress: Callable[[Progress], None] | None) -> None:
        self._job, self._on_progress = job, on_progress
        self._lock = threading.Lock()
        self._progress = Progress(
            "opening", frames_total=expected_frames(job.work), samples_total=expected_samples(job.work)
        )
        self._begun = time.monotonic()
        self._earlier = 0

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self._tell(stage=name)

    def begin_frames(self, done: int) -> None:
        """Begin with the pictures, of which an earlier attempt did some; the rate counts from here."""
        self._begun, self._earlier = time.monotonic(), done
        self._tell(frames_done=done)

    def frame(self, done: int) -> None:
        """Count a finished picture."""
        now = time.monotonic()
        made = self._job.frames_made = done - self._earlier
        if made == 1:
            self._job.first_frame_s = now - self._job.started
        total = self._progress.frames_total
        fps = made / max(1e-6, now - self._begun)
        eta_s = None if total is None else max(0.0, (total - done) / fps)
        self._tell(frames_done=done, fps=fps, eta_s=eta_s)

    def samples(self, done: int) -> None:
        """Count finished samples; the furthest track counts."""
        self._tell(samples_done=max(done, self._progress.samples_done))

    def _tell(self, **changes: object) -> None:
        with self._lock:
            self._progress = replace(self._progress, **changes)  # type: ignore[arg-type]
            if self._on_progress is not None:
                self._on_progress(self._progress)
