"""The colour description of video: matrix, range, primaries, transfer, HDR values. No pixels here."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal, cast

from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame

from runtime.errors import UnsupportedMediaError

Matrix = Literal["bt601", "bt709", "bt2020"]

UNSPECIFIED: Final = 2
_RGB: Final = 0

# Codes of ITU-T H.273, which FFmpeg uses too.
_MATRICES: Final[dict[int, Matrix]] = {
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
_MATRIX_CODES: Final[dict[Matrix, int]] = {"bt601": 6, "bt709": 1, "bt2020": 9}
# Matrix, primaries and transfer of standard definition, with 625 and with 525 lines.
_CODES_601_625: Final = (5, 5, 6)
_CODES_601_525: Final = (6, 6, 6)
_HEIGHTS_625: Final = (288, 576, 608)
_LUMA_WEIGHTS: Final[dict[Matrix, tuple[float, float]]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
_PRIMARIES: Final = {
    1: "bt709", 2: "unspecified", 4: "bt470m", 5: "bt601-625", 6: "bt601-525", 7: "smpte240m",
    8: "film", 9: "bt2020", 10: "xyz", 11: "dci-p3", 12: "display-p3", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS: Final = {
    1: "bt709", 2: "unspecified", 4: "gamma22", 5: "gamma28", 6: "bt601", 7: "smpte240m", 8: "linear",
    9: "log100", 10: "log316", 11: "xvycc", 12: "bt1361", 13: "srgb", 14: "bt2020-10", 15: "bt2020-12",
    16: "pq", 17: "smpte428", 18: "hlg",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Colour:
    """The colour description of a frame, complete enough to compute with.

    `matrix_code`, `primaries_code` and `transfer_code` are those of the source (H.273; 2 is unspecified), to be written
    to the result; `matrix` and `full_range` are used to compute, guessed where `guessed` is not empty. `added` is set
    for what the result declares although its source does not.
    """

    matrix: Matrix
    full_range: bool
    matrix_code: int = UNSPECIFIED
    primaries_code: int = UNSPECIFIED
    transfer_code: int = UNSPECIFIED
    guessed: str = ""
    added: str = ""

    @property
    def luma_weights(self) -> tuple[float, float]:
        """The weights of red and blue in luma."""
        return _LUMA_WEIGHTS[self.matrix]

    @property
    def range_code(self) -> int:
        """The range as FFmpeg numbers it."""
        return 2 if self.full_range else 1

    @property
    def primaries(self) -> str:
        """The primaries in words."""
        return _PRIMARIES.get(self.primaries_code, str(self.primaries_code))

    @property
    def transfer(self) -> str:
        """The transfer function in words."""
        return _TRANSFERS.get(self.transfer_code, str(self.transfer_code))

    @property
    def is_hdr(self) -> bool:
        """Whether the video is PQ or HLG."""
        return self.transfer_code in (16, 18)


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """HDR10 values: chromaticities of the mastering display, luminances and light levels in cd/m2."""

    red: tuple[Fraction, Fraction] | None = None
    green: tuple[Fraction, Fraction] | None = None
    blue: tuple[Fraction, Fraction] | None = None
    white: tuple[Fraction, Fraction] | None = None
    min_luminance: Fraction | None = None
    max_luminance: Fraction | None = None
    max_content_light: int | None = None
    max_frame_average_light: int | None = None

    @property
    def has_display(self) -> bool:
        """Whether the description of the mastering display is complete."""
        parts = (self.red, self.green, self.blue, self.white, self.min_luminance, self.max_luminance)
        return all(part is not None for part in parts)


def read_colour(codes: tuple[int, int, int, int], *, pixel_format: str, width: int, height: int) -> Colour:
    """Interpret a colour description; unspecified parts are guessed from the size, as players do.

    Args:
        codes: Matrix, range, primaries and transfer in FFmpeg's numbers.
        pixel_format: FFmpeg's name; the old "yuvj" names mean full range.
        width: Coded width.
        height: Coded height.

    Raises:
        UnsupportedMediaError: No kernel supports the matrix.
    """
    matrix_code, range_code, primaries, transfer = codes
    guesses = []
    if matrix_code in (UNSPECIFIED, 3, _RGB):
        matrix: Matrix = _guess_matrix(primaries, width, height)
        if matrix_code != _RGB:
            guesses.append(f"{matrix.replace('bt', 'BT.')} (by frame size)")
        matrix_code = _MATRIX_CODES[matrix] if matrix_code == _RGB else UNSPECIFIED
    elif matrix_code in _MATRICES:
        matrix = _MATRICES[matrix_code]
    else:
        raise UnsupportedMediaError(
            f"the video's colour matrix has code {matrix_code}, expected BT.601, BT.709 or BT.2020; "
            "convert the file first"
        )
    full_range = range_code == 2 or pixel_format.startswith("yuvj")
    if range_code not in (1, 2) and not full_range:
        guesses.append("limited range")
    return Colour(matrix, full_range, matrix_code, primaries, transfer, ", ".join(guesses))


def colour_of_result(colour: Colour, *, source: tuple[int, int], result: tuple[int, int]) -> Colour:
    """Describe the colour of a result so that players interpret it like its source.

    Players, like Relume, guess unspecified colour from the size. Where they would guess differently at the size of the
    result, the colour that was used is written.

    Args:
        colour: The colour assumed for the source.
        source: Its width and height.
        result: The width and height of the result.
    """
    declared = (colour.matrix_code, colour.primaries_code, colour.transfer_code)
    if UNSPECIFIED not in declared or _guess_matrix(declared[1], *source) == _guess_matrix(declared[1], *result):
        return colour
    matching = _CODES_601_625 if source[1] in _HEIGHTS_625 else _CODES_601_525
    if colour.matrix != "bt601":
        matching = (_MATRIX_CODES[colour.matrix], 1, 1)
    codes = [code if code != UNSPECIFIED else found for code, found in zip(declared, matching, strict=True)]
    return replace(
        colour,
        matrix_code=codes[0],
        primaries_code=codes[1],
        transfer_code=codes[2],
        added=f"the result is labelled {colour.matrix}, as assumed for the source; players would take "
        f"{result[0]}x{result[1]} as another matrix",
    )


def as_converted_rgb(colour: Colour) -> Colour:
    """Describe a frame that was converted from RGB to BT.709 limited-range YUV."""
    return replace(colour, matrix="bt709", matrix_code=1, full_range=False, guessed="")


def read_hdr(frame: VideoFrame) -> HdrMetadata | None:
    """Read the HDR10 side data of a decoded frame; None if it has none."""
    values: dict[str, object] = {}
    for kind, data in read_side_data(frame).items():
        if kind is Type.MASTERING_DISPLAY_METADATA:
            values |= _read_display(data)
        elif kind is Type.CONTENT_LIGHT_LEVEL:
            content, average = struct.unpack_from("<II", data)
            values |= {"max_content_light": content, "max_frame_average_light": average}
    return HdrMetadata(**values) if values else None  # type: ignore[arg-type]


def read_side_data(frame: VideoFrame) -> dict[Type, bytes]:
    """Return a frame's side data by kind; PyAV's container of it iterates over entries, not over keys."""
    entries = cast(Iterable[SideData], frame.side_data)
    return {entry.type: bytes(entry) for entry in entries if isinstance(entry, SideData)}


def _name_unknown(kinds: type[Type], number: object) -> Type:
    """Create an enum member for a number that PyAV has no name for.

    PyAV 18.1 knows those of FFmpeg 7 (0 to 27), and raises ValueError over a whole frame that has one of FFmpeg 8.1's
    (28 LCEVC to 31 Exif), before anything of it can be read.
    """
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNKNOWN_{number}", number  # type: ignore[assignment]
    return kind


Type._missing_ = classmethod(_name_unknown)  # type: ignore[method-assign, assignment]


def _guess_matrix(primaries: int, width: int, height: int) -> Matrix:
    if primaries == 9:
        return "bt2020"
    return "bt709" if width >= 1280 or height > 576 else "bt601"


def _read_display(data: bytes) -> dict[str, object]:
    """Read FFmpeg's AVMasteringDisplayMetadata: ten rationals, then two flags."""
    numbers = struct.unpack_from("<20i2i", data)
    rationals = [Fraction(numbers[i], numbers[i + 1]) if numbers[i + 1] else Fraction(0) for i in range(0, 20, 2)]
    has_primaries, has_luminance = numbers[20:22]
    values: dict[str, object] = {}
    if has_primaries:
        for index, name in enumerate(("red", "green", "blue", "white")):
            values[name] = (rationals[2 * index], rationals[2 * index + 1])
    if has_luminance:
        values |= {"min_luminance": rationals[8], "max_luminance": rationals[9]}
    return values
