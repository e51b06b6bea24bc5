"""The same frames give the same bytes, whatever is in memory: without that, no resumed job equals another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENCODE = """
import hashlib, sys
from fractions import Fraction
import numpy as np
from runtime.media.video_encoder import EncodeSettings, VideoEncoder
from runtime.media.muxer import open_scratch
from runtime.media.pixel_formats import YuvFrame

codec, suffix, chroma, bits = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
width, height = 208, 96
base = np.kron(np.random.default_rng(5).integers(0, 256, (height // 8, width // 8 + 8)), np.ones((8, 8)))
base = (base.astype(np.uint16) << (bits - 8)).astype(np.uint8 if bits == 8 else np.uint16)
for threads, pictures in ((1, 18), (2, 18), (2, 1), (2, 2), (2, 3)):
    container = open_scratch(suffix)
    encoder = VideoEncoder(container, EncodeSettings(
        codec, width, height, Fraction(1, 16000), Fraction(25), bits, chroma, threads=threads))
    packets = []
    for step in range(pictures):
        luma = np.ascontiguousarray(base[:, step : step + width])
        chrominance = np.ascontiguousarray(luma[: height // 2 if chroma == "420" else height, : width // 2])
        packets += encoder.encode(YuvFrame((luma, chrominance, chrominance.copy()), bits, chroma, 640 * step, 640))
    packets += encoder.flush(closes=False)
    print(hashlib.sha256(b"".join(bytes(one) for one in packets)).hexdigest(), [(p.pts, p.dts) for p in packets])
    container.close()
"""


@pytest.mark.parametrize(
    "codec",
    [("h264", ".mp4", "420", "8"), ("h264", ".mkv", "422", "10"), ("hevc", ".mp4", "420", "8"),
     ("av1", ".mp4", "420", "10"), ("prores", ".mov", "422", "10"), ("ffv1", ".mkv", "420", "8")],
    ids="-".join,
)  # fmt: skip
def test_an_encoder_gives_the_same_bytes_whatever_lay_in_its_memory(codec: tuple[str, ...]) -> None:
    root = Path(__file__).parents[3]

    runs = [
        subprocess.run(
            [sys.executable, "-c", ENCODE, *codec], capture_output=True, text=True, check=True, timeout=120,
            env=os.environ | {"MALLOC_PERTURB_": filling, "PYTHONPATH": str(root)},
        ).stdout
        for filling in ("1", "120", "254")
    ]  # fmt: skip

    assert len(runs[0].splitlines()) == 5
    assert runs[0] == runs[1] == runs[2]
