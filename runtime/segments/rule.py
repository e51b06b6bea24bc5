"""Where one segment of the picture ends and the next begins."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from runtime.errors import OptionError

_LEAST_S: Final = 5
_MOST_S: Final = 15
"""Three times the longest way between key frames, so that a forced join costs no key frame more."""


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """A segment ends at a change of scene once it has `at_least` pictures, and anywhere at `at_most`."""

    at_least: int
    at_most: int

    def __post_init__(self) -> None:
        # Two pictures at least: H.264 forbids two key frames in a row that carry the same number, as two encoders give.
        if not 2 <= self.at_least <= self.at_most:
            raise OptionError(
                f"a segment has {self.at_least} to {self.at_most} pictures, expected 2 or more, and the least first"
            )

    def ends(self, pictures: int, *, is_cut: bool) -> bool:
        """Tell whether a segment of that many pictures ends before the next one, which begins a scene if `is_cut`."""
        return pictures >= self.at_most or (is_cut and pictures >= self.at_least)


def usual_rule(rate: Fraction | None) -> SegmentRule:
    """Give the rule for a picture rate."""
    least = max(2, round((rate or Fraction(25)) * _LEAST_S))
    return SegmentRule(least, max(least, round((rate or Fraction(25)) * _MOST_S)))
