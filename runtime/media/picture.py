"""A decoded picture as a value: three planes of YUV samples and their place in time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

if TYPE_CHECKING:
    from runtime.media.side_data import SideEntry

Chroma = Literal["420", "422", "444"]
Planes = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    planes: Y (height, width), U and V (chroma height, chroma width, odd sizes rounded up), C-contiguous; uint8 at 8
    bits, uint16 with the low bits used above.
    pts, duration: in the time base of its stream.
    side_data: what is to travel with it, such as captions.
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
