"""The report of a job: written as JSON beside the result, and read back.

Rationals are text ("30000/1001"); positions in video are frame numbers, in audio sample numbers. Durations in seconds
are for display, not for computing.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from runtime.atomic_files import write_durably
from runtime.errors import OutputError, RelumeError

SCHEMA: Final = 1


class Action(StrEnum):
    """What happened to a stream, or to chapters, tags and the like."""

    ENHANCED = "enhanced"
    COPIED = "copied"
    TRANSCODED = "transcoded"
    NOT_CARRIED = "not carried"


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file as a whole."""

    path: str
    container: str
    size_bytes: int
    duration_s: float | None


@dataclass(frozen=True, slots=True)
class StreamOutcome:
    """The outcome of one stream of the source.

    `out_index` and `out_codec` are None for a stream that was not carried; `reason` is empty if the action explains
    itself.
    """

    index: int
    kind: str
    codec: str
    action: Action
    out_index: int | None = None
    out_codec: str | None = None
    language: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """The outcome of chapters, tags, attachments or side data, and their number."""

    what: str
    count: int
    action: Action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Video properties: size, exact rates, pixel format and colour description."""

    width: int
    height: int
    pixel_format: str
    bits: int
    matrix: str
    primaries: str
    transfer: str
    colour_range: str
    frame_rate: str | None
    time_base: str
    sample_aspect: str
    rotation_degrees: int = 0
    hdr10: bool = False


@dataclass(frozen=True, slots=True)
class Tiling:
    """The tiling of a frame for the engine; sizes are those of the tile with its halo."""

    tile_height: int
    tile_width: int
    halo: int
    tiles_per_frame: int


@dataclass(frozen=True, slots=True)
class StateReset:
    """A tile whose output was not finite and that was run again from a clean state."""

    frame: int
    tile: int
    cured: bool


@dataclass(frozen=True, slots=True)
class VideoReport:
    """The processing of the video."""

    source: VideoFacts
    result: VideoFacts
    frames_in: int
    frames_out: int
    pts_equal: bool
    scale: int
    scale_reason: str
    strength: float
    grain: float = 0.0
    tiling: Tiling | None = None
    deinterlaced: bool = False
    interlace_reason: str = ""
    scene_cuts: tuple[int, ...] = ()
    state_resets: tuple[StateReset, ...] = ()
    kept_tiles: int = 0
    """Tiles of all frames that stood still and show an earlier result."""


@dataclass(frozen=True, slots=True)
class LoudnessFacts:
    """Loudness by EBU R 128; None for silence. integrated: LUFS. range: LU. true_peak: dBTP."""

    integrated: float | None
    range: float
    true_peak: float | None


@dataclass(frozen=True, slots=True)
class FinishReport:
    """The repair and the levels of one audio track.

    `source` and `result` are measured in the files. `target_lufs` and `ceiling_dbtp` are None without a target.
    `levelled_db` is the greatest difference of gain between speakers; `is_limited` says that peaks were held below the
    ceiling.
    """

    source: LoudnessFacts
    result: LoudnessFacts | None
    target_lufs: float | None
    ceiling_dbtp: float | None
    gain_db: float
    levelled_db: float
    is_limited: bool
    is_repaired: bool
    hum_hz: tuple[float, ...]
    clipped_share: float


@dataclass(frozen=True, slots=True)
class AudioReport:
    """The processing of one audio track.

    `guard_share` is the share of the time in which the music detector reduced the effect, and `mean_effect` the mean
    remaining effect (1 is full); both None for a copied track.
    """

    index: int
    mode: str
    sample_rate: int
    channels: int
    samples_in: int
    samples_out: int
    strength: float | None = None
    guard_share: float | None = None
    mean_effect: float | None = None
    state_resets: int = 0
    finish: FinishReport | None = None


@dataclass(frozen=True, slots=True)
class AvOffset:
    """The number of samples by which the audio starts after the video; `rate` is the sample rate."""

    index: int
    rate: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class DamagedPlace:
    """A place of the source that could not be decoded as it was encoded.

    `index` is the stream's. `pts` counts in `time_base` from time zero of the source; a `duration` of 0 is unknown.
    """

    index: int
    pts: int
    duration: int
    time_base: str


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """A model, the backend that ran it, and the reason for the choice."""

    model: str
    sha256: str
    precision: str
    backend: str
    reason: str
    licence: str = ""


@dataclass(frozen=True, slots=True)
class StageTime:
    """The seconds that one stage was busy; stages run in parallel, so they overlap."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed and resources of the job."""

    wall_s: float
    first_frame_s: float | None
    fps: float | None
    peak_memory_bytes: int
    stages: tuple[StageTime, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One finished job.

    `check_failures` are the failures of the verification of the finished file. `resumes` counts the interruptions after
    which it continued; `speed` is then only that of the last attempt.
    """

    relume: str
    preset: str
    source: MediaFile
    result: MediaFile
    streams: tuple[StreamOutcome, ...]
    speed: Speed
    parts: tuple[PartOutcome, ...] = ()
    picture: VideoReport | None = None
    sound: tuple[AudioReport, ...] = ()
    av_offsets: tuple[AvOffset, ...] = ()
    damage: tuple[DamagedPlace, ...] = ()
    engines: tuple[EngineFacts, ...] = ()
    compare: str | None = None
    warnings: tuple[str, ...] = ()
    resumes: int = 0
    check_failures: tuple[str, ...] = ()
    schema: int = SCHEMA


class VerificationError(RelumeError):
    """The finished file was read back and differs from what was written; it is kept under another name.

    `failures` describe the differences; `kept` is the file's name; `report` is the job's where there is one.
    """

    def __init__(
        self, message: str, *, failures: tuple[str, ...] = (), kept: Path | None = None, report: Report | None = None
    ) -> None:
        super().__init__(message)
        self.failures, self.kept, self.report = failures, kept, report


class ReportError(RelumeError, ValueError):
    """A text is not a report, or one of another schema."""


def report_to_json(report: Report) -> str:
    """Write a report as JSON text, its schema number first."""
    fields: dict[str, Any] = asdict(report)
    return json.dumps({"schema": fields.pop("schema"), **fields}, indent=2, ensure_ascii=False)


def report_from_json(text: str) -> Report:
    """Read a report from JSON text.

    Raises:
        ReportError: The text is not JSON, misses or adds fields, or has another schema number.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        report = TypeAdapter(Report).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        raise ReportError(f"not a report of schema {SCHEMA}: {error}") from error
    if report.schema != SCHEMA:
        raise ReportError(f"report has schema {report.schema}, expected {SCHEMA}")
    return report


def write_report(report: Report, path: Path) -> None:
    """Write a report as a JSON file that appears only when complete.

    Raises:
        OutputError: The file cannot be written there.
    """
    try:
        write_durably(path, (report_to_json(report) + "\n").encode())
    except OSError as error:
        raise OutputError(f"the report cannot be written to {path}: {error.strerror}") from error
