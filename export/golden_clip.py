"""The golden clip of the engine store: `python -m export.golden_clip` writes `zoo/golden`.

The image is three photographs side by side that come with scikit-image: "coffee" by Rachel Michetti (CC0),
"astronaut", Eileen Collins, by NASA (public domain), "chelsea" by Stefan van der Walt (CC0). The audio is the synthetic
speech of the sample clip. A new clip is a new test: increment `BUILDER_VERSION` in `runtime/engine/store/key.py`.
"""

import wave
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from PIL import Image

from benchmarks.sample_clip import SAMPLE_RATE, make_audio
from runtime.manifest import zoo_folder

HEIGHT: Final = 300
_CUTS: Final = (("coffee", 60, 100), ("astronaut", 20, 60), ("chelsea", 0, 60))
"""A photograph, and the first row and column of a square crop of `HEIGHT` pixels."""
_QUALITY: Final = 88
_SPEECH_RATE: Final = 16_000
_SPEECH_S: Final = 1.6


def make_golden(folder: Path) -> None:
    """Write the image and the audio into a folder."""
    from skimage import data

    folder.mkdir(parents=True, exist_ok=True)
    parts = [getattr(data, name)()[top : top + HEIGHT, left : left + HEIGHT, :3] for name, top, left in _CUTS]
    Image.fromarray(np.concatenate(parts, axis=1)).save(folder / "picture.webp", quality=_QUALITY, method=6)
    audio = soxr.resample(make_audio(int(_SPEECH_S * SAMPLE_RATE)), SAMPLE_RATE, _SPEECH_RATE)
    with wave.open(str(folder / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SPEECH_RATE)
        file.writeframes(np.clip(np.rint(audio * 32768), -32768, 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    make_golden(zoo_folder() / "golden")
