from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.errors import EncodeError
from runtime.media.audio_codecs import choose_audio, describe_change
from runtime.media.audio_encoder import AudioEncoder
from runtime.media.audio_reader import AudioReader
from runtime.media.audio_samples import make_frame
from runtime.media.muxer import Muxer
from runtime.media.probe import AudioStream, probe


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

    assert result.verification.audios[0].passed, result.verification
    assert probe(path.with_name(target)).audios[0].codec == kept


@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.mov"])
@pytest.mark.parametrize("start", [144, 4800])
def test_audio_that_starts_late_stays_in_sync(
    clip: Callable[..., Path], job: Callable[..., Any], start: int, target: str
) -> None:
    path = clip("a.mov", audio="pcm_s16le", audio_start=start, audio_samples=50_000)

    result = job(path, target)

    check = result.verification.audios[0]
    assert check.passed, check
    assert check.offset_before == start


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.wav", "pcm_s16le"), ("a.wav", "pcm_s24le"), ("a.flac", "flac"), ("a.m4a", "aac"), ("a.mp3", "libmp3lame")],
)
def test_an_audio_file_is_a_job(audio: Callable[..., Path], job: Callable[..., Any], name: str, codec: str) -> None:
    path = audio(name, audio=codec, audio_samples=44_101, audio_rate=44_100)

    result = job(path, "b" + path.suffix)

    check = result.verification.audios[0]
    assert check.samples_in == check.samples_out >= 44_101
    assert check.passed


@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_lossless_audio_that_is_not_changed_comes_out_bit_for_bit(
    audio: Callable[..., Path], job: Callable[..., Any], codec: str
) -> None:
    path = audio("a.wav" if codec != "flac" else "a.flac", audio=codec)

    job(path, "b" + path.suffix)

    one, other = (
        np.concatenate([block.samples for block in AudioReader(p, probe(p).audios[0])], axis=1)
        for p in (path, path.with_name("b" + path.suffix))
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("samples", [1536 * 20, 1536 * 20 - 100, 1536 * 20 - 300])
@pytest.mark.parametrize(
    ("codec", "target"), [("ac3", ".mkv"), ("ac3", ".mp4"), ("eac3", ".mka"), ("eac3", ".m4v"), ("mp3", ".mp3")]
)
def test_no_sample_is_lost_at_the_end_wherever_it_falls_in_a_frame(
    audio: Callable[..., Path], codec: str, target: str, samples: int
) -> None:
    source = audio("a.wav", audio="pcm_s16le", audio_samples=samples)
    stream = replace(probe(source).audios[0], codec=codec)

    encoder = encode(source, source.with_suffix(target), stream)

    assert encoder.settings.codec == codec
    with AudioReader(source.with_suffix(target), probe(source.with_suffix(target)).audios[0]) as result:
        assert sum(block.samples.shape[1] for block in result) == samples
        assert result.first_sample == 0


@pytest.mark.parametrize("name", ["b.mkv", "b.mka"])
@pytest.mark.parametrize("codec", ["flac", "alac"])
def test_a_short_last_frame_of_lossless_audio_is_read_whole_by_others(
    audio: Callable[..., Path], job: Callable[..., Any], name: str, codec: str
) -> None:
    path = audio("a.mka", audio=codec, audio_samples=50_001)

    job(path, name)

    with av.open(str(path.with_name(name))) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 50_001


@pytest.mark.parametrize(
    ("target", "clipped"),
    [("b.wav", 0), ("b.mkv", 0), ("b.mov", 0), ("b.flac", 2000), ("b.m4a", 2000), ("b.ogg", 2000)],
)
def test_samples_above_full_scale_stay_where_the_target_holds_them(tmp_path: Path, target: str, clipped: int) -> None:
    path = tmp_path / "a.wav"
    samples = np.full((2, 20_000), 0.25, np.float32)
    samples[1, 5000:7000] = -1.75
    write_samples(path, "pcm_f32le", samples)

    encoder = encode(path, path.with_name(target), probe(path).audios[0])

    assert encoder.clipped == clipped
    heard = read_samples(path.with_name(target))
    assert heard.shape == samples.shape
    if clipped:
        assert f"audio track 0: {clipped} samples above full scale were clipped" in encoder.describe_losses(0)[0]
    else:
        np.testing.assert_array_equal(heard, samples)
        assert encoder.describe_losses(0) == []


def encode(source: Path, target: Path, stream: AudioStream) -> AudioEncoder:
    """Encode a source as if it were a different stream."""
    with Muxer(target) as muxer, AudioReader(source, probe(source).audios[0]) as reader:
        encoder = muxer.add_audio(choose_audio(stream, target.suffix))
        flush = (packet for _ in "1" for packet in encoder.flush())
        muxer.run([chain((packet for block in reader for packet in encoder.encode(block)), flush)])
        muxer.publish()
    return encoder


def write_samples(path: Path, codec: str, samples: np.ndarray) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=48_000, layout="stereo")
        for packet in [
            *stream.encode(make_frame(samples, layout="stereo", sample_rate=48_000, pts=0)),
            *stream.encode(None),
        ]:
            output.mux(packet)


def read_samples(path: Path) -> np.ndarray:
    with AudioReader(path, probe(path).audios[0]) as reader:
        return np.concatenate([block.samples for block in reader], axis=1)


@pytest.mark.parametrize(("rate", "target"), [(44_100, "b.webm"), (44_100, "b.opus"), (22_254, "b.ogg")])
def test_audio_of_a_rate_that_the_codec_lacks_is_resampled(audio: Callable[..., Path], rate: int, target: str) -> None:
    path = audio("a.mka", audio="pcm_s16le", audio_rate=rate, audio_samples=rate)
    stream = replace(probe(path).audios[0], codec="vorbis", sample_format="fltp")

    settings = choose_audio(stream, path.with_name(target).suffix)

    assert (settings.codec, settings.sample_rate, settings.source_rate) == ("opus", 48_000, rate)
    assert f"resampled from {rate} to 48000 Hz" in describe_change(stream, settings)


def test_a_resampled_track_is_checked_to_the_sample(audio: Callable[..., Path], job: Callable[..., Any]) -> None:
    path = audio("a.wav", audio="pcm_s16le", audio_rate=44_100, audio_samples=44_101)

    (check,) = job(path, "b.opus").verification.audios

    assert check.passed
    assert check.samples_in == check.samples_out == 48_001


@pytest.mark.parametrize("start", [100, 4410])
@pytest.mark.parametrize("target", ["b.ogg", "b.opus", "b.webm"])
def test_resampled_audio_that_starts_late_stays_in_sync(
    clip: Callable[..., Path], job: Callable[..., Any], start: int, target: str
) -> None:
    path = clip("a.mov", audio="pcm_s16le", audio_rate=44_100, audio_samples=44_101, audio_start=start)
    if target != "b.webm":
        path = without_video(path)

    (check,) = job(path, target, codec="av1").verification.audios

    assert check.passed, check


def without_video(path: Path) -> Path:
    copy = path.with_name("sound.mov")
    with av.open(str(path)) as source, av.open(str(copy), "w") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    return copy


def test_a_container_that_is_not_written_is_refused(audio: Callable[..., Path]) -> None:
    stream = probe(audio("a.wav", audio="pcm_s16le")).audios[0]

    with pytest.raises(EncodeError, match=r"container \.xyz is not supported"):
        choose_audio(stream, ".xyz")
