"""Measures of how degraded a frame is, as inputs of networks: the noise level, and a descriptor of all degradations.

Both come from Haar wavelet coefficients (Donoho and Johnstone, Biometrika 81, 1994). Noise raises the finest ones,
coding sets most of them to zero, blur lowers all of them.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DESCRIPTORS: Final = 8
"""Length of the vector that `describe_degradation` returns."""
_SMALLEST: Final = 2.0**-11
_MOST_ROWS: Final = 360
_BAND: Final = 16
MAX_NOISE: Final = 50 / 255
"""The highest noise level that networks with such an input are trained for."""


def estimate_noise(luma: NDArray[np.float32]) -> float:
    """Estimate the standard deviation of white noise from the median of the finest diagonal coefficients.

    Edges hardly reach them. The estimate is too low where a codec smoothed the noise.

    Args:
        luma: (height, width) float32 in [0, 1], at least 2x2.

    Returns:
        Sigma, from 0 to `MAX_NOISE`.
    """
    magnitudes: NDArray[Any] = _diagonal(*_quads(luma))
    return float(min(np.median(magnitudes) / 0.6745, MAX_NOISE))


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
        a, b, c, d = _quads(plane)
        diagonal = _diagonal(a, b, c, d)
        axial = (np.abs(a + b - c - d) + np.abs(a - b + c - d)) / 4
        values += [_log(float(np.median(diagonal))), _log(float(diagonal.mean())), _log(float(axial.mean()))]
        values.append(2 * float((diagonal < 1 / 512).mean()) - 1)
        plane = (a + b + c + d) * np.float32(0.25)
    return np.array(values, np.float32)


def _quads(plane: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return the four pixels of each 2x2 block, (height / 2, width / 2) each, in raster order."""
    height, width = (side // 2 * 2 for side in plane.shape)
    return tuple(plane[y:height:2, x:width:2] for y in (0, 1) for x in (0, 1))


def _diagonal(
    a: NDArray[np.float32], b: NDArray[np.float32], c: NDArray[np.float32], d: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the magnitudes of the diagonal Haar coefficients."""
    magnitudes: NDArray[np.float32] = np.abs(a - b - c + d) * np.float32(0.5)
    return magnitudes


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
