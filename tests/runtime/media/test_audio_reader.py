import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from runtime.media.audio_reader import AudioReader
from runtime.media.audio_samples import AudioBlock, Remixer, make_frame, read_samples
from runtime.media.probe import probe


def read(path: Path, **options: Fraction) -> tuple[AudioReader, list[AudioBlock]]:
    with AudioReader(path, probe(path).audios[0], **options) as reader:
        return reader, list(reader)


def joined(blocks: list[AudioBlock]) -> np.ndarray:
    for block, following in pairwise(blocks):
        assert block.pts + block.samples.shape[1] == following.pts
    return np.concatenate([block.samples for block in blocks], axis=1)


@pytest.mark.parametrize(
    ("name", "codec", "tolerance"),
    [("a.wav", "pcm_s16le", 2**-15), ("a.flac", "flac", 2**-15), ("a.mka", "pcm_f32le", 0.0), ("a.m4a", "aac", 0.05)],
)
def test_samples_are_all_there_and_in_place(
    audio: Callable[..., Path], name: str, codec: str, tolerance: float
) -> None:
    path = audio(name, audio=codec, audio_samples=50_001)
    reference = joined(read(audio("reference.mka", audio="pcm_f32le", audio_samples=50_001))[1])

    reader, blocks = read(path)

    samples = joined(blocks)
    assert reader.samples == 50_001 if codec != "aac" else reader.samples >= 50_001
    assert samples.dtype == np.float32
    middle = slice(3000, 45_000)
    assert np.abs(samples[:, middle] - reference[:, middle]).max() <= tolerance


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_a_cut_is_exact_to_the_sample(audio: Callable[..., Path], codec: str) -> None:
    path = audio("a.mov" if codec != "aac" else "a.m4a", audio=codec, audio_samples=200_000)
    whole = joined(read(path)[1])
    start, end = Fraction(70_001, 48_000), Fraction(120_003, 48_000)

    reader, blocks = read(path, start=start, end=end)

    assert blocks[0].pts == 0
    assert reader.samples == 120_003 - 70_001
    np.testing.assert_allclose(joined(blocks), whole[:, 70_001:120_003], atol=1e-6)


def test_a_late_start_is_reported(audio: Callable[..., Path]) -> None:
    path = audio("a.mov", audio="pcm_s16le", audio_start=4800)

    reader, blocks = read(path)

    assert reader.first_sample == blocks[0].pts == 4800


def write_pieces(path: Path, starts: list[int], length: int = 4800) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=48_000)
        stream.codec_context.layout = "mono"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 48_000)
        for start in starts:
            frame = AudioFrame.from_ndarray(np.full((1, length), 8000, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_a_gap_becomes_silence_of_its_length(tmp_path: Path) -> None:
    path = write_pieces(tmp_path / "a.mkv", [0, 4800, 24_000])

    reader, blocks = read(path)

    samples = joined(blocks)
    assert samples.shape == (1, 28_800)
    assert reader.silence_inserted == 14_400
    assert not samples[:, 9600:24_000].any()
    assert samples[:, 24_000:].all()
    assert any("14400 missing samples were filled with silence" in warning for warning in reader.warnings)


def test_small_jitter_of_times_changes_nothing(tmp_path: Path) -> None:
    path = write_pieces(tmp_path / "a.mkv", [0, 4900, 9550, 14_400])

    reader, blocks = read(path)

    assert joined(blocks).all()
    assert (reader.samples, reader.silence_inserted) == (19_200, 0)


@pytest.mark.parametrize(
    ("name", "codec", "layout", "tolerance"),
    [
        ("a.wav", "pcm_s16le", "7.1", 2**-15),
        ("a.flac", "flac", "7.1", 2**-15),
        ("a.m4a", "alac", "7.1(wide)", 2**-15),
        ("a.wav", "pcm_f32le", "16 channels", 0.0),
        ("a.mkv", "pcm_f64le", "24 channels", 0.0),
        ("a.wv", "wavpack", "9.1.4", 2**-7),
    ],
)
def test_eight_and_more_channels_are_read_each_as_itself(
    audio: Callable[..., Path], name: str, codec: str, layout: str, tolerance: float
) -> None:
    path = audio(name, audio=codec, audio_layout=layout, audio_samples=30_000)
    channels = av.AudioLayout(layout).nb_channels

    samples = joined(read(path)[1])[:, 3000:25_000]

    assert len(samples) == channels
    gains = 1 / (1 + np.arange(channels) / 8)
    expected = 0.4 * np.sin(2 * np.pi * (300 + 200 * (t := np.arange(3000, 25_000) / 48_000)) * t) * gains[:, None]
    assert np.abs(samples - expected).max() <= tolerance + 1e-7


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.opus", "libopus"), ("a.mkv", "libopus")])
def test_eight_lossy_channels_are_read_in_their_order(audio: Callable[..., Path], name: str, codec: str) -> None:
    samples = joined(read(audio(name, audio=codec, audio_layout="7.1", audio_samples=30_000))[1])[:, 3000:25_000]

    levels = np.delete(samples.std(axis=1), 3)  # the LFE, which keeps low tones alone
    expected = np.delete(0.4 / np.sqrt(2) / (1 + np.arange(8) / 8), 3)
    np.testing.assert_allclose(levels, expected, rtol=0.04)


def test_integers_of_64_bits_are_read() -> None:
    frame = AudioFrame(format="s64", layout="stereo", samples=2)
    frame.planes[0].update(np.array([-(2**63), 0, 2**62, -(2**61)], np.int64))

    np.testing.assert_array_equal(read_samples(frame), [[-1.0, 0.5], [0.0, -0.25]])


def write_changing(path: Path, parts: list[tuple[str, int]], *, codec: str, seconds: int = 1) -> Path:
    """Write a transport stream with one track whose parts differ in layout and rate, each one second of a tone."""
    data, lengths = b"", []
    for number, (layout, rate) in enumerate(parts):
        part = path.with_suffix(f".{number}.{codec}")
        with av.open(str(part), "w") as output:
            stream = output.add_stream(codec, rate=rate, layout=layout)
            stream.codec_context.bit_rate = 256_000
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate * seconds) / rate)
            samples = np.repeat(wave[None].astype(np.float32), av.AudioLayout(layout).nb_channels, axis=0)
            frame = make_frame(samples, layout=layout, sample_rate=rate, pts=0)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                output.mux(packet)
                lengths.append(Fraction(stream.codec_context.frame_size, rate))
        data += part.read_bytes()
    both = path.with_suffix(f".both.{codec}")
    both.write_bytes(data)
    with av.open(str(both)) as source, av.open(str(path), "w", format="mpegts") as output:
        copy = output.add_stream_from_template(source.streams.audio[0])
        time = Fraction(0)
        for packet, length in zip(source.demux(audio=0), lengths, strict=False):
            packet.pts = packet.dts = round(time / packet.time_base)
            packet.stream = copy
            output.mux(packet)
            time += length
    return path


@pytest.mark.parametrize(
    ("codec", "parts"),
    [
        ("ac3", [("stereo", 48_000), ("5.1", 48_000)]),
        ("ac3", [("5.1", 48_000), ("stereo", 48_000), ("mono", 48_000)]),
        ("ac3", [("stereo", 44_100), ("stereo", 48_000)]),
        ("eac3", [("mono", 48_000), ("5.1", 32_000)]),
        ("aac", [("stereo", 48_000), ("5.1", 48_000)]),
        ("aac", [("mono", 44_100), ("stereo", 48_000)]),
    ],
)
def test_audio_that_changes_inside_a_track_continues(tmp_path: Path, codec: str, parts: list[tuple[str, int]]) -> None:
    path = write_changing(tmp_path / "a.ts", parts, codec=codec)

    reader, blocks = read(path)

    samples = joined(blocks)
    layout, rate = parts[0]
    assert (reader.sample_rate, len(samples)) == (rate, av.AudioLayout(layout).nb_channels)
    assert reader.holes == ()
    assert samples.shape[1] == pytest.approx(len(parts) * rate, abs=4000)
    assert reader.overlap_dropped == 0
    for number, (other, other_rate) in enumerate(parts):
        middle = samples[:, round((number + 0.3) * rate) : round((number + 0.7) * rate)]
        assert 0.05 < np.abs(middle).max() < 0.45
        changed = (other, other_rate) != parts[0]
        assert any(f"of {other_rate} Hz {other}" in warning for warning in reader.warnings) == changed


@pytest.mark.parametrize(
    ("source", "target"),
    [("5.1", "stereo"), ("7.1.4", "stereo"), ("9.1.6", "7.1"), ("hexadecagonal", "5.1"), ("22.2", "stereo")],
)
def test_a_mix_leaves_out_no_channel_but_the_bass_and_is_never_too_loud(source: str, target: str) -> None:
    channels = av.AudioLayout(source).channels

    gains = Remixer(source, target).mix(np.eye(len(channels), dtype=np.float32))

    lost = [channel.name for channel, column in zip(channels, gains.T, strict=True) if not column.any()]
    assert [name for name in lost if not name.startswith("LFE")] == []
    assert np.abs(gains).sum(axis=1).max() <= 1.0001


@pytest.mark.parametrize(("source", "target"), [("12 channels", "stereo"), ("64 channels", "mono")])
def test_channels_without_names_go_round_the_speakers(source: str, target: str) -> None:
    channels, speakers = (av.AudioLayout(layout).nb_channels for layout in (source, target))

    gains = Remixer(source, target).mix(np.eye(channels, dtype=np.float32))

    assert np.abs(gains.sum(axis=1) - 1).max() < 1e-6
    assert [int(np.argmax(column)) for column in gains.T] == [number % speakers for number in range(channels)]


def test_side_and_back_channels_substitute_for_each_other() -> None:
    block = np.random.default_rng(1).normal(0, 1, (6, 100)).astype(np.float32)

    np.testing.assert_array_equal(Remixer("5.1(side)", "5.1").mix(block), block)


def write_caf(path: Path, codes: list[int], count: int = 4800) -> Path:
    """Write a CAF of 16 bits whose channels are named by Core Audio's codes; each holds its own constant."""
    channels = len(codes)
    samples = np.repeat(np.arange(1, channels + 1, dtype=">i2")[None] * 1000, count, axis=0)
    form = struct.pack(">d4sIIIII", 48_000.0, b"lpcm", 0, 2 * channels, 1, channels, 16)
    layout = struct.pack(">III", 0, 0, channels) + b"".join(struct.pack(">IIfff", code, 0, 0, 0, 0) for code in codes)
    data = struct.pack(">I", 0) + samples.astype(">i2").tobytes()
    chunks = [(b"desc", form), (b"chan", layout), (b"data", data)]
    path.write_bytes(
        b"caff" + struct.pack(">HH", 1, 0) + b"".join(n + struct.pack(">q", len(d)) + d for n, d in chunks)
    )
    return path


@pytest.mark.parametrize(
    ("codes", "layout", "numbers"),
    [
        ([1, 2, 3, 4, 10, 11, 5, 6], "7.1", [1, 2, 3, 4, 7, 8, 5, 6]),
        ([3, 1, 2, 5, 6, 4], "5.1", [2, 3, 1, 6, 4, 5]),
        ([1, 2, 3, 4, 33, 34, 5, 6], "7.1", [1, 2, 3, 4, 5, 6, 7, 8]),  # two of them FFmpeg cannot name
    ],
)
def test_channels_in_an_unusual_order_are_reordered(
    tmp_path: Path, codes: list[int], layout: str, numbers: list[int]
) -> None:
    path = write_caf(tmp_path / "a.caf", codes)

    for _ in range(3):  # memory that PyAV frees twice crashes the process sooner or later
        reader, blocks = read(path)

    assert reader.stream.layout == layout
    np.testing.assert_allclose(joined(blocks)[:, 100], np.array(numbers) * 1000 / 2**15, atol=1e-6)
