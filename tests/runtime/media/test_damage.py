"""True damage is located; joints, junk and a decoder's races do not count as damage."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from runtime.media.audio_reader import AudioReader
from runtime.media.damage import DamageFinder, Hole, describe_holes, join_holes
from runtime.media.probe import probe
from runtime.media.video_reader import VideoReader

PACKET = 188


def read(path: Path, threads: int = 2) -> tuple[list[int], tuple[Hole, ...], list[str]]:
    stream = probe(path).video
    assert stream is not None
    with VideoReader(path, stream, threads=threads) as reader:
        pts = [frame.pts for frame in reader]
        return pts, reader.holes, reader.warnings


def listen(path: Path) -> tuple[int, tuple[Hole, ...], list[str]]:
    (stream,) = probe(path).audios
    with AudioReader(path, stream) as reader:
        samples = sum(block.samples.shape[1] for block in reader)
        return samples, reader.holes, reader.warnings


def places(holes: tuple[Hole, ...]) -> list[tuple[Fraction, Fraction]]:
    return [(hole.pts * hole.time_base, hole.duration * hole.time_base) for hole in holes]


def packets_of(data: bytes, pid: int) -> list[int]:
    """Return the offsets of a stream's packets in a transport stream."""
    return [at for at in range(0, len(data), PACKET) if (data[at + 1] & 31) << 8 | data[at + 2] == pid]


STREAMS = {
    "h264": {"codec": "libx264", "options": {"preset": "veryfast", "g": "10", "crf": "10"}},
    "hevc": {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=10:crf=8"}},
    "mpeg2": {"codec": "mpeg2video", "options": {"g": "10", "b": "2000000", "bf": "2"}},
}


@pytest.fixture
def stream(clip: Callable[..., Path]) -> Callable[..., Path]:
    def write(kind: str, **fields: Any) -> Path:
        times = {"pts": list(range(40)), "time_base": Fraction(1, 25)}
        return clip(f"{kind}.ts", **times, width=160, height=128, **STREAMS[kind], **fields)

    return write


@pytest.mark.parametrize("kind", STREAMS)
def test_a_joint_of_two_recordings_is_not_damage(stream: Callable[..., Path], kind: str) -> None:
    path = stream(kind)
    path.write_bytes(path.read_bytes() * 2)

    pts, holes, _ = read(path)

    assert (len(pts), holes) == (80, ())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_lost_packet_is_damage_and_is_located(stream: Callable[..., Path], kind: str, threads: int) -> None:
    path = stream(kind)
    data = path.read_bytes()
    video = packets_of(data, 0x100)
    lost = video[len(video) * 6 // 10]
    whole = decode(path)
    path.write_bytes(data[:lost] + data[lost + PACKET :])
    left = decode(path)
    wrong = [pts for pts in whole if left.get(pts) != whole[pts]]

    pts, holes, warnings = read(path, threads)

    assert len(pts) == len(left)
    assert len(holes) == 1
    start = (holes[0].pts * holes[0].time_base) / Fraction(1, 25)
    first = min(wrong)
    # The frame that lost bytes is among the wrong ones; others refer to it and may be shown before it.
    assert 0 <= start - (first - min(whole)) / 3600 <= 4
    assert any("the video is damaged at" in warning for warning in warnings)


def decode(path: Path) -> dict[int, bytes]:
    found = {}
    with av.open(str(path)) as container:
        source = container.streams.video[0]
        source.thread_count = 1
        for frame in container.decode(source):
            assert frame.pts is not None
            found[frame.pts] = frame.to_ndarray().tobytes()
    return found


def test_audio_that_lost_a_packet_of_its_transport_stream_is_damaged(stream: Callable[..., Path]) -> None:
    path = stream("h264", audio="aac", audio_samples=76_800)
    data = path.read_bytes()
    audio = packets_of(data, 0x101)
    begins = [bool(data[at + 1] & 0x40) for at in audio]
    lost = next(audio[n] for n in range(len(audio) // 2, len(audio)) if begins[n - 1 : n + 2] == [True, False, False])
    assert listen(path)[1] == ()
    path.write_bytes(data[:lost] + data[lost + PACKET :])

    _, holes, _ = listen(path)

    assert len(holes) == 1
    assert 0 < holes[0].duration * holes[0].time_base < Fraction(1, 5)
    assert read(path)[1] == ()


@pytest.mark.parametrize("junk", [b"\xff", b"x" * 3000, bytes(700), b"TAG" + bytes(125), b"\xff\xfb" * 40])
def test_what_lies_behind_the_audio_is_not_damage(audio: Callable[..., Path], junk: bytes) -> None:
    path = audio("a.mp3", audio="libmp3lame")
    whole = listen(path)[0]
    path.write_bytes(path.read_bytes() + junk)

    samples, holes, _ = listen(path)

    assert holes == ()
    # If more follows, FFmpeg ignores the header that states how much of the last frame is padding.
    assert whole <= samples <= whole + 1152


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.aac", "aac"), ("a.ac3", "ac3")])
def test_a_place_inside_the_audio_is_damage(audio: Callable[..., Path], name: str, codec: str) -> None:
    path = audio(name, audio=codec, audio_samples=96_000)
    data = path.read_bytes()
    middle = len(data) // 2
    noise = np.random.default_rng(0).bytes(1500)
    path.write_bytes(data[:middle] + noise + data[middle + len(noise) :])

    _, holes, warnings = listen(path)

    assert len(holes) >= 1
    assert 0.8 < holes[0].start_s < 1.2
    assert any("damaged at" in warning for warning in warnings)


def test_a_frame_that_is_missing_where_the_clock_counts_samples_is_damage(audio: Callable[..., Path]) -> None:
    path = audio("a.flac", audio="flac", audio_samples=96_000)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + data[middle + 900 :])

    samples, holes, _ = listen(path)

    assert samples == 96_000
    assert len(holes) == 1


@pytest.mark.parametrize(("name", "codec"), [("a.mka", "libmp3lame"), ("a.wv", "wavpack")])
def test_audio_that_ends_before_its_declared_end_is_truncated(
    audio: Callable[..., Path], name: str, codec: str
) -> None:
    path = audio(name, audio=codec, audio_samples=240_000)
    with AudioReader(path, probe(path).audios[0]) as reader:
        assert sum(block.samples.shape[1] for block in reader) >= 240_000
        assert reader.early_end == ""
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + np.random.default_rng(0).bytes(len(data) - middle))

    with AudioReader(path, probe(path).audios[0]) as reader:
        samples = sum(block.samples.shape[1] for block in reader)

    assert samples < 200_000
    assert "but the file declares 5.0 s" in reader.early_end


def test_a_pause_of_speech_is_not_damage(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    speech = [b"\x3c" + noise.bytes(31) for _ in range(20)]
    pause = [b"\x44" + bytes(5), *[b"\x7c"] * 7]
    path = tmp_path / "a.amr"
    path.write_bytes(b"#!AMR\n" + b"".join([*speech, *pause, *pause, *speech]))

    samples, holes, warnings = listen(path)

    assert (samples, holes) == (160 * (20 + 16 + 20), ())
    assert "audio track 0: comfort noise in 16 packets was replaced by silence" in warnings


def test_a_broken_packet_at_the_end_costs_no_frame_before_it(clip: Callable[..., Path]) -> None:
    options = {"preset": "veryfast", "bf": "0"}
    path = clip("a.mp4", pts=[512 * n for n in range(30)], options=options, width=160, height=128)
    with av.open(str(path)) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
        at, size = last.pos, last.size
    data = bytearray(path.read_bytes())
    assert at is not None
    data[at + 5 : at + size] = b"\xff" * (size - 5)
    path.write_bytes(data)

    pts, holes, warnings = read(path, threads=4)

    assert (pts, holes) == ([512 * n for n in range(29)], ())
    assert "1 packet after the last decodable one dropped" in warnings


def test_holes_that_touch_are_one_and_the_first_are_named() -> None:
    tick = Fraction(1, 25)
    holes = [Hole(0, at, 1, tick) for at in (3, 4, 9, 20, 30, 40)]

    joined = join_holes(holes)

    assert joined[0] == Hole(0, 3, 2, tick)
    assert describe_holes(joined) == (
        "at 0.120 s (0.080 s long), at 0.360 s (0.040 s long), at 0.800 s (0.040 s long) and at 2 more places"
    )


class Bits:
    """Writes the bits of an H.264 NAL unit."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def put(self, count: int, value: int) -> "Bits":
        self._bits += [value >> (count - 1 - n) & 1 for n in range(count)]
        return self

    def golomb(self, *values: int) -> "Bits":
        for value in values:
            length = (value + 1).bit_length()
            self.put(length - 1, 0).put(length, value + 1)
        return self

    def align(self) -> "Bits":
        return self.put(-len(self._bits) % 8, 0)

    def unit(self, kind: int) -> bytes:
        """Return the NAL unit of a kind, with the bits that end it."""
        data = np.packbits(np.array(self.put(1, 1).align()._bits, np.uint8)).tobytes()
        escaped, zeros = bytearray(), 0
        for byte in data:
            if zeros == 2 and byte <= 3:
                escaped.append(3)
                zeros = 0
            escaped.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([3 << 5 | kind]) + bytes(escaped)


SIDE = 4
"""Macroblocks across, and down."""


def write_fields(count: int, pattern: str) -> bytes:
    """Write H.264 whose pictures are whole frames ("F") or two fields ("f"); groups of six begin with raw samples."""
    header = Bits().put(24, 77 << 16 | 30).golomb(0, 0, 0, 0, 2).put(1, 0).golomb(SIDE - 1, SIDE // 2 - 1)
    sequence = header.put(6, 0b001000).unit(7)
    parameters = Bits().golomb(0, 0).put(2, 0).golomb(0, 0, 0).put(3, 0).golomb(0, 0, 0).put(3, 0b100).unit(8)
    data = bytearray()
    for number in range(count):
        place = number % 6
        if place == 0:
            data += sequence + parameters
        if pattern[number % len(pattern)] == "F":
            data += _slice(number, place, None)
        else:
            data += _slice(number, place, 0) + _slice(number, place, 1)
    return bytes(data)


def _slice(number: int, place: int, field: int | None) -> bytes:
    begins = place == 0 and field != 1
    bits = Bits().golomb(0, 7 if begins else 5, 0).put(4, place).put(1, field is not None)
    if field is not None:
        bits.put(1, field)
    if begins:
        bits.golomb(number // 6 % 2)
    bits.put(4, 2 * place + (field or 0))
    bits.put(2, 0).put(0 if begins else 1, 0).golomb(0, 1)
    blocks = SIDE * SIDE // (1 if field is None else 2)
    if not begins:
        return bits.golomb(blocks).unit(1)
    for block in range(blocks):
        bits.golomb(25).align()
        for value in [(7 * number + 3 * block) % 200 + 20] * 256 + [128] * 128:
            bits.put(8, value)
    return bits.unit(5)


def flags_under_frame_threads(path: Path) -> int:
    with av.open(str(path)) as container:
        source = container.streams.video[0]
        source.thread_type, source.thread_count = "FRAME", 2
        return sum(frame.is_corrupt for frame in container.decode(source))


@pytest.mark.parametrize("pattern", ["Ff", "ffF"])
def test_frames_of_two_fields_are_not_called_corrupt(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "a.h264"
    path.write_bytes(write_fields(30, pattern))
    assert flags_under_frame_threads(path) > 0, "FFmpeg's race is gone: decode with all threads again"

    pts, holes, _ = read(path, threads=4)

    assert (len(pts), holes) == (30, ())


def test_frames_of_two_fields_that_begin_later_are_not_called_corrupt(clip: Callable[..., Path]) -> None:
    path = clip("a.h264", width=64, height=64, options={"preset": "veryfast", "profile": "main"})
    path.write_bytes(path.read_bytes() + write_fields(30, "Ff"))

    pts, holes, _ = read(path, threads=4)

    assert (len(pts), holes) == (55, ())


def test_frames_of_two_fields_in_a_container_are_not_called_corrupt(tmp_path: Path) -> None:
    raw = tmp_path / "a.h264"
    raw.write_bytes(write_fields(30, "Ff"))
    for name in ("a.mp4", "a.mkv", "a.ts"):
        with av.open(str(raw)) as source, av.open(str(tmp_path / name), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for number, packet in enumerate(packet for packet in source.demux() if packet.size):
                packet.stream, packet.time_base = stream, Fraction(1, 25)
                packet.pts, packet.dts, packet.duration = number, number, 1
                target.mux(packet)

        pts, holes, _ = read(tmp_path / name, threads=4)

        assert (len(pts), holes) == (30, ())


def test_a_page_of_vorbis_that_is_dated_late_is_not_damage_but_a_lost_one_is() -> None:
    finder = DamageFinder(
        Fraction(1, 44_100),
        step=1024,
        reorders=False,
        is_scanned=False,
        counts_samples=True,
        flags_early=False,
        slack=2048,
    )
    missing = []
    for pts in (0, 1024, 2048 + 448, 3072, 4096, 12_288):
        frame = AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate, frame.pts, frame.time_base = 44_100, pts, Fraction(1, 44_100)
        missing.append(finder.judge(frame).missing)

    assert missing == [0, 0, 0, 0, 0, 12_288 - 5120]
