import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from PIL import Image

from runtime.media import stream_mapping
from runtime.media.demux import open_source
from runtime.media.probe import MediaInfo, probe
from runtime.media.stream_mapping import StreamPlan
from runtime.report import Action

STYLES = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,16\n\n[Events]\nFormat: Layer, Start, End, Style, Name, Text\n"
)
FONT = b"\0\1\0\0 a font" * 9


def cover() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def write_rich(path: Path) -> Path:
    """Write a Matroska file with video, two audio tracks, subtitles, chapters, a font, cover art and tags."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, width=64, height=48, options={"preset": "veryfast"})
        video.metadata.update({"title": "main picture", "BPS": "12345"})
        audios = [output.add_stream("aac", rate=48_000), output.add_stream("libopus", rate=48_000)]
        audios[0].metadata.update({"language": "eng", "title": "commentary"})
        audios[0].disposition = Disposition.comment
        audios[1].metadata["language"] = "fra"
        text = output.add_stream("subrip")
        text.codec_context.subtitle_header = STYLES
        text.metadata["language"] = "deu"
        text.disposition = Disposition.forced | Disposition.default
        output.add_attachment("font.ttf", "application/x-truetype-font", FONT)
        output.add_attachment("cover.png", "image/png", cover())
        output.metadata.update({"title": "A film", "artist": "Someone", "x-own": "odd"})
        output.set_chapters([chapter(number) for number in range(4)])
        for number in range(50):
            frame = VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
            if number in (5, 30):
                packet = av.Packet(f"line {number}".encode())
                packet.pts = packet.dts = number * 40
                packet.duration, packet.time_base, packet.stream = 500, Fraction(1, 1000), text
                output.mux(packet)
            for audio in audios:
                block = av.AudioFrame.from_ndarray(np.zeros((2, 1920), np.float32), format="fltp", layout="stereo")
                block.sample_rate, block.pts, block.time_base = 48_000, number * 1920, Fraction(1, 48_000)
                output.mux(audio.encode(block))
        for stream in (video, *audios):
            output.mux(stream.encode(None))
    return path


def chapter(number: int) -> Any:
    start, names = number * 500, {"title": f"part {number}"}
    return {"id": number, "start": start, "end": start + 500, "time_base": Fraction(1, 1000), "metadata": names}


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    return write_rich(tmp_path / "a.mkv")


def text_packets(path: Path) -> list[tuple[Fraction, Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        return [
            (p.pts * stream.time_base, p.duration * stream.time_base, bytes(p))
            for p in container.demux(stream)
            if p.size > 2
        ]


def sound_bytes(path: Path, index: int) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams[index]) if p.size]


def by_kind(plans: tuple[StreamPlan, ...]) -> dict[str, list[Action]]:
    found: dict[str, list[Action]] = {}
    for plan in plans:
        found.setdefault(plan.kind, []).append(plan.action)
    return found


def test_matroska_to_matroska_carries_everything(rich: Path, job: Callable[..., Any]) -> None:
    result = job(rich, "b.mkv", process_audio=False)

    before, after = probe(rich), probe(rich.with_name("b.mkv"))
    assert result.verification.passed
    assert by_kind(result.plans) == {
        "video": [Action.ENHANCED],
        "audio": [Action.COPIED, Action.COPIED],
        "subtitle": [Action.COPIED],
        "attachment": [Action.COPIED],
        "picture": [Action.COPIED],
    }
    assert [audio.tags["language"] for audio in after.audios] == ["eng", "fra"]
    assert after.audios[0].tags["title"] == "commentary"
    assert after.audios[0].disposition & Disposition.comment
    assert [(c.start, c.end, c.tags) for c in after.chapters] == [(c.start, c.end, c.tags) for c in before.chapters]
    tags = {key.lower(): text for key, text in after.tags.items()}
    assert (tags["title"], tags["artist"], tags["x-own"]) == ("A film", "Someone", "odd")
    assert "BPS" not in after.videos[0].tags
    assert text_packets(rich) == text_packets(rich.with_name("b.mkv"))
    for path in (rich, rich.with_name("b.mkv")):
        with av.open(str(path)) as container:
            assert [a.data for a in container.streams.attachments] == [FONT]
            frame = next(v for v in container.streams.video if v.disposition & Disposition.attached_pic)
            assert bytes(next(container.demux(frame))) == cover()
    for index in (1, 2):
        assert sound_bytes(rich, index) == sound_bytes(rich.with_name("b.mkv"), index)


def test_mp4_gets_what_it_can_hold_and_names_the_rest(rich: Path, job: Callable[..., Any]) -> None:
    result = job(rich, "b.mp4", process_audio=False)

    after = probe(rich.with_name("b.mp4"))
    assert by_kind(result.plans) == {
        "video": [Action.ENHANCED],
        "audio": [Action.COPIED, Action.COPIED],
        "subtitle": [Action.TRANSCODED],
        "attachment": [Action.NOT_CARRIED],
        "picture": [Action.COPIED],
    }
    assert all(plan.reason for plan in result.plans if plan.action in (Action.NOT_CARRIED, Action.TRANSCODED))
    texts = text_packets(rich.with_name("b.mp4"))
    assert [(start, length, text[2:]) for start, length, text in texts] == [
        (Fraction(200, 1000), Fraction(500, 1000), b"line 5"),
        (Fraction(1200, 1000), Fraction(500, 1000), b"line 30"),
    ]
    assert [chapter.tags["title"] for chapter in after.chapters] == [f"part {n}" for n in range(4)]
    assert after.tags["title"] == "A film"
    assert any("x-own" in warning.lower() for warning in result.warnings)
    assert [video.is_attached_picture for video in after.videos] == [False, True]
    assert result.verification.passed


def test_going_back_from_mp4_loses_nothing_more(rich: Path, job: Callable[..., Any]) -> None:
    job(rich, "b.mp4", process_audio=False)

    result = job(rich.with_name("b.mp4"), "c.mkv", process_audio=False)

    kinds = by_kind(result.plans)
    assert kinds["subtitle"] == [Action.TRANSCODED]
    assert kinds["picture"] == [Action.COPIED]
    assert kinds["data"] == [Action.TRANSCODED]  # the track with the chapter titles
    # Matroska has no negative times, which AAC's lead-in needs: everything moves by as much.
    shift = result.verification.video.shift_s
    assert 0 < shift <= Fraction(22, 1000)
    assert [(s - shift, t) for s, _, t in text_packets(rich.with_name("c.mkv"))] == [
        (Fraction(200, 1000), b"line 5"),
        (Fraction(1200, 1000), b"line 30"),
    ]
    assert len(probe(rich.with_name("c.mkv")).chapters) == 4


def test_a_time_code_is_rewritten(clip: Callable[..., Path], job: Callable[..., Any]) -> None:
    path = clip("a.mov", tags={"timecode": "01:02:03:04"})

    result = job(path, "b.mp4")

    plans = [plan for plan in result.plans if plan.kind == "data"]
    after = probe(path.with_name("b.mp4"))
    assert [plan.reason for plan in plans] == ["the time code 01:02:03:04 is rewritten"]
    assert after.video is not None
    assert after.video.tags["timecode"] == "01:02:03:04"
    assert len(after.others) == 1


def test_own_tags_survive_in_mp4(clip: Callable[..., Path], job: Callable[..., Any]) -> None:
    path = clip("a.mkv")
    with av.open(str(path)) as source, av.open(str(path.with_name("t.mkv")), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0], opaque=True)
        output.metadata.update({"firmware": "HD5", "title": "T"})
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)

    job(path.with_name("t.mkv"), "b.mp4")

    tags = {key.lower(): text for key, text in probe(path.with_name("b.mp4")).tags.items()}
    assert (tags["firmware"], tags["title"]) == ("HD5", "T")


@pytest.mark.parametrize("processed", [True, False])
def test_a_cut_moves_every_stream_alike(rich: Path, job: Callable[..., Any], processed: bool) -> None:
    result = job(rich, "b.mkv", process_audio=processed, start=Fraction(1), end=Fraction(8, 5))

    after: MediaInfo = probe(rich.with_name("b.mkv"))
    assert result.verification.video.frames_out == 15
    assert [(s, t) for s, _, t in text_packets(rich.with_name("b.mkv"))] == [(Fraction(1, 5), b"line 30")]
    assert [(c.start * c.time_base, c.end * c.time_base) for c in after.chapters] == [
        (0, Fraction(1, 2)),
        (Fraction(1, 2), Fraction(3, 5)),
    ]
    if processed:
        assert [check.samples_out for check in result.verification.audios] == [28_800, 28_800]
        assert result.verification.passed


def test_a_second_video_stream_is_copied_packet_for_packet(tmp_path: Path, job: Callable[..., Any]) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=25, width=64, height=48) for _ in range(2)]
        for stream in streams:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 12800)
        for number in range(10):
            for stream in streams:
                frame = VideoFrame(64, 48, "yuv420p")
                frame.pts, frame.time_base = number * 512, Fraction(1, 12800)
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))

    result = job(path, "b.mp4")

    assert [plan.action for plan in result.plans] == [Action.ENHANCED, Action.COPIED]
    assert sound_bytes(path, 1) == sound_bytes(tmp_path / "b.mp4", 1)


def write_covers(path: Path, count: int) -> Path:
    """Write audio with several different cover images as Matroska attachments."""
    with av.open(str(path), "w") as output:
        audio = output.add_stream("flac", rate=48_000, layout="stereo")
        for number in range(count):
            output.add_attachment(f"cover{number}.png", "image/png", cover() + bytes(number))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 4608), np.int16), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return path


def covers(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [
            bytes(next(packet for packet in container.demux(stream) if packet.size))
            for stream in container.streams.video
            if stream.disposition & Disposition.attached_pic
        ]


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".opus", ".mka"])
@pytest.mark.parametrize("processed", [True, False])
def test_covers_of_audio_files_are_carried(
    tmp_path: Path, job: Callable[..., Any], suffix: str, processed: bool
) -> None:
    source = write_covers(tmp_path / "a.mka", 1)

    there = job(source, f"b{suffix}", process_audio=processed)
    back = job(tmp_path / f"b{suffix}", f"c{suffix}", process_audio=processed)

    assert [by_kind(one.plans)["picture"] for one in (there, back)] == [[Action.COPIED]] * 2
    assert covers(tmp_path / f"b{suffix}") == covers(tmp_path / f"c{suffix}") == [cover()]


@pytest.mark.parametrize(
    ("suffix", "kept"), [(".mp3", 2), (".flac", 2), (".m4a", 2), (".opus", 1), (".wav", 0), (".mka", 2)]
)
def test_every_cover_is_carried_or_named(tmp_path: Path, job: Callable[..., Any], suffix: str, kept: int) -> None:
    source = write_covers(tmp_path / "a.mka", 2)

    result = job(source, f"b{suffix}")

    assert by_kind(result.plans)["picture"] == [Action.COPIED] * kept + [Action.NOT_CARRIED] * (2 - kept)
    assert len(covers(tmp_path / f"b{suffix}")) == kept
    assert all(plan.reason for plan in result.plans if plan.action is Action.NOT_CARRIED)


def write_data_track(path: Path, tag: bytes) -> Path:
    """Write a MOV with a data track under a tag: a renamed timecode track."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, width=64, height=48)
        video.metadata["timecode"] = "10:00:00:00"
        for number in range(5):
            frame = VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
    path.write_bytes(path.read_bytes().replace(b"tmcd", tag))
    return path


@pytest.mark.parametrize(
    ("tag", "suffix", "action"),
    [
        (b"mebx", ".mov", Action.NOT_CARRIED),
        (b"mebx", ".mp4", Action.NOT_CARRIED),
        (b"camm", ".mp4", Action.NOT_CARRIED),
        (b"gpmd", ".mov", Action.COPIED),
        (b"gpmd", ".mp4", Action.COPIED),
        (b"gpmd", ".mkv", Action.NOT_CARRIED),
    ],
)
def test_a_data_track_is_copied_only_where_it_can_be_read_again(
    tmp_path: Path, job: Callable[..., Any], tag: bytes, suffix: str, action: Action
) -> None:
    source = write_data_track(tmp_path / "a.mov", tag)

    result = job(source, f"b{suffix}")

    assert by_kind(result.plans)["data"] == [action]
    others = probe(tmp_path / f"b{suffix}").others
    assert len(others) == (action is Action.COPIED)
    if others:
        assert sound_bytes(source, 1) == sound_bytes(tmp_path / f"b{suffix}", 1)


def write_transport_stream(path: Path) -> Path:
    """Write a TS with MPEG-2 video, KLV data, timed ID3, an unknown private stream, and DVB subtitles."""
    with av.open(str(path), "w", format="mpegts") as output:
        video = output.add_stream("mpeg2video", rate=25, width=64, height=48)
        others = [output.add_data_stream("klv"), output.add_mux_stream("timed_id3"), output.add_mux_stream("bin_data")]
        others.append(output.add_stream("dvbsub"))
        for number in range(10):
            frame = VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
            for stream in others:
                packet = av.Packet(b"\x20\x00\x0f" + bytes(range(100)))
                packet.pts = packet.dts = number * 3600
                packet.time_base, packet.stream = Fraction(1, 90_000), stream
                output.mux_one(packet)
        output.mux(video.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_data_of_a_transport_stream_is_in_the_result_or_named(
    tmp_path: Path, job: Callable[..., Any], suffix: str
) -> None:
    result = job(write_transport_stream(tmp_path / "a.ts"), f"b{suffix}")

    actions = by_kind(result.plans)
    assert actions["data"] == [Action.NOT_CARRIED] * 3
    assert actions["subtitle"] == [Action.COPIED if suffix == ".mkv" else Action.NOT_CARRIED]
    assert [other.codec for other in probe(tmp_path / f"b{suffix}").others] == ["dvb_subtitle"] * (suffix == ".mkv")


def test_the_source_is_opened_once_to_plan_its_streams(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, opened = probe(rich), []
    monkeypatch.setattr(
        stream_mapping, "open_source", lambda path, **options: opened.append(path) or open_source(path, **options)
    )

    stream_mapping.plan_streams(info, ".mp4", video=info.video, video_codec="h264", processed_audio=[])

    assert opened == [rich]
