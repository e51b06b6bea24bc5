"""The contents of a media file as values: its streams, chapters and tags."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, Self

from av.stream import Disposition

from runtime.media.colour import Colour, HdrMetadata
from runtime.media.wave_chunks import WaveChunk

_USUAL_LAYOUTS: Final = {1: "mono", 2: "stereo", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}

FieldOrder = Literal["progressive", "top", "bottom", "unknown"]

# FFmpeg's AVStereo3DType and AVSphericalProjection.
_STEREO_NAMES: Final = {
    0: "one view", 1: "side by side", 2: "top and bottom", 3: "frame by frame", 4: "checkerboard",
    5: "side by side, quincunx", 6: "row by row", 7: "column by column",
}  # fmt: skip
_DOLBY_RECORD_BYTES: Final = 5
_STEREO_COLUMNS: Final = (1, 5, 7)
_STEREO_ROWS: Final = (2, 6)
_PROJECTION_NAMES: Final = {
    0: "equirectangular", 1: "cube map", 2: "tile of an equirectangular image", 3: "half equirectangular",
    4: "rectilinear", 5: "fisheye",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Crop:
    """Columns and rows at the edges of a coded frame that are hidden."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


@dataclass(frozen=True, slots=True)
class Stereo:
    """How one frame holds the views of both eyes; `kind` is FFmpeg's AVStereo3DType."""

    kind: int
    inverted: bool = False

    @property
    def name(self) -> str:
        """The arrangement as text."""
        return _STEREO_NAMES.get(self.kind, f"kind {self.kind}")

    @property
    def factors(self) -> tuple[int, int]:
        """The number of views side by side, and one above the other."""
        return (2 if self.kind in _STEREO_COLUMNS else 1), (2 if self.kind in _STEREO_ROWS else 1)


@dataclass(frozen=True, slots=True)
class Spherical:
    """How a frame maps to a sphere; `projection` is FFmpeg's AVSphericalProjection.

    The angles are degrees in 16.16, the bounds are left, top, right and bottom in 0.32, both as FFmpeg has them.
    """

    projection: int
    yaw: int = 0
    pitch: int = 0
    roll: int = 0
    bounds: tuple[int, int, int, int] = (0, 0, 0, 0)
    padding: int = 0

    @property
    def name(self) -> str:
        """The projection as text."""
        return _PROJECTION_NAMES.get(self.projection, f"projection {self.projection}")


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """The kind of Dolby Vision, from the container's configuration record."""

    record: bytes

    @property
    def profile(self) -> int:
        """The number of its profile."""
        return self.record[2] >> 1

    @property
    def is_compatible(self) -> bool:
        """Whether the frames have correct colours without its metadata."""
        return self.record[4] >> 4 != 0

    @classmethod
    def from_record(cls, record: bytes) -> Self | None:
        """Parse a record; None if it is too short."""
        return cls(record) if len(record) >= _DOLBY_RECORD_BYTES else None


@dataclass(frozen=True, slots=True)
class Shape:
    """The display properties of a track's frames."""

    sample_aspect: Fraction = Fraction(1)
    stereo: Stereo | None = None
    spherical: Spherical | None = None
    dolby_vision: DolbyVision | None = None


@dataclass(frozen=True, slots=True)
class VideoStream:
    """A video stream; times count in `time_base`.

    `origin` is the time, in seconds, that is time zero of the result: 0 where the file's clock begins there.
    `nominal_rate` is the frame rate of the stream's headers, which differs from the mean at a variable rate.
    `rotation` is counter-clockwise degrees, as in FFmpeg's display matrix; the matrix itself is kept too.
    `width` and `height` are those of the displayed frames, without the edges that the container hides (`crop`).
    `header_time_code`: the frames themselves carry a time code.
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
    crop: Crop | None = None
    stereo: Stereo | None = None
    spherical: Spherical | None = None
    nominal_rate: Fraction | None = None
    header_time_code: bool = False
    dolby_vision: DolbyVision | None = None

    @property
    def shape(self) -> Shape:
        """The display properties of its frames after re-encoding."""
        return Shape(self.sample_aspect, self.stereo, self.spherical)


@dataclass(frozen=True, slots=True)
class AudioStream:
    """A stream of audio; times count in `time_base`, `origin` as in `VideoStream`.

    `order`: the file's channel for each channel of `layout`, if the file has another order.
    """

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
    order: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OtherStream:
    """A stream that is neither video nor audio.

    `is_hidden`: it is not for playback, such as the chapter track of an MP4.
    """

    index: int
    kind: str
    codec: str
    time_base: Fraction
    is_hidden: bool
    disposition: int
    tags: dict[str, str]


def usual_layout(name: str, channels: int) -> str:
    """Return FFmpeg's name of a layout; the usual one if it has only a number of channels."""
    return _USUAL_LAYOUTS.get(channels, name) if name.endswith(" channels") or not name else name


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
    """A media file: its container, streams, chapters and tags, and the chunks of a WAV file that FFmpeg ignores."""

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
    wave_chunks: tuple[WaveChunk, ...] = ()

    @property
    def streams(self) -> tuple[AnyStream, ...]:
        """Every stream, in the file's order."""
        streams: list[AnyStream] = [*self.videos, *self.audios, *self.others]
        return tuple(sorted(streams, key=lambda stream: stream.index))

    @property
    def video(self) -> VideoStream | None:
        """The default video stream, or the first one."""
        moving = [video for video in self.videos if not video.is_attached_picture]
        marked = [video for video in moving if video.disposition & Disposition.default]
        return next(iter(marked or moving), None)
