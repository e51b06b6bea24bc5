"""Footage that the tests make themselves."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    (folder / "video").mkdir()
    (folder / "images").mkdir()
    rng = np.random.default_rng(7)
    wide = np.kron(rng.integers(0, 255, (60, 90, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for name, step in (("a.mp4", 3), ("b.mp4", 5)):
        with av.open(str(folder / "video" / name), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "10", "preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 480, 320, "yuv420p"
            for k in range(14):
                window = np.ascontiguousarray(wide[k : k + 320, step * k : step * k + 480])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
            container.mux(stream.encode(None))
    Image.fromarray(wide[:400, :600]).save(folder / "images" / "photo.png")
    return folder
