from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import EncodeError
from runtime.media.audio import AudioReader
from runtime.media.audio_encode import choose_audio
from runtime.media.probe import probe


@pytest.mark.parametrize(
    ("source", "codec", "target", "kept"),
    [
        ("a.mp4", "aac", "b.mp4", "aac"),
        ("a.mp4", "libopus", "b.mp4", "opus"),
        ("a.mp4", "ac3", "b.mp4", "ac3"),
        ("a.mp4", "libmp3lame", "b.mp4", "aac"),
        ("a.mp4", "aac", "b.mkv", "aac"),
        ("a.mkv", "libopus", "b.mkv", "opus"),
        ("a.mkv", "libmp3lame", "b.mkv", "mp3"),
        ("a.mkv", "flac", "b.mp4", "flac"),
        ("a.mkv", "pcm_s16le", "b.mp4", "alac"),
        ("a.mov", "pcm_s24le", "b.mov", "pcm_s24le"),
        ("a.mov", "alac", "b.mkv", "alac"),
    ],
)
def test_as_many_samples_come_out_as_went_in(
    clip: Callable[..., Path], job: Callable[..., Any], source: str, codec: str, target: str, kept: str
) -> None:
    path = clip(source, audio=codec, audio_samples=50_001)

    result = job(path, target)

    assert result.verification.sounds[0].passed, result.verification
    assert probe(path.with_name(target)).audios[0].codec == kept


@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.mov"])
@pytest.mark.parametrize("start", [144, 4800])
def test_sound_that_starts_late_stays_in_sync(
    clip: Callable[..., Path], job: Callable[..., Any], start: int, target: str
) -> None:
    path = clip("a.mov", audio="pcm_s16le", audio_start=start, audio_samples=50_000)

    result = job(path, target)

    check = result.verification.sounds[0]
    assert check.passed, check
    assert check.offset_before == start


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_s16le"), ("a.wav", "pcm_s24le"), ("a.flac", "flac"), ("a.m4a", "aac"), ("a.mp3", "libmp3lame")],
)
def test_a_file_of_sound_alone_is_a_job(
    sound: Callable[..., Path], job: Callable[..., Any], name: str, codec: str
) -> None:
    path = sound(name, audio=codec, audio_samples=44_101, audio_rate=44_100)

    result = job(path, "b" + path.suffix)

    check = result.verification.sounds[0]
    assert check.samples_in == check.samples_out >= 44_101
    assert check.passed


@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_lossless_sound_that_is_not_changed_comes_out_bit_for_bit(
    sound: Callable[..., Path], job: Callable[..., Any], codec: str
) -> None:
    path = sound("a.wav" if codec != "flac" else "a.flac", audio=codec)

    job(path, "b" + path.suffix)

    one, other = (
        np.concatenate([block.samples for block in AudioReader(p, probe(p).audios[0])], axis=1)
        for p in (path, path.with_name("b" + path.suffix))
    )
    np.testing.assert_array_equal(one, other)


def test_a_container_that_takes_no_such_sound_is_refused(sound: Callable[..., Path]) -> None:
    stream = probe(sound("a.wav", audio="pcm_s16le", audio_rate=44_100)).audios[0]

    with pytest.raises(EncodeError, match="webm takes no sound of 44100 Hz"):
        choose_audio(stream, ".webm")
