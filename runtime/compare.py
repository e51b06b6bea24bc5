"""A before/after image: source and result side by side, with a detail of both below."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from runtime.atomic_files import write_durably
from runtime.errors import OutputError

if TYPE_CHECKING:
    from PIL.Image import Image

RgbImage = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_LARGEST_PANEL: Final = (960, 720)
_LEAST_PANEL: Final = (420, 240)
_GAP: Final = 12
_LABEL_HEIGHT: Final = 34
_DETAIL_ASPECT: Final = 4 / 3
_BACKGROUND: Final = (24, 24, 24)
_INK: Final = (235, 235, 235)


def save_comparison(before: RgbImage, after: RgbImage, path: Path) -> None:
    """Write a before/after image as PNG; it appears only when complete.

    Args:
        before: (height, width, 3) uint8, RGB, the source's frame.
        after: (height, width, 3) uint8, RGB, the same frame of the result, of any size.
        path: The file to write.

    Raises:
        OutputError: The file cannot be written there.
    """
    content = BytesIO()
    draw_comparison(before, after).save(content, format="PNG")
    try:
        write_durably(path, content.getvalue())
    except OSError as error:
        raise OutputError(f"the before/after image cannot be written to {path}: {error.strerror or error}") from error


def draw_comparison(before: RgbImage, after: RgbImage) -> "Image":
    """Draw the sheet of `save_comparison`: two whole frames above, three details below."""
    from PIL import Image

    source, result = Image.fromarray(before), Image.fromarray(after)
    grown = source.resize(result.size, Image.Resampling.BICUBIC)
    label = f"source {source.width}x{source.height}"
    if source.size != result.size:
        label += ", upscaled (bicubic)"
    whole_size = _fit(result.size)
    wholes = [
        (label, grown.resize(whole_size, Image.Resampling.LANCZOS)),
        (
            f"result {result.width}x{result.height}",
            result.resize(whole_size, Image.Resampling.LANCZOS),
        ),
    ]
    width = 2 * max(whole_size[0], _LEAST_PANEL[0]) + _GAP
    details = _cut_details(source, grown, result, after, row_width=width)
    lower_height = details[0][1].height
    size = (width + 2 * _GAP, whole_size[1] + lower_height + 2 * _LABEL_HEIGHT + 2 * _GAP)
    sheet = Image.new("RGB", size, _BACKGROUND)
    _put_row(sheet, wholes, top=0)
    _put_row(sheet, details, top=_LABEL_HEIGHT + whole_size[1] + _GAP)
    return sheet


def find_detail(image: RgbImage, panel: tuple[int, int]) -> Box:
    """Find the region with the most detail that fills the panel at 2x magnification.

    Args:
        image: (height, width, 3) uint8, RGB.
        panel: Width and height of the panel that shows the region.

    Returns:
        Left, top, right and bottom, inside the image.
    """
    height, width = image.shape[:2]
    region_width = max(1, min(panel[0] // 2, width))
    region_height = max(1, min(panel[1] // 2, height))
    grey = image.mean(axis=2, dtype=np.float32)
    energy = np.zeros((height + 1, width + 1))
    energy[1:-1, 1:-1] = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    total = energy.cumsum(axis=0).cumsum(axis=1)
    sums = (
        total[region_height:, region_width:]
        - total[:-region_height, region_width:]
        - total[region_height:, :-region_width]
        + total[:-region_height, :-region_width]
    )
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(left), int(top), int(left) + region_width, int(top) + region_height


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    """Shrink into the largest panel, or upscale into the smallest."""
    factor = min(limit / length for limit, length in zip(_LARGEST_PANEL, size, strict=True))
    if factor > 1.0:
        least = min(limit / length for limit, length in zip(_LEAST_PANEL, size, strict=True))
        factor = max(1.0, least)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _cut_details(
    source: "Image", grown: "Image", result: "Image", after: RgbImage, *, row_width: int
) -> list[tuple[str, "Image"]]:
    from PIL import Image

    cubic, nearest = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
    panels = [("detail: source", grown, nearest), ("detail: result", result, nearest)]
    if source.size != result.size:
        pixels = source.resize(result.size, nearest)
        panels = [
            ("detail: source pixels", pixels, nearest),
            ("detail: source, upscaled (bicubic)", grown, cubic),
            ("detail: result", result, cubic),
        ]
    width = (row_width - (len(panels) - 1) * _GAP) // len(panels)
    size = (width, round(width / _DETAIL_ASPECT))
    box = find_detail(after, size)
    return [(label, image.crop(box).resize(size, filter_)) for label, image, filter_ in panels]


def _put_row(sheet: "Image", panels: list[tuple[str, "Image"]], *, top: int) -> None:
    from PIL import ImageDraw, ImageFont

    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=18)
    left = _GAP
    slot = (sheet.width - _GAP) // len(panels)
    for label, image in panels:
        draw.text((left, top + 6), label, fill=_INK, font=font)
        sheet.paste(image, (left, top + _LABEL_HEIGHT))
        left += slot
