"""A decoded frame as a value: three planes of YUV samples with their PTS."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

from runtime.errors import UnsupportedMediaError
from runtime.media.colour import Colour, as_converted_rgb
from runtime.media.media_info import Crop

if TYPE_CHECKING:
    from runtime.media.side_data import SideEntry


Chroma = Literal["420", "422", "444"]
Planes = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class YuvFrame:
    """One frame.

    planes: Y (height, width), U and V (chroma height, chroma width, odd sizes rounded up), C-contiguous; uint8 at 8
    bits, uint16 with the low bits used above.
    pts, duration: in the time base of its stream.
    side_data: data that stays with the frame, such as captions.
    """

    planes: Planes
    bit_depth: int
    chroma: Chroma
    pts: int
    duration: int
    side_data: "tuple[SideEntry, ...]" = ()

    @property
    def width(self) -> int:
        """Columns of luma."""
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """Rows of luma."""
        return int(self.planes[0].shape[0])


_EXACT: Final = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
)  # fmt: skip
_LEAST_SIDE: Final = 16


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """How frames of a pixel format are converted to planes.

    `name` is the planar format that holds them; `direct` frames already have it, `gray` ones only lack chroma, the
    others are converted by swscale. `alpha` is dropped, so it must be opaque. `colour` describes the planes afterwards.
    """

    name: str
    bit_depth: int
    chroma: Chroma
    colour: Colour
    direct: bool
    gray: bool = False
    rgb: bool = False
    alpha: bool = False
    note: str = ""


def bits_of(pixel_format: str) -> int:
    """Return the bits of one sample of a format."""
    return max((part.bits for part in VideoFormat(pixel_format).components), default=8)


def has_alpha(pixel_format: str) -> bool:
    """Return whether a format has an alpha plane; palettes do not count, nor do unknown formats."""
    if pixel_format == "none":
        return False
    form = VideoFormat(pixel_format)
    return any(part.is_alpha for part in form.components) and not form.has_palette


def chroma_of(pixel_format: str) -> str:
    """Return the chroma sampling of a format: 420, 422, 444, or 400 for gray."""
    form = VideoFormat(pixel_format, 64, 64)
    if _is_gray(form):
        return "400"
    if form.is_rgb or form.has_palette:
        return "444"
    return {
        (32, 32): "420", (16, 16): "420", (32, 64): "422", (16, 64): "422",
    }.get((form.chroma_width(64), form.chroma_height(64)), "444")  # fmt: skip


def plan_pixels(pixel_format: str, colour: Colour) -> PixelPlan:
    """Plan how frames of a format are converted to planes of 8 or 10 bits.

    Raises:
        UnsupportedMediaError: The format is not a visible image, or gray with alpha.
    """
    form = VideoFormat(pixel_format, 64, 64)
    alpha = has_alpha(pixel_format)
    if form.is_bayer or pixel_format.startswith("xyz"):
        raise UnsupportedMediaError(f"pixels are {pixel_format}, expected YUV, RGB or gray")
    if alpha and len(form.components) == 2:
        raise UnsupportedMediaError(f"pixels are {pixel_format}, expected YUV, RGB, or gray without alpha")
    bits = bits_of(pixel_format)
    depth = 8 if bits <= 8 else 10
    gray, rgb = _is_gray(form), form.is_rgb or form.has_palette
    found = chroma_of(pixel_format)
    chroma: Chroma = "422" if found == "422" else "444" if found == "444" else "420"
    name = planar_format(chroma, depth)
    notes = [f"{bits} bit samples were reduced to 10 bits"] if bits > 10 else []
    if rgb:
        notes.append("RGB was converted to BT.709 YUV 4:4:4")
    return PixelPlan(
        name=name,
        bit_depth=depth,
        chroma=chroma,
        colour=as_converted_rgb(colour) if rgb else colour,
        direct=pixel_format.replace("yuvj", "yuv") == name,
        gray=gray,
        rgb=rgb,
        alpha=alpha,
        note="; ".join(notes),
    )


def is_opaque(frame: VideoFrame) -> bool:
    """Return whether every pixel of a frame with alpha is opaque."""
    form = frame.format
    part = next(part for part in form.components if part.is_alpha)
    if form.is_planar and not form.is_big_endian and part.plane == len(frame.planes) - 1:
        return bool((_view(frame, part.plane) == (1 << part.bits) - 1).all())
    packed = frame.reformat(format="rgba", threads=1).planes[0]
    samples = np.frombuffer(packed, np.uint8).reshape(frame.height, -1)  # type: ignore[call-overload]
    return bool((samples[:, 3 : 4 * frame.width : 4] == 255).all())


def planar_format(chroma: Chroma, bit_depth: int) -> str:
    """Return FFmpeg's name of a planar YUV format of 8 or 10 bits."""
    return f"yuv{chroma}p" + ("" if bit_depth == 8 else "10le")


def convert_frame(frame: VideoFrame, plan: PixelPlan) -> VideoFrame:
    """Convert a frame to the planar format of its plan, without changing samples where possible."""
    if plan.direct:
        return frame
    if plan.gray:
        return _add_chroma(frame, plan)
    source_range = ColorRange.JPEG if plan.rgb or plan.colour.full_range else ColorRange.MPEG
    result_range = ColorRange.JPEG if plan.colour.full_range else ColorRange.MPEG
    matrix = Colorspace.ITU709
    return frame.reformat(
        format=plan.name,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=source_range,
        dst_color_range=result_range,
        interpolation=_EXACT,
        threads=1,
    )


def fit_frame(frame: VideoFrame, width: int, height: int, *, stretches: bool) -> VideoFrame:
    """Scale a frame to a size; unless it `stretches`, its shape is kept, and `pad_frame` adds the rest."""
    if not stretches:
        scale = min(Fraction(width, frame.width), Fraction(height, frame.height))
        # Whole chroma samples, and equal borders.
        width = min(width, max(2, round(frame.width * scale / 2) * 2))
        height = min(height, max(2, round(frame.height * scale / 2) * 2))
    return frame.reformat(width=width, height=height, interpolation=_EXACT, threads=1)


def pad_frame(frame: VideoFrame, width: int, height: int, *, full_range: bool) -> VideoFrame:
    """Centre a planar YUV frame in a black one."""
    result = VideoFrame(width, height, frame.format.name)
    bits = bits_of(frame.format.name)
    left, top = (width - frame.width) // 4 * 2, (height - frame.height) // 4 * 2
    for index in range(3):
        source, target = _view(frame, index), _view(result, index)
        columns = 1 if index == 0 or source.shape[1] == frame.width else 2
        rows = 1 if index == 0 or source.shape[0] == frame.height else 2
        black = (0 if full_range else 16 << (bits - 8)) if index == 0 else 1 << (bits - 1)
        target[:] = black
        y, x = top // rows, left // columns
        target[y : y + source.shape[0], x : x + source.shape[1]] = source
    result.pts, result.duration = frame.pts, frame.duration
    if frame.time_base is not None:
        result.time_base = frame.time_base
    return result


def read_planes(frame: VideoFrame) -> Planes:
    """Copy the three planes of a planar YUV frame."""
    y, u, v = (np.ascontiguousarray(_view(frame, index)) for index in range(3))
    return y, u, v


def fitting_crop(crop: Crop | None, width: int, height: int) -> Crop | None:
    """Return a cropping aligned to chroma and fields; None if it hides nothing or too much.

    The left and top edges are cropped in multiples that suit every chroma sampling and both fields, so up to three
    columns or rows remain.
    """
    if crop is None:
        return None
    crop = Crop(crop.left - crop.left % 2, crop.top - crop.top % 4, crop.right, crop.bottom)
    rest = width - crop.left - crop.right, height - crop.top - crop.bottom
    hides = any((crop.left, crop.top, crop.right, crop.bottom))
    return crop if hides and min(rest) >= _LEAST_SIDE else None


def crop_planes(planes: Planes, crop: Crop) -> Planes:
    """Cut the edges off the planes of a frame."""
    height, width = planes[0].shape
    top, left, bottom, right = crop.top, crop.left, height - crop.bottom, width - crop.right
    cut = [planes[0][top:bottom, left:right]]
    for plane in planes[1:]:
        rows, columns = (2 if plane.shape[0] < height else 1), (2 if plane.shape[1] < width else 1)
        cut.append(plane[top // rows : -(-bottom // rows), left // columns : -(-right // columns)])
    y, u, v = map(np.ascontiguousarray, cut)
    return y, u, v


def write_planes(image: YuvFrame, *, width: int, height: int) -> VideoFrame:
    """Return a frame as PyAV's; where that is larger, the last row and column are repeated."""
    frame = VideoFrame(width, height, planar_format(image.chroma, image.bit_depth))
    for index, plane in enumerate(image.planes):
        target = _view(frame, index)
        rows, columns = plane.shape
        target[:rows, :columns] = plane
        target[:rows, columns:] = plane[:, -1:]
        target[rows:] = target[rows - 1]
    return frame


def _view(frame: VideoFrame, index: int) -> NDArray[Any]:
    plane = frame.planes[index]
    wide = bits_of(frame.format.name) > 8
    data: NDArray[Any] = np.frombuffer(plane, np.dtype("<u2") if wide else np.uint8)  # type: ignore[call-overload]
    return data.reshape(plane.height, -1)[:, : plane.width]


def _is_gray(form: VideoFormat) -> bool:
    return len(form.components) == 1 and not form.is_rgb and not form.has_palette and not form.is_bayer


def _add_chroma(frame: VideoFrame, plan: PixelPlan) -> VideoFrame:
    """Return gray neutral chroma; swscale would treat gray as full range and change its levels."""
    bits = bits_of(frame.format.name)
    form = frame.format
    luma = _view(frame, 0)
    if form.name.startswith("mono"):
        return frame.reformat(format=plan.name, threads=1)
    if form.is_big_endian:
        luma = luma.byteswap()
    if bits > 10:
        luma = np.minimum((luma.astype(np.uint32) + (1 << (bits - 11))) >> (bits - 10), 1023)
    elif 8 < bits < 10:
        luma = luma << (10 - bits)
    result = VideoFrame(frame.width, frame.height, plan.name)
    _view(result, 0)[:] = luma
    for index in (1, 2):
        _view(result, index)[:] = 1 << (plan.bit_depth - 1)
    result.pts, result.duration = frame.pts, frame.duration
    if frame.time_base is not None:
        result.time_base = frame.time_base
    return result
