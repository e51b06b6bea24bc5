"""One job from source to result: here the journeys of the picture and of the sound begin and end.

The picture: `media/decode` -> `kernels/colour` -> `video/window` (`kernels/flow`) -> `video/tiling` (`kernels/warp`,
`kernels/tiles`, `engine`) -> `kernels/colour` -> `media/encode`. The sound: `media/audio` -> `audio/stream` ->
`media/audio_encode`. Both, and what is copied, meet in `media/mux`; `media/verify` reads the result back.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernels.colour import YuvLayout
from runtime.account import account
from runtime.audio.pipeline import SoundPipeline
from runtime.audio.stream import SpeechEnhancer
from runtime.engine.backends import ChosenBackend, choose_backend
from runtime.errors import DecodeError
from runtime.media.audio import AudioReader
from runtime.media.decode import VideoReader
from runtime.media.encode import EncodeSettings
from runtime.media.mux import Muxer
from runtime.media.source import AnyPacket
from runtime.media.tracks import Tracks, add_tracks
from runtime.media.verify import PictureTimes, SoundTimes, Verification, verify
from runtime.options import EnhanceOptions, Progress
from runtime.report import Report
from runtime.stages import StageClock, StopSignal
from runtime.video.canvas import Canvas, plan_canvas
from runtime.video.pipeline import VideoPipeline
from runtime.work import Work, encode_settings, expected_frames, expected_samples, plan_work


@dataclass(slots=True)
class Job:
    """What a running job holds, and what its report is made of."""

    work: Work
    backend: ChosenBackend
    clock: StageClock = field(default_factory=StageClock)
    started: float = field(default_factory=time.monotonic)
    first_frame_s: float | None = None
    reader: VideoReader | None = None
    settings: EncodeSettings | None = None
    canvas: Canvas | None = None
    video: VideoPipeline[AnyPacket] | None = None
    sounds: list[SoundPipeline] = field(default_factory=list)
    tracks: Tracks | None = None
    muxer_warnings: list[str] = field(default_factory=list)
    check: Verification | None = None
    compared: bool = False


def enhance(
    source: Path,
    target: Path | None,
    options: EnhanceOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Report:
    """Enhance one file.

    Args:
        source: A video or audio file; it is only read.
        target: The result; its suffix chooses the container. None names it after the source.
        options: What is wished.
        on_progress: Called from any thread, several times a second.
        cancel: Ends the job when set.

    Returns:
        The report. The result is in its place, complete.

    Raises:
        RelumeError: The job was refused, failed or was cancelled; no result and no temporary file is left.
    """
    work = plan_work(source, target, options)
    threads = options.threads or len(os.sched_getaffinity(0))
    job = Job(work, choose_backend(options.backend, threads=threads))
    stop, tell = StopSignal(cancel), _Teller(job, on_progress)
    tell.stage("opening")
    with ExitStack() as stack:
        muxer = stack.enter_context(Muxer(work.target, overwrite=options.overwrite))
        if work.video is not None:
            job.reader = stack.enter_context(_open_pictures(work, threads))
            job.settings = encode_settings(work, job.reader, threads=threads)
        job.tracks = add_tracks(
            muxer, work.info, work.streams, video=job.settings, start=options.start, end=options.end
        )
        tracks = []
        if job.reader is not None:
            job.video = stack.enter_context(_video_pipeline(job, stop, tell))
            tracks.append(job.video.packets())
        for index in job.tracks.audios:
            pipeline = stack.enter_context(_sound_pipeline(job, index, stop, tell))
            job.sounds.append(pipeline)
            tracks.append(pipeline.packets())
        tell.stage("enhancing")
        muxer.run([*tracks, iter(job.tracks.copies)])
        tell.stage("checking")
        _check(job, muxer.finish())
        _save_comparison(job)
        muxer.publish()
        job.muxer_warnings = muxer.warnings
    return account(job)


def _open_pictures(work: Work, threads: int) -> VideoReader:
    assert work.video is not None
    options = work.options
    return VideoReader(work.info.path, work.video, start=options.start, end=options.end, threads=threads)


def _video_pipeline(job: Job, stop: StopSignal, tell: "_Teller") -> VideoPipeline[AnyPacket]:
    work, reader, settings = job.work, job.reader, job.settings
    assert reader is not None
    assert settings is not None
    assert job.tracks is not None
    assert job.tracks.video is not None
    assert work.video_model is not None
    assert work.video_model.manifest.video is not None
    job.canvas = plan_canvas(reader.height, reader.width, work.video_model.manifest.video)
    kr, kb = reader.colour.luma_weights
    # JPEG centres chroma; every other codec here puts it at the left unless told otherwise, which FFmpeg rarely is.
    siting = (0.5, 0.5) if reader.stream.codec == "mjpeg" else (0.5, 0.0)
    total = expected_frames(work)
    return VideoPipeline(
        _whole(reader, work),
        job.tracks.video,
        model=work.video_model,
        open_session=job.backend.open_session,
        canvas=job.canvas,
        strength=work.plan.strength,
        layout_in=YuvLayout(kr, kb, reader.colour.full_range, reader.bit_depth, reader.chroma, siting),
        layout_out=YuvLayout(kr, kb, settings.colour.full_range, settings.bit_depth, settings.chroma),
        clock=job.clock,
        stop=stop,
        on_frame=tell.frame,
        snapshots={0, (total or 0) // 2} if work.options.compare is not None else set(),
    )


def _sound_pipeline(job: Job, index: int, stop: StopSignal, tell: "_Teller") -> SoundPipeline:
    work = job.work
    stream = next(audio for audio in work.info.audios if audio.index == index)
    reader = AudioReader(work.info.path, stream, start=work.options.start, end=work.options.end)
    enhancer = None
    if stream in work.sounds and work.sound_model is not None:
        enhancer = SpeechEnhancer(
            work.sound_model,
            # One thread keeps up with sound many times over; the cores belong to the picture.
            choose_backend(job.backend.name, threads=1).open_session,
            channels=stream.channels,
            layout=stream.layout,
            sample_rate=stream.sample_rate,
            strength=work.plan.strength,
        )
    assert job.tracks is not None
    return SoundPipeline(
        reader,
        _whole(reader, work),
        enhancer,
        job.tracks.audios[index],
        clock=job.clock,
        stop=stop,
        on_samples=tell.samples,
    )


def _whole(reader: VideoReader | AudioReader, work: Work) -> Iterator[Any]:
    """Pass on what a reader gives, and refuse a source that turns out damaged, unless damage is to be concealed.

    Raises:
        DecodeError: Packets could not be decoded, or the file ends before its own index does.
    """
    for item in reader:
        if reader.damaged and not work.options.conceal:
            break
        yield item
    ended_early = isinstance(reader, VideoReader) and reader.ended_early
    if (reader.damaged or ended_early) and not work.options.conceal:
        raise DecodeError(
            f"{work.info.path} is damaged or cut short in stream {reader.stream.index}; copy it again from where it "
            "came from, or enhance what can be read with --conceal"
        )


def _check(job: Job, written: Path) -> None:
    """Read the result back before it gets its name."""
    times = None
    if job.video is not None and job.reader is not None:
        times = PictureTimes(job.reader.stream.time_base)
        for pts in job.video.pts:
            times.add(pts)
    with job.clock.measure("check"):
        job.check = verify(
            written,
            pictures=times,
            sounds=[SoundTimes.between(sound.reader, sound.encoder) for sound in job.sounds],
        )


def _save_comparison(job: Job) -> None:
    path = job.work.options.compare
    if path is None or job.video is None or job.video.snapshot is None:
        return
    from runtime.compare import save_comparison

    save_comparison(job.video.snapshot.before, job.video.snapshot.after, path)
    job.compared = True


class _Teller:
    """Turns counts from the threads into progress messages."""

    def __init__(self, job: Job, on_progress: Callable[[Progress], None] | None) -> None:
        self._job, self._on_progress = job, on_progress
        self._lock = threading.Lock()
        self._progress = Progress(
            "opening", frames_total=expected_frames(job.work), samples_total=expected_samples(job.work)
        )
        self._begun = time.monotonic()

    def stage(self, name: str) -> None:
        """Begin a stage."""
        self._tell(stage=name)

    def frame(self, done: int) -> None:
        """Count a finished picture."""
        now = time.monotonic()
        if done == 1:
            self._job.first_frame_s = now - self._job.started
        total = self._progress.frames_total
        fps = done / max(1e-6, now - self._begun)
        eta_s = None if total is None else max(0.0, (total - done) / fps)
        self._tell(frames_done=done, fps=fps, eta_s=eta_s)

    def samples(self, done: int) -> None:
        """Count finished samples; the furthest track counts."""
        self._tell(samples_done=max(done, self._progress.samples_done))

    def _tell(self, **changes: object) -> None:
        from dataclasses import replace

        with self._lock:
            self._progress = replace(self._progress, **changes)  # type: ignore[arg-type]
            if self._on_progress is not None:
                self._on_progress(self._progress)
