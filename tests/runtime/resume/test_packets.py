"""Packets are read back from their file as the encoder returned them."""

import struct
from fractions import Fraction

import pytest
from av.packet import Packet, PacketSideData

from runtime.atomic_files import FileRecord, is_intact, record_file
from runtime.errors import DecodeError
from runtime.resume.packets import PacketHead, PacketReader, PacketWriter

HEAD = PacketHead("h264", Fraction(1001, 30000), b"\x01\x64\x00")


def packet(content, *, pts=0, dts=0, duration=1, key=False, side=b""):
    made = Packet(content) if content else Packet()
    made.time_base = HEAD.time_base
    made.pts, made.dts, made.duration, made.is_keyframe = pts, dts, duration, key
    if side:
        piece = PacketSideData(11, len(side))
        piece.update(side)
        made.set_sidedata(piece)
    return made


def facts(one):
    sides = [(side.data_type, bytes(side)) for side in one.iter_sidedata()]
    return bytes(one), one.pts, one.dts, one.duration, one.is_keyframe, one.time_base, sides


def write(path, packets):
    with PacketWriter(path, HEAD) as writer:
        for one in packets:
            writer.write(one)
        return writer.finish()


def test_everything_of_a_packet_comes_back(tmp_path):
    packets = [
        packet(b"first", pts=-3, dts=None, duration=2**40, key=True),
        packet(b"\x00" * 70_000, pts=2**50, dts=-(2**50), side=struct.pack("<IIBB", 0, 77, 0, 0)),
        packet(b"", pts=None, dts=None, duration=0, side=b"new header"),
        packet(b"last", pts=9, dts=8),
    ]

    record = write(tmp_path / "a.packets", packets)

    reader = PacketReader(tmp_path / "a.packets")
    assert reader.head == HEAD
    assert [facts(one) for one in reader.packets()] == [facts(one) for one in packets]
    assert [one if one != -(2**63) else None for one in reader.pts()] == [one.pts for one in packets]
    assert record == record_file(tmp_path / "a.packets")


def test_a_file_that_is_given_up_is_removed(tmp_path):
    with PacketWriter(tmp_path / "a.packets", HEAD) as writer:
        writer.write(packet(b"first"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["cut", "bit", "longer", "gone"])
def test_a_changed_file_is_rejected(tmp_path, change):
    path = tmp_path / "a.packets"
    record = write(path, [packet(b"some bytes", pts=1)])
    assert is_intact(tmp_path, record)
    content = bytearray(path.read_bytes())

    if change == "cut":
        path.write_bytes(content[:-1])
    elif change == "bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif change == "longer":
        path.write_bytes(content + b"x")
    else:
        path.unlink()

    assert not is_intact(tmp_path, record)


def test_a_file_of_something_else_is_reported(tmp_path):
    (tmp_path / "a.packets").write_bytes(b"RIFF....WAVE")

    with pytest.raises(DecodeError, match="not a file of packets"):
        PacketReader(tmp_path / "a.packets")
    assert not is_intact(tmp_path, FileRecord("none.packets", 1, ""))
