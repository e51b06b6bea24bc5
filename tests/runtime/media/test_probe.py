from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from runtime.errors import DecodeError
from runtime.media.decode import VideoReader
from runtime.media.probe import probe


def test_streams_are_told_as_they_are(clip: Callable[..., Path]) -> None:
    path = clip(
        "a.mp4",
        pixel_format="yuv422p10le",
        audio="aac",
        rotation=90,
        context={"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1},
    )

    info = probe(path)

    video, audio = info.video, info.audios[0]
    assert video is not None
    assert (video.codec, video.width, video.height) == ("h264", 64, 48)
    assert (video.pixel_format, video.bit_depth, video.chroma) == ("yuv422p10le", 10, "422")
    assert (video.rotation, video.frames, video.average_rate) == (90, 25, 25)
    assert (video.colour.matrix, video.colour.is_hdr, video.colour.guessed) == ("bt2020", True, "")
    assert (audio.codec, audio.sample_rate, audio.layout) == ("aac", 48_000, "stereo")
    assert info.origin == 0


def test_a_transport_stream_starts_where_its_first_stream_starts(clip: Callable[..., Path]) -> None:
    path = clip("a.ts", time_base=Fraction(1, 90_000), pts=[3600 * n for n in range(25)])

    info = probe(path)

    assert info.video is not None
    assert info.video.start_pts is not None
    assert info.origin == info.video.start_pts * info.video.time_base > 0


def test_alpha_of_webm_is_seen_in_its_tag(clip: Callable[..., Path]) -> None:
    path = clip("a.mkv", tags={"alpha_mode": "1"})

    video = probe(path).video

    assert video is not None
    assert video.has_alpha


def test_a_stream_without_pictures_is_refused(clip: Callable[..., Path]) -> None:
    path = clip("a.mp4")
    data = bytearray(path.read_bytes())
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    video = probe(path).video
    assert video is not None

    with pytest.raises(DecodeError, match="no picture of it can be decoded"):
        VideoReader(path, video)
