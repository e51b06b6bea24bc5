"""How noisy a picture is: for networks that are told the level of the noise that they take out."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 50 / 255
"""The most that such networks are trained for."""


def estimate_noise(luma: NDArray[np.float32]) -> float:
    """Estimate the standard deviation of white noise.

    From the median of the finest diagonal wavelet coefficients (Donoho and Johnstone, Biometrika 81, 1994), which edges
    hardly reach. Noise that a codec smoothed is told too low.

    Args:
        luma: (height, width) float32 in [0, 1], at least 2x2.

    Returns:
        Sigma, from 0 to `MOST`.
    """
    height, width = (side // 2 * 2 for side in luma.shape)
    even, odd = luma[0:height:2, :width], luma[1:height:2, :width]
    diagonal = (even[:, 0::2] - even[:, 1::2] - odd[:, 0::2] + odd[:, 1::2]) / 2
    return float(min(np.median(np.abs(diagonal)) / 0.6745, MOST))
