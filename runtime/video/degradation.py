"""Measures of how degraded a frame is, told to networks that restore clean and bad sources alike.

Noise raises the finest wavelet coefficients, coding sets most of them to zero, blur lowers all of them; their
magnitudes at two scales tell the three apart without a reference (compare Donoho and Johnstone, Biometrika 81, 1994).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

DESCRIPTORS: Final = 8
"""Length of the vector that `describe_degradation` returns."""
_SMALLEST: Final = 2.0**-11
_MOST_ROWS: Final = 360
_BAND: Final = 16


def describe_degradation(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a descriptor of a frame's noise, coding loss and blur.

    Args:
        luma: (height, width) float32 in [0, 1], at least 4x4.

    Returns:
        (8,) float32, about -1 to 1: for the first and the second Haar level log magnitudes of the median and mean
        diagonal and the mean axial coefficients, and the share of diagonal coefficients that are almost zero.
    """
    values: list[float] = []
    plane = _sample_rows(luma)
    for _ in range(2):
        height, width = (side // 2 * 2 for side in plane.shape)
        a, b = plane[0:height:2, 0:width:2], plane[0:height:2, 1:width:2]
        c, d = plane[1:height:2, 0:width:2], plane[1:height:2, 1:width:2]
        diagonal = np.abs(a - b - c + d) * np.float32(0.5)
        axial = (np.abs(a + b - c - d) + np.abs(a - b + c - d)) / 4
        values += [_log(float(np.median(diagonal))), _log(float(diagonal.mean())), _log(float(axial.mean()))]
        values.append(2 * float((diagonal < 1 / 512).mean()) - 1)
        plane = (a + b + c + d) * np.float32(0.25)
    return np.array(values, np.float32)


def _log(magnitude: float) -> float:
    return (float(np.log2(magnitude + _SMALLEST)) + 7.5) / 3


def _sample_rows(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return bands of rows spread over a high frame: enough for its statistics, in a fraction of the time."""
    bands = luma.shape[0] // _BAND
    step = -(-luma.shape[0] // _MOST_ROWS)
    if step == 1:
        return luma
    rows = luma[: bands * _BAND].reshape(bands, _BAND, luma.shape[1])[::step]
    return rows.reshape(-1, luma.shape[1])
