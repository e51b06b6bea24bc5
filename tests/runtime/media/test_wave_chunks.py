"""What FFmpeg ignores in a WAV file is in the result, or the report names it."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.enhance import enhance
from runtime.media.probe import probe
from runtime.media.wave_chunks import WaveChunk, append_chunks
from runtime.options import EnhanceOptions
from runtime.report import Action, Report

RATE = 16_000
NOTE = b"<BWFXML><SCENE>12</SCENE></BWFXML>!"


def part(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data + b"\0" * (len(data) % 2)


def cues(*marks: tuple[int, int]) -> bytes:
    rows = [struct.pack("<II4sIII", number, place, b"data", 0, 0, place) for number, place in marks]
    return struct.pack("<I", len(rows)) + b"".join(rows)


def labels(*texts: tuple[int, bytes]) -> bytes:
    return b"".join(part(b"labl", struct.pack("<I", number) + text + b"\0") for number, text in texts)


def write_wave(path: Path, *, rf64: str = "never") -> Path:
    """Write one second of audio with cue marks at 0.25 and 0.75 s, their labels, iXML, and an unknown chunk."""
    with av.open(str(path), "w", container_options={"rf64": rf64}) as output:
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, RATE), 700, np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    chunks = [
        WaveChunk(b"cue ", cues((1, RATE // 4), (2, 3 * RATE // 4))),
        WaveChunk(b"adtl", labels((1, b"one"), (2, b"a second"))),
        WaveChunk(b"iXML", NOTE),
        WaveChunk(b"abcd", b"12345"),
    ]
    append_chunks(path, chunks)
    return path


def fates(report: Report) -> dict[str, Action]:
    return {part.what: part.action for part in report.parts if part.what != "chapters"}


@pytest.mark.parametrize("rf64", ["never", "always"])
def test_marks_labels_and_notes_are_kept(tmp_path: Path, rf64: str) -> None:
    source = write_wave(tmp_path / "a.wav", rf64=rf64)
    assert len(probe(source).wave_chunks) == 4

    report = enhance(source, tmp_path / "b.wav", EnhanceOptions(preset="sound-only"))

    kept = probe(tmp_path / "b.wav").wave_chunks
    assert kept == probe(source).wave_chunks[:3]
    assert fates(report) == {
        "cue marks": Action.COPIED,
        "labels of cue marks": Action.COPIED,
        "iXML chunk": Action.COPIED,
        "abcd chunk": Action.NOT_CARRIED,
    }
    content = (tmp_path / "b.wav").read_bytes()
    assert struct.unpack_from("<I", content, 4)[0] == len(content) - 8
    with av.open(str(tmp_path / "b.wav")) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == RATE


def test_marks_move_with_the_start_and_chunks_about_the_whole_are_named(tmp_path: Path) -> None:
    source = write_wave(tmp_path / "a.wav")

    options = EnhanceOptions(preset="sound-only", start=Fraction(1, 2))
    report = enhance(source, tmp_path / "b.wav", options)

    assert probe(tmp_path / "b.wav").wave_chunks == (
        WaveChunk(b"cue ", cues((2, RATE // 4))),
        WaveChunk(b"adtl", labels((2, b"a second"))),
    )
    assert fates(report)["iXML chunk"] is Action.NOT_CARRIED


def test_another_container_has_the_marks_as_chapters(tmp_path: Path) -> None:
    report = enhance(write_wave(tmp_path / "a.wav"), tmp_path / "b.flac", EnhanceOptions(preset="sound-only"))

    assert fates(report) == {
        "cue marks": Action.TRANSCODED,
        "labels of cue marks": Action.TRANSCODED,
        "iXML chunk": Action.NOT_CARRIED,
        "abcd chunk": Action.NOT_CARRIED,
    }
    chapters = probe(tmp_path / "b.flac").chapters
    assert [chapter.start * chapter.time_base for chapter in chapters] == [Fraction(1, 4), Fraction(3, 4)]
    assert [chapter.tags["title"] for chapter in chapters] == ["one", "a second"]


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\4\0\0\0WAVE", b"RIFF\xff\0\0\0WAVEcue \xff\xff\xff\x7f\1\2"])
def test_a_file_of_another_structure_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" + content)

    append_chunks(path, [WaveChunk(b"iXML", NOTE)])

    assert path.read_bytes() == b"x" + content
