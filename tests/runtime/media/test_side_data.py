"""Captions and the like stay with their frames, or the report names them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from runtime.enhance import enhance
from runtime.media.side_data import SideEntry, add_messages
from runtime.options import AudioMode, Codec, EnhanceOptions
from runtime.report import Action
from runtime.resume.writer import SegmentRule

UUID = bytes(range(16))
FRAMES = 12


def captions(number: int) -> bytes:
    """Return two characters of CEA-608 and an empty triplet of CEA-708; zeros in a row must survive too."""
    return bytes([0xFC, 0x41 + number, 0x61 + number, 0xFA, 0, 0, 0xFA, 0, 1])


def message(kind: int, payload: bytes) -> bytes:
    unit = bytes([6, kind, len(payload)]) + payload + b"\x80"
    for tail in (b"\0", b"\1", b"\2", b"\3"):
        unit = unit.replace(b"\0\0" + tail, b"\0\0\3" + tail)
    return b"\0\0\0\1" + unit


def write_h264(path: Path, *, afd: bool = False, user: bool = False, frames: int = FRAMES) -> Path:
    """Write H.264 with B-frames whose frames carry captions, followed directly by a slice header."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, width=64, height=48, options={"bf": "2", "preset": "veryfast"})
        stream.codec_context.time_base = stream.time_base = Fraction(1, 12_800)
        number = 0
        for count in range(frames + 1):
            frame = None
            if count < frames:
                frame = VideoFrame(64, 48, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([40 + 5 * count % 200]) * plane.buffer_size)
                frame.pts, frame.time_base = count * 512, Fraction(1, 12_800)
            for packet in stream.encode(frame):
                number = packet.pts // 512
                extra = message(4, b"\xb5\0\x31GA94\x03\x43\xff" + captions(number) + b"\xff")
                extra += message(4, b"\xb5\0\x31DTG1\x41\xfa") if afd else b""
                extra += message(5, UUID + bytes([number])) if user else b""
                data = bytes(packet)
                place = max(data.rfind(b"\0\0\1\x65"), data.rfind(b"\0\0\1\x41"), data.rfind(b"\0\0\1\x01"))
                place -= data[place - 1] == 0
                changed = av.Packet(data[:place] + extra + data[place:])
                changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, 512
                changed.time_base, changed.stream, changed.is_keyframe = packet.time_base, stream, packet.is_keyframe
                output.mux_one(changed)
    return path


def read(path: Path, kind: Type) -> list[bytes | None]:
    with av.open(str(path)) as container:
        return [
            next((bytes(e) for e in frame.side_data if e.type is kind and bytes(e)[:1] not in b"\xdc\x2c"), None)
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_captions_stay_with_their_frames(tmp_path: Path, job: Callable[..., Any], codec: str, suffix: str) -> None:
    source = write_h264(tmp_path / "a.mp4", afd=True, user=True)
    expected = [captions(number) for number in range(FRAMES)]
    assert read(source, Type.A53_CC) == expected

    job(source, f"b{suffix}", codec=codec)

    assert read(tmp_path / f"b{suffix}", Type.A53_CC) == expected
    assert read(tmp_path / f"b{suffix}", Type.AFD) == [b"\x0a"] * FRAMES
    assert read(tmp_path / f"b{suffix}", Type.SEI_UNREGISTERED) == [UUID + bytes([n]) for n in range(FRAMES)]


@pytest.mark.parametrize("durable", [False, True])
def test_a_job_counts_the_captions_of_the_result(tmp_path: Path, durable: bool) -> None:
    source = write_h264(tmp_path / "a.mp4")
    options = EnhanceOptions(preset="restore", audio=AudioMode.OFF, start=Fraction(2, 25))

    report = enhance(
        source,
        tmp_path / "b.mp4",
        options,
        workspace=tmp_path / "work" if durable else None,
        rule=SegmentRule(4, 5) if durable else None,
    )

    assert read(tmp_path / "b.mp4", Type.A53_CC) == [captions(number) for number in range(2, FRAMES)]
    (part,) = [part for part in report.parts if "captions" in part.what]
    assert (part.count, part.action, part.reason) == (10, Action.COPIED, "in 10 frames")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_captions_stay_with_their_frames_in_av1(tmp_path: Path, job: Callable[..., Any], suffix: str) -> None:
    source = write_h264(tmp_path / "a.mp4", frames=40)

    job(source, f"b{suffix}", codec="av1")

    assert read(tmp_path / f"b{suffix}", Type.A53_CC) == [captions(number) for number in range(40)]


@pytest.mark.parametrize(("codec", "suffix"), [(Codec.PRORES, ".mov"), (Codec.FFV1, ".mkv")])
@pytest.mark.parametrize("durable", [False, True])
def test_captions_without_a_place_are_named_once(tmp_path: Path, codec: Codec, suffix: str, durable: bool) -> None:
    source = write_h264(tmp_path / "a.mp4")
    options = EnhanceOptions(preset="restore", audio=AudioMode.OFF, codec=codec)

    report = enhance(source, tmp_path / f"b{suffix}", options, workspace=tmp_path / "work" if durable else None)

    named = [warning for warning in report.warnings if "captions" in warning]
    assert named == [f"captions (CEA-608/708): not kept, {codec} cannot store it"]


def test_a_message_lies_before_the_first_slice_and_holds_no_start_code() -> None:
    frame = b"\0\0\0\1\x67\x11\0\0\0\1\x68\x22\0\0\1\x65\x33\0\0\1\x65\x44"
    entry = SideEntry(20, UUID + b"\0\0\0\0\1" + bytes(300))

    changed = add_messages(frame, [entry], "h264")

    place = changed.index(b"\0\0\0\1\x06")
    assert changed[:place] == frame[:12]
    assert changed.endswith(frame[12:])
    unit = changed[place + 4 : len(changed) - len(frame[12:])]
    assert not any(unit.count(b"\0\0" + bytes([tail])) for tail in range(3))
    assert unit.replace(b"\0\0\3", b"\0\0")[1:4] == bytes([5, 255, len(entry.data) - 255])


@pytest.mark.parametrize(("time_code", "named"), [("00:00:00:00", 0), ("10:00:00:00", 1)])
def test_mpeg2_reports_a_timecode_but_no_window_of_the_whole_frame(tmp_path: Path, time_code: str, named: int) -> None:
    with av.open(str(tmp_path / "a.ts"), "w") as output:
        options = {"gop_timecode": time_code, "g": "3", "bf": "0"}
        stream = output.add_stream("mpeg2video", rate=25, width=64, height=48, options=options)
        for number in range(8):
            frame = VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([40 + 7 * number]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    report = enhance(tmp_path / "a.ts", tmp_path / "b.mkv", EnhanceOptions(preset="restore"))

    assert [part.what for part in report.parts] == ["time code in the frames"] * named
    assert not any("not carried" in warning for warning in report.warnings)
