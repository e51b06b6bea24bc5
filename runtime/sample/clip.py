"""The sample clip as a file: both streams, compressed hard."""

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange

from runtime.errors import OptionError
from runtime.sample.picture import HEIGHT, SCENES, WIDTH, render_frames
from runtime.sample.sound import SAMPLE_RATE, make_sound

FRAME_RATE: Final = Fraction(25)

# What PyAV converts RGB to: BT.601, which H.273 calls 6 in all three places.
_SMPTE_170M: Final = 6
_CRF: Final = "27"
_SOUND_BLOCK: Final = 1024


def write_clip(path: Path, *, seconds_per_scene: int = 3) -> None:
    """Write the clip as MP4: H.264 and AAC, a title and one chapter for each scene.

    Raises:
        OptionError: scikit-image, which brings the photographs, is not installed.
    """
    if find_spec("skimage") is None:
        raise OptionError("the sample clip needs photographs from scikit-image: pip install 'relume[sample]'")
    frames_per_scene = int(seconds_per_scene * FRAME_RATE)
    partial = path.with_name(f".{path.name}.part")
    with av.open(str(partial), "w", format="mp4") as container:
        container.metadata["title"] = "Relume sample"
        _write_chapters(container, seconds_per_scene)
        video = container.add_stream("libx264", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.colorspace = video.color_primaries = video.color_trc = _SMPTE_170M
        video.color_range = ColorRange.MPEG
        video.options = {"crf": _CRF, "preset": "fast"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = 64000
        for pixels in render_frames(frames_per_scene):
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        sound = make_sound(len(SCENES) * seconds_per_scene * SAMPLE_RATE)
        for start in range(0, sound.size, _SOUND_BLOCK):
            block = np.ascontiguousarray(sound[np.newaxis, start : start + _SOUND_BLOCK])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    partial.replace(path)


def _write_chapters(container: OutputContainer, seconds_per_scene: int) -> None:
    container.set_chapters(
        [
            {
                "id": number,
                "start": number * seconds_per_scene,
                "end": (number + 1) * seconds_per_scene,
                "time_base": Fraction(1),
                "metadata": {"title": scene.photograph},
            }
            for number, scene in enumerate(SCENES)
        ]
    )
