"""A small picture of a source, for lists."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.errors import DecodeError, MediaError
from runtime.media.decode import VideoReader
from runtime.media.deinterlace import Interlacing
from runtime.media.pixels import write_planes
from runtime.media.probe import VideoStream, probe

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_LARGEST: Final = (320, 240)
# No camera or disc has pixels of a shape beyond this.
_STRANGEST_ASPECT: Final = Fraction(8)
_TENTH: Final = Fraction(1, 10)


def write_thumbnail(source: Path, target: Path) -> bool:
    """Write a JPEG of a picture near the beginning of a film; it appears only when complete.

    Returns:
        False where the source holds no moving picture.

    Raises:
        MediaError: The source cannot be read.
        OSError: The picture cannot be written.
    """
    info = probe(source)
    if info.video is None:
        return False
    # Not the very first picture, which is often black.
    start = None if info.duration is None else info.duration * _TENTH
    try:
        image = _read_image(source, info.video, start)
    except MediaError:
        image = _read_image(source, info.video, None)
    partial = target.with_name(f".{target.name}.part")
    try:
        image.save(partial, format="JPEG", quality=80)
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink()
    return True


def _size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return the size of a thumbnail before it is turned."""
    shown = width * min(max(aspect, 1 / _STRANGEST_ASPECT), _STRANGEST_ASPECT)
    factor = min(Fraction(1), max(_LARGEST) / max(shown, Fraction(height)))
    return max(1, round(shown * factor)), max(1, round(height * factor))


def _read_image(source: Path, video: VideoStream, start: Fraction | None) -> "Picture":
    """Read one picture, its pixels square and the right way up."""
    from PIL import Image

    with VideoReader(source, video, start=start, threads=1, interlacing=Interlacing(False)) as reader:
        picture = next(iter(reader), None)
        if picture is None:
            raise DecodeError(f"{source} has no picture that can be decoded")
        frame = write_planes(picture, width=reader.width, height=reader.height)
        frame.colorspace, frame.color_range = reader.colour.matrix_code, reader.colour.range_code
        # Made small before it is stretched: a pixel's shape may be anything.
        width, height = _size(reader.width, reader.height, video.sample_aspect)
        pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA", threads=1)
        image: Picture = Image.fromarray(pixels.to_ndarray())
    if video.rotation:
        image = image.rotate(video.rotation, expand=True)
    image.thumbnail(_LARGEST)
    return image
