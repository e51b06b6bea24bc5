"""Reads from the headers of an H.264 stream what no decoder reports: whether its frames may be coded as two fields."""

from collections.abc import Iterator
from typing import Final

_SPS: Final = 7
_HIGH_PROFILES: Final = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_CHROMA_444: Final = 3


def tells_fields(data: bytes, *, extradata: bytes = b"") -> bool | None:
    """Return whether the sequence parameter sets in `data` allow frames of two fields; None if it has none.

    Args:
        data: A packet, or extradata itself: Annex B, an "avcC" record, or length-prefixed NAL units.
        extradata: The stream's; an "avcC" record means that packets have lengths instead of start codes.
    """
    found = [not _is_frames_only(unit) for unit in _units(data, extradata) if unit and unit[0] & 31 == _SPS]
    return any(found) if found else None


def _units(data: bytes, extradata: bytes) -> Iterator[bytes]:
    if _is_record(data) and (not extradata or data == extradata):
        yield from _units_of_record(data)
    elif _is_record(extradata):
        yield from _units_by_length(data, 1 + (extradata[4] & 3))
    else:
        yield from _units_by_start_code(data)


def _is_record(data: bytes) -> bool:
    return len(data) >= 7 and data[0] == 1


def _units_of_record(data: bytes) -> Iterator[bytes]:
    """Yield the sequence parameter sets of an "avcC" record (ISO/IEC 14496-15, 5.3.3.1)."""
    place = 6
    for _ in range(data[5] & 31):
        size = int.from_bytes(data[place : place + 2])
        yield data[place + 2 : place + 2 + size]
        place += 2 + size


def _units_by_length(data: bytes, width: int) -> Iterator[bytes]:
    place = 0
    while place + width < len(data):
        size = int.from_bytes(data[place : place + width])
        if not size:
            return
        yield data[place + width : place + width + size]
        place += width + size


def _units_by_start_code(data: bytes) -> Iterator[bytes]:
    """Yield each NAL unit from its header on; bytes after its end do not affect reading its beginning."""
    place = data.find(b"\0\0\1")
    while place >= 0:
        yield data[place + 3 : place + 3 + 512]
        place = data.find(b"\0\0\1", place + 3)


class _Bits:
    """Reads the bits of a NAL unit's payload, and zeros after its end."""

    def __init__(self, unit: bytes) -> None:
        self._bits = unit.replace(b"\0\0\3", b"\0\0")
        self._place = 8

    def fixed(self, count: int) -> int:
        value = 0
        for _ in range(count):
            byte, bit = divmod(self._place, 8)
            value = value << 1 | (self._bits[byte] >> (7 - bit) & 1 if byte < len(self._bits) else 0)
            self._place += 1
        return value

    def unsigned(self) -> int:
        """Read an Exp-Golomb code (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.fixed(1) and zeros < 32:
            zeros += 1
        return (1 << zeros) - 1 + self.fixed(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _is_frames_only(unit: bytes) -> bool:
    """Read `frame_mbs_only_flag` of a sequence parameter set (ITU-T H.264, 7.3.2.1.1)."""
    bits = _Bits(unit)
    profile = bits.fixed(8)
    bits.fixed(16)
    bits.unsigned()
    if profile in _HIGH_PROFILES:
        chroma = bits.unsigned()
        if chroma == _CHROMA_444:
            bits.fixed(1)
        bits.unsigned()
        bits.unsigned()
        bits.fixed(1)
        if bits.fixed(1):
            for number in range(12 if chroma == _CHROMA_444 else 8):
                if bits.fixed(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    bits.unsigned()
    order_type = bits.unsigned()
    if order_type == 0:
        bits.unsigned()
    elif order_type == 1:
        bits.fixed(1)
        bits.signed()
        bits.signed()
        for _ in range(min(bits.unsigned(), 255)):
            bits.signed()
    bits.unsigned()
    bits.fixed(1)
    bits.unsigned()
    bits.unsigned()
    return bool(bits.fixed(1))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
