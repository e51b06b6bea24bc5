import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from runtime.errors import EncodeError, MediaError, OutputError
from runtime.media.muxer import Muxer
from runtime.media.probe import probe


def test_a_result_appears_only_when_published(clip: Callable[..., Path], job: Callable[..., Any]) -> None:
    path = clip("a.mp4")

    job(path, "b.mp4")

    assert sorted(p.name for p in path.parent.iterdir()) == ["a.mp4", "b.mp4"]


def test_leaving_without_publishing_leaves_nothing(tmp_path: Path) -> None:
    with Muxer(tmp_path / "b.mp4") as muxer:
        muxer.partial.write_bytes(b"half")
        partial = muxer.partial

    assert list(tmp_path.iterdir()) == []
    assert (partial.name[:3], partial.suffix) == (".b.", ".mp4")


def test_an_existing_file_is_kept_by_default(tmp_path: Path) -> None:
    target = tmp_path / "b.mp4"
    target.write_bytes(b"precious")

    with pytest.raises(OutputError, match="already exists"):
        Muxer(target)
    with Muxer(target, overwrite=True):
        pass

    assert target.read_bytes() == b"precious"


def test_a_file_that_appears_meanwhile_is_not_replaced(
    clip: Callable[..., Path], job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip("a.mp4")
    target = path.with_name("b.mp4")
    finish = Muxer._finish

    def finish_late(muxer: Muxer) -> None:
        finish(muxer)
        target.write_bytes(b"precious")

    monkeypatch.setattr(Muxer, "_finish", finish_late)

    with pytest.raises(OutputError, match="already exists"):
        job(path, "b.mp4")

    assert target.read_bytes() == b"precious"
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.mp4", "b.mp4"]


def test_publishing_works_without_hard_links(
    clip: Callable[..., Path], job: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    path = clip("a.mp4")

    job(path, "b.mp4")

    assert sorted(p.name for p in path.parent.iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("b.avi", "suffix .avi, which is not supported"), ("b", "suffix none"), ("none/b.mp4", "create it first")],
)
def test_a_target_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        Muxer(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_reported_and_leaves_nothing(
    clip: Callable[..., Path], job: Callable[..., Any], suffix: str
) -> None:
    path = clip("a.mkv", codec="ffv1", options={}, pts=list(range(0, 512 * 40, 512)), width=320, height=240)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(EncodeError, match="no space left"):
            job(path, f"b{suffix}", crf=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)

    assert [p.name for p in path.parent.iterdir()] == ["a.mkv"]


def test_tracks_are_pulled_in_order_of_time(tmp_path: Path) -> None:
    pulled: list[tuple[str, float]] = []

    class Packet:
        def __init__(self, seconds: Fraction) -> None:
            self.dts, self.pts, self.time_base = seconds, seconds, Fraction(1)

    def track(name: str, step: Fraction, count: int) -> Iterator[Any]:
        for number in range(count):
            pulled.append((name, float(number * step)))
            yield Packet(number * step)

    with Muxer(tmp_path / "b.mkv") as muxer:
        written: list[float] = []
        muxer._write_header = lambda: None  # type: ignore[method-assign]
        muxer._write = lambda packet: written.append(float(packet.dts))  # type: ignore[method-assign]
        muxer.run([track("fast", Fraction(1, 100), 300), track("slow", Fraction(1), 3)])

    assert written == sorted(written)
    ahead = max(time - max((t for n, t in pulled[:i] if n == "slow"), default=0.0)
                for i, (name, time) in enumerate(pulled) if name == "fast" and time < 2)  # fmt: skip
    assert ahead <= 1.0


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        import av

        raise av.error.PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("runtime.media.muxer.av.open", refuse)

    with pytest.raises((MediaError, OutputError), match="is not writable"):
        Muxer(tmp_path / "b.mp4")


def test_a_colon_in_a_name_without_a_folder_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with Muxer(Path("12:30 talk.mkv")) as muxer:
        muxer.container.add_stream("ffv1", rate=25)
        muxer.run([])
        muxer.publish()

    assert (tmp_path / "12:30 talk.mkv").is_file()


@pytest.mark.parametrize("suffix", [".opus", ".ogg", ".flac", ".mka", ".m4a", ".mp3"])
def test_chapters_of_audio_keep_their_times(
    audio: Callable[..., Path], job: Callable[..., Any], tmp_path: Path, suffix: str
) -> None:
    path = audio("a.mka", audio="flac", audio_samples=3 * 48_000)
    starts = [Fraction(0), Fraction(3, 2), Fraction(2001, 1000)]
    with av.open(str(path)) as source, av.open(str(tmp_path / "c.mka"), "w") as output:
        stream = output.add_stream_from_template(source.streams.audio[0], opaque=True)
        ends = [*starts[1:], Fraction(3)]
        output.set_chapters(
            [
                {
                    "id": number,
                    "start": int(start * 1000),
                    "end": int(end * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": f"part {number}"},
                }
                for number, (start, end) in enumerate(zip(starts, ends, strict=True))
            ]
        )
        for packet in source.demux(audio=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)

    job(tmp_path / "c.mka", f"b{suffix}")
    job(tmp_path / f"b{suffix}", f"again{suffix}")

    for name in ("b", "again"):
        chapters = probe(tmp_path / f"{name}{suffix}").chapters
        assert [chapter.start * chapter.time_base for chapter in chapters] == starts
        assert [chapter.tags["title"] for chapter in chapters] == ["part 0", "part 1", "part 2"]


BROADCAST = {
    "description": "Scene 12 take 3",
    "originator": "Recorder",
    "originator_reference": "R123",
    "origination_date": "2024-05-01",
    "origination_time": "10:20:30",
    "time_reference": "1786752000",
    "coding_history": "A=PCM,F=48000,W=24",
}


def write_broadcast(path: Path) -> Path:
    with av.open(str(path), "w", container_options={"write_bext": "1"}) as output:
        stream = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
        output.metadata.update(BROADCAST)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("start", "moved"), [(None, 0), (Fraction(1, 4), 12_000)])
def test_a_broadcast_wave_keeps_its_description(
    job: Callable[..., Any], tmp_path: Path, start: Fraction | None, moved: int
) -> None:
    job(write_broadcast(tmp_path / "a.wav"), "b.wav", start=start)

    before, after = probe(tmp_path / "a.wav").tags, probe(tmp_path / "b.wav").tags
    assert {**before, "time_reference": str(1_786_752_000 + moved)} == after
    assert set(BROADCAST.values()) <= set(before.values())
    content = (tmp_path / "b.wav").read_bytes()
    assert content.index(b"bext") < content.index(b"data")


def test_a_plain_wave_gets_no_broadcast_chunk(
    audio: Callable[..., Path], job: Callable[..., Any], tmp_path: Path
) -> None:
    job(audio("a.flac", audio="flac"), "b.wav")

    assert b"bext" not in (tmp_path / "b.wav").read_bytes()[:4096]
