"""Faults of a file, measured in samples of it, and the preset that helps."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from runtime.audio.analysis import AudioAnalysis, analyse
from runtime.audio.band_split import LOW_RATE
from runtime.audio.denoiser import HOP_SAMPLES
from runtime.audio.music_detector import MusicDetector
from runtime.media.audio_reader import AudioReader
from runtime.media.deinterlace import find_interlacing
from runtime.media.media_info import AudioStream, MediaInfo, VideoStream
from runtime.media.resample import RateConverter
from runtime.media.sampling import sample_frames
from runtime.video.degradation import estimate_noise

_NOISY: Final = 3.0
"""Standard deviation of 255 levels; clean cameras and films are below 2."""
_BLOCKY: Final = 2.2
"""Of FFmpeg's `blockdetect`: H.264 at CRF 18 is below 2, at CRF 36 above 2.3."""
_DARK: Final = 0.2
_SMALL_LINES: Final = 720

_SPANS: Final = (Fraction(1, 10), Fraction(1, 2), Fraction(8, 10))
_SPAN_S: Final = 15
_QUIET_LUFS: Final = -30.0
_CLEAN_DB: Final = 35.0
"""Distance between the loudness of speech and the quietest tenth of a track."""
_MUSIC_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class VideoMeasures:
    """Medians over frames from several places.

    noise: Standard deviation, of 255 levels. blockiness: 1 without blocks. brightness: Mean luma, 0 to 1.
    """

    noise: float
    blockiness: float
    brightness: float
    is_interlaced: bool


@dataclass(frozen=True, slots=True)
class AudioMeasures:
    """Measures of the first audio track, from several places."""

    analysis: AudioAnalysis
    music_share: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in words. code: For programs, such as "noisy"."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The faults of a file and the preset that helps; None where nothing needs to be done."""

    findings: tuple[Finding, ...]
    preset: str | None
    reason: str
    video: VideoMeasures | None
    audio: AudioMeasures | None


def advise(info: MediaInfo) -> Advice:
    """Measure a file and choose a preset.

    Raises:
        MediaError: The file cannot be read.
    """
    video = None if info.video is None else measure_video(info, info.video)
    track = next((one for one in info.audios if one.codec != "unknown" and one.sample_rate), None)
    audio = None if track is None else measure_audio(info, track)
    findings = (*_video_findings(info.video, video), *_audio_findings(audio))
    preset, reason = _choose(info, {one.code for one in findings}, audio)
    return Advice(findings, preset, reason, video, audio)


def measure_video(info: MediaInfo, stream: VideoStream) -> VideoMeasures:
    """Measure frames from several places of a stream."""
    noise, blocks, brightness = [], [], []
    for frame in sample_frames(info.path, stream):
        luma = frame.to_ndarray(format="gray").astype(np.float32) / np.float32(255)
        if min(luma.shape) < 16:
            continue
        noise.append(255 * estimate_noise(luma))
        blocks.append(_blockiness(frame))
        brightness.append(float(luma.mean()))
    if not noise:
        return VideoMeasures(0.0, 1.0, 0.5, is_interlaced=False)
    return VideoMeasures(
        noise=round(float(np.median(noise)), 2),
        blockiness=round(float(np.median(blocks)), 2),
        brightness=round(float(np.median(brightness)), 3),
        is_interlaced=find_interlacing(info.path, stream).interlaced,
    )


def measure_audio(info: MediaInfo, track: AudioStream) -> AudioMeasures | None:
    """Measure some seconds from several places of a track; None if there is no sample."""
    music = _MusicShare(track.sample_rate)

    def blocks() -> Iterator[NDArray[np.float32]]:
        for start, end in _choose_spans(info.duration):
            with AudioReader(info.path, track, start=start, end=end) as reader:
                for block in reader:
                    music.push(block.samples)
                    yield block.samples

    analysis = analyse(blocks(), layout=track.layout, sample_rate=track.sample_rate)
    return AudioMeasures(analysis, music.share()) if music.samples else None


class _MusicShare:
    """The share of a signal that the music detector takes for music."""

    def __init__(self, sample_rate: int) -> None:
        self.samples = 0
        self._rate = RateConverter(sample_rate, LOW_RATE, 1)
        self._detector = MusicDetector(LOW_RATE)
        self._rest = np.empty(0, np.float32)
        self._sum, self._count = 0.0, 0

    def push(self, block: NDArray[np.float32]) -> None:
        self.samples += block.shape[1]
        mono = self._rate.push(block.mean(axis=0, keepdims=True))[0]
        signal = np.concatenate([self._rest, mono])
        whole = len(signal) // HOP_SAMPLES * HOP_SAMPLES
        if whole:
            weights = self._detector.push(signal[:whole])
            self._sum += float(whole - weights.sum())
            self._count += whole
        self._rest = signal[whole:]

    def share(self) -> float:
        return round(self._sum / self._count, 3) if self._count else 0.0


def _choose_spans(duration: Fraction | None) -> list[tuple[Fraction | None, Fraction | None]]:
    if duration is None or duration <= len(_SPANS) * _SPAN_S:
        return [(None, Fraction(len(_SPANS) * _SPAN_S))]
    return [(place * duration, place * duration + _SPAN_S) for place in _SPANS]


def _blockiness(frame: VideoFrame) -> float:
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    graph.link_nodes(source, graph.add("format", "gray"), graph.add("blockdetect"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    measured = float(graph.vpull().metadata.get("lavfi.block", 1.0))
    return measured if np.isfinite(measured) else 1.0  # as of a black frame


def _video_findings(stream: VideoStream | None, video: VideoMeasures | None) -> Iterator[Finding]:
    if stream is None or video is None:
        return
    if video.noise >= _NOISY:
        yield Finding("noisy", "The video is noisy.")
    if video.blockiness >= _BLOCKY:
        yield Finding("blocky", "The video shows blocking from strong compression.")
    if video.brightness < _DARK:
        yield Finding("dark", "The video is dark.")
    if video.is_interlaced:
        yield Finding("interlaced", "The video is interlaced; it will be deinterlaced.")
    if stream.height < _SMALL_LINES:
        yield Finding("small", f"The resolution is low ({stream.width} × {stream.height}).")


def _audio_findings(audio: AudioMeasures | None) -> Iterator[Finding]:
    if audio is None:
        return
    analysis, loudness = audio.analysis, audio.analysis.loudness.integrated
    if loudness is None:
        # A track of less than 0.4 s has no loudness either.
        if analysis.noise_floor is None:
            yield Finding("silent", "The audio is silent.")
        return
    if audio.music_share >= _MUSIC_SHARE:
        yield Finding("music", "The audio is mostly music.")
    elif analysis.noise_floor is not None and loudness - analysis.noise_floor < _CLEAN_DB:
        yield Finding("background", "There is background noise in the audio.")
    if analysis.hum_hz:
        yield Finding("hum", f"The audio hums at {analysis.hum_hz[0]:.0f} Hz.")
    if analysis.is_clipped:
        yield Finding("clipped", "The audio is clipped.")
    if loudness < _QUIET_LUFS:
        yield Finding("quiet", f"The audio is quiet ({loudness:.0f} LUFS).")


def _choose(info: MediaInfo, codes: set[str], audio: AudioMeasures | None) -> tuple[str | None, str]:
    """Return the preset that helps with the faults, and the reason."""
    if info.video is None:
        return _choose_for_audio(codes)
    if "dark" in codes and codes & {"noisy", "blocky"}:
        return "surveillance", "It removes noise, upscales up to 2× and makes voices clearer."
    if "small" in codes:
        return "upscale", "It removes noise and artefacts and upscales the video."
    if codes & {"noisy", "blocky", "interlaced"}:
        return "restore", "It removes noise and artefacts and keeps the size."
    if codes & {"background", "hum", "clipped", "quiet", "music"} and audio is not None:
        return _choose_for_audio(codes)
    return None, "Relume found no measurable faults in this file."


def _choose_for_audio(codes: set[str]) -> tuple[str | None, str]:
    faults = codes & {"hum", "clipped"}
    if "silent" in codes:
        return None, "There is nothing to enhance in the audio."
    if "music" in codes:
        if not faults:
            return None, "Music without hum and clipping is best left unchanged."
        return "music-safe", "It repairs the audio and leaves the music as it is."
    if faults or "quiet" in codes:
        return "speech", "It repairs speech, removes noise and sets its loudness."
    if "background" in codes:
        return "sound-only", "It removes background noise from speech."
    return None, "Relume found no measurable faults in the audio."
