"""The side data of decoded frames: read by kind, and written into H.264, HEVC and AV1 again.

Captions, the active format description and user data travel with their frame to the encoder's packets, as messages of
supplemental enhancement information (SEI); AV1 supports captions. Kinds that cannot be stored are reported once.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame

from runtime.media.media_info import Spherical, Stereo

# FFmpeg's AVFrameSideDataType; PyAV has no names for those from 28 on.
_PAN_SCAN: Final = 0
_CAPTIONS: Final = 1
_STEREO3D: Final = 2
_AFD: Final = 7
_GOP_TIME_CODE: Final = 12
_SPHERICAL: Final = 13
_HEADER_TIME_CODE: Final = 16
_USER_DATA: Final = 20
_NAMES: Final = {
    _PAN_SCAN: "pan and scan windows",
    _CAPTIONS: "captions (CEA-608/708)",
    _AFD: "active format description",
    15: "ICC profile",
    17: "HDR10+ values",
    _USER_DATA: "user data",
    21: "film grain description",
    23: "Dolby Vision values",
    24: "Dolby Vision values",
    25: "HDR Vivid values",
    26: "ambient viewing environment",
    28: "LCEVC enhancement",
    30: "3D reference displays",
    31: "Exif data",
}
_CARRIED: Final = (_CAPTIONS, _AFD, _USER_DATA)
_SEI_CODECS: Final = ("h264", "hevc")
# The encoder settings that x264 and x265 write, which do not apply to the result.
_ENCODERS: Final = (
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),
)
_UUID_BYTES: Final = 16
# Kinds of AV1's open bitstream units: metadata, of the kind ITU-T T.35; frame headers and whole frames.
_METADATA: Final = 5
_T35: Final = 4
_FRAMES: Final = (3, 6)
_LONGEST_GROUP_S: Final = 4


@dataclass(frozen=True, slots=True)
class SideEntry:
    """One piece of side data of a frame; `data` is empty if only its kind matters."""

    kind: int
    data: bytes = b""

    @property
    def name(self) -> str:
        """The kind as text."""
        return _NAMES[self.kind]

    @property
    def marker(self) -> bytes:
        """Bytes that identify the piece in a packet of the result."""
        return {_CAPTIONS: b"GA94", _AFD: b"DTG1"}.get(self.kind, self.data[:_UUID_BYTES])


def read_entries(frame: VideoFrame) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and content of all side data of a frame."""
    for entry in cast(Iterable[SideData], frame.side_data):
        try:
            yield int(cast(int, entry.type.value)), bytes(entry)
        except ValueError as error:  # PyAV's enumeration ends before FFmpeg's; its message begins with the number
            number = str(error).split()[0]
            if number.isdecimal():
                yield int(number), bytes(entry)


def read_side_entries(frame: VideoFrame) -> tuple[SideEntry, ...]:
    """Return the side data that stays with a frame or is reported; kinds that are read elsewhere are skipped."""
    found = {}
    for kind, data in read_entries(frame):
        if kind not in _NAMES or (kind == _USER_DATA and data[:_UUID_BYTES] in _ENCODERS):
            continue
        if kind == _PAN_SCAN and _is_whole(data, frame):
            continue
        found[kind, data if kind == _USER_DATA else b""] = SideEntry(kind, data if kind in _CARRIED else b"")
    return tuple(found.values())


def has_time_code(frame: VideoFrame) -> bool:
    """Return whether a stream's first frame has a time code.

    MPEG-2 encoders without one count from zero, and FFmpeg may give the first frame that of the second group.
    """
    found = dict(read_entries(frame))
    code = int.from_bytes(found.get(_GOP_TIME_CODE, b""), "little")
    seconds = (code >> 19 & 31) * 3600 + (code >> 13 & 63) * 60 + (code >> 6 & 63)
    return any(found.get(_HEADER_TIME_CODE, b"")) or seconds >= _LONGEST_GROUP_S


def _is_whole(pan_scan: bytes, frame: VideoFrame) -> bool:
    """Return whether a pan and scan window is the whole frame, as in most MPEG-2."""
    _, width, height, *places = struct.unpack_from("<3i6h", pan_scan)
    return (width, height) in ((0, 0), (16 * frame.width, 16 * frame.height)) and not any(places)


def is_carried(entry: SideEntry, codec: str) -> bool:
    """Return whether a codec can store a piece of side data."""
    return (entry.kind in _CARRIED and codec in _SEI_CODECS) or (entry.kind == _CAPTIONS and codec == "av1")


def is_padding(entry: SideEntry) -> bool:
    """Return whether captions are empty, as broadcasters send them to keep the channel open."""
    if entry.kind != _CAPTIONS:
        return False
    triplets = (entry.data[place : place + 3] for place in range(0, len(entry.data) - 2, 3))
    return all(not one[0] & 4 or (one[0] & 3 < 2 and one[1] & 127 == 0 and one[2] & 127 == 0) for one in triplets)


def read_stereo(frame: VideoFrame) -> Stereo | None:
    """Return how a frame holds the views of both eyes; None if it holds only one."""
    data = dict(read_entries(frame)).get(_STEREO3D)
    if data is None or len(data) < 8:
        return None
    kind, flags = struct.unpack_from("<iI", data)
    return Stereo(kind, bool(flags & 1)) if kind else None


def read_spherical(frame: VideoFrame) -> Spherical | None:
    """Return how a frame maps to a sphere; None if it is flat."""
    data = dict(read_entries(frame)).get(_SPHERICAL)
    if data is None or len(data) < 36:
        return None
    projection, yaw, pitch, roll, left, top, right, bottom, padding = struct.unpack_from("<4i5I", data)
    return Spherical(projection, yaw, pitch, roll, (left, top, right, bottom), padding)


def add_messages(packet: bytes, entries: Iterable[SideEntry], codec: str) -> bytes:
    """Return an encoded frame with side data as SEI messages before its first slice, or as OBUs of metadata.

    Args:
        packet: NAL units behind start codes, or OBUs with sizes, as the encoders write them.
        entries: What the codec carries.
        codec: h264, hevc or av1.
    """
    if codec == "av1":
        units = b"".join(map(_metadata_unit, entries))
        place = _last_frame(packet)
        return packet[:place] + units + packet[place:]
    messages = b"".join(map(_message, entries))
    header = b"\x06" if codec == "h264" else b"\x4e\x01"
    unit = b"\0\0\0\1" + header + _escape(messages + b"\x80")
    place = _first_slice(packet, codec)
    return packet[:place] + unit + packet[place:]


def _payload(entry: SideEntry) -> bytes:
    """Return an ATSC A/53 message for captions, an ETSI TS 101 154 one for the active format, or user data as is."""
    if entry.kind == _CAPTIONS:
        count = len(entry.data) // 3
        return b"\xb5\x00\x31GA94\x03" + bytes([0x40 | count, 0xFF]) + entry.data[: count * 3] + b"\xff"
    if entry.kind == _AFD:
        return b"\xb5\x00\x31DTG1" + bytes([0x41, 0xF0 | entry.data[0] & 15])
    return entry.data


def _message(entry: SideEntry) -> bytes:
    payload = _payload(entry)
    kind = 5 if entry.kind == _USER_DATA else 4
    return bytes([kind]) + b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255]) + payload


def _metadata_unit(entry: SideEntry) -> bytes:
    """Return an OBU of metadata of the kind ITU-T T.35."""
    content = bytes([_T35]) + _payload(entry) + b"\x80"
    return bytes([_METADATA << 3 | 2]) + _leb128(len(content)) + content


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _last_frame(packet: bytes) -> int:
    """Return where the shown frame of a temporal unit begins: the last one."""
    place = found = 0
    while place < len(packet) and packet[place] & 2:
        start, kind = place, packet[place] >> 3 & 15
        place += 2 if packet[place] & 4 else 1
        size = shift = 0
        while place < len(packet):
            size |= (packet[place] & 127) << shift
            shift += 7
            place += 1
            if not packet[place - 1] & 128:
                break
        if kind in _FRAMES:
            found = start
        place += size
    return found


def _escape(content: bytes) -> bytes:
    """Insert emulation prevention bytes: 3 between two zeros and what would look like a start code."""
    out = bytearray()
    zeros = 0
    for byte in content:
        if zeros == 2 and byte < 4:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def _first_slice(packet: bytes, codec: str) -> int:
    """Return where the start code of the first slice begins."""
    place = 0
    while (place := packet.find(b"\0\0\1", place)) >= 0 and place + 3 < len(packet):
        head = packet[place + 3]
        is_slice = 1 <= head & 31 <= 5 if codec == "h264" else (head >> 1) & 63 < 32
        if is_slice:
            return place - 1 if place and packet[place - 1] == 0 else place
        place += 3
    return 0
