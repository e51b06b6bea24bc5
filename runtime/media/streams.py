"""What a media file holds, as values: its streams, chapters and tags."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from av.stream import Disposition

from runtime.media.colour import Colour, HdrMetadata

FieldOrder = Literal["progressive", "top", "bottom", "unknown"]


@dataclass(frozen=True, slots=True)
class VideoStream:
    """A stream of pictures; times count in `time_base`.

    `origin` is the time, in seconds, that is time zero of the result: 0 where the file's clock begins there.
    `rotation` is counter-clockwise degrees, as FFmpeg's display matrix; the matrix itself is kept beside it.
    """

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    bit_depth: int
    chroma: str
    has_alpha: bool
    time_base: Fraction
    average_rate: Fraction | None
    frames: int | None
    duration_pts: int | None
    start_pts: int | None
    sample_aspect: Fraction
    rotation: int
    display_matrix: tuple[int, ...] | None
    colour: Colour
    hdr: HdrMetadata | None
    field_order: FieldOrder
    is_attached_picture: bool
    disposition: int
    tags: dict[str, str]
    origin: Fraction


@dataclass(frozen=True, slots=True)
class AudioStream:
    """A stream of sound; times count in `time_base`, `origin` as in `VideoStream`."""

    index: int
    codec: str
    sample_rate: int
    channels: int
    layout: str
    sample_format: str
    time_base: Fraction
    start_pts: int | None
    duration_pts: int | None
    bit_rate: int | None
    disposition: int
    tags: dict[str, str]
    origin: Fraction


@dataclass(frozen=True, slots=True)
class OtherStream:
    """A stream that is neither picture nor sound.

    `is_hidden`: its packets are not for playing, as those of the track that names the chapters of an MP4.
    """

    index: int
    kind: str
    codec: str
    time_base: Fraction
    is_hidden: bool
    disposition: int
    tags: dict[str, str]


AnyStream = VideoStream | AudioStream | OtherStream


@dataclass(frozen=True, slots=True)
class Chapter:
    """One chapter; times in `time_base`."""

    start: int
    end: int
    time_base: Fraction
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A media file: its container, streams, chapters and tags."""

    path: Path
    container: str
    duration: Fraction | None
    size_bytes: int
    videos: tuple[VideoStream, ...]
    audios: tuple[AudioStream, ...]
    others: tuple[OtherStream, ...]
    chapters: tuple[Chapter, ...]
    tags: dict[str, str]
    origin: Fraction

    @property
    def streams(self) -> tuple[AnyStream, ...]:
        """Every stream, in the file's order."""
        streams: list[AnyStream] = [*self.videos, *self.audios, *self.others]
        return tuple(sorted(streams, key=lambda stream: stream.index))

    @property
    def video(self) -> VideoStream | None:
        """The first stream of moving pictures, the default one if one is marked so."""
        moving = [video for video in self.videos if not video.is_attached_picture]
        marked = [video for video in moving if video.disposition & Disposition.default]
        return next(iter(marked or moving), None)
