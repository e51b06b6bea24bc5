"""Clips that the tests generate."""

import numpy as np
import pytest
from PIL import Image

from tests.media import write_clip


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    (folder / "video").mkdir()
    (folder / "images").mkdir()
    rng = np.random.default_rng(7)
    wide = np.kron(rng.integers(0, 255, (60, 90, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    for name, step in (("a.mp4", 3), ("b.mp4", 5)):
        windows = [wide[k : k + 320, step * k : step * k + 480] for k in range(14)]
        write_clip(folder / "video" / name, windows, options={"crf": "10", "preset": "ultrafast"})
    Image.fromarray(wide[:400, :600]).save(folder / "images" / "photo.png")
    return folder
