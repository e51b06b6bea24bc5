"""What a workspace's manifest holds, and its text: the one file that says what of a job is done."""

import json
from dataclasses import asdict, dataclass
from typing import Final

from runtime.audio.pipeline import SoundOutcome
from runtime.media.verify import CarriedData
from runtime.report import DamagedPlace, Report
from runtime.segments.durable import FileMark, FileRecord

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class PictureMark:
    """A source picture, as decoded: its PTS, and the CRC-32 of its samples."""

    pts: int
    crc32: int


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A finished segment; frames are counted from the clip's first.

    begins_scene: Its first frame needs nothing of those before.
    end_pts: Where its last picture ends.
    reorder: By how many places a packet lies before its turn of being shown, at most.
    reruns: Frame, tile, and whether running it again cured it.
    tail: The source's last pictures, by which the place is found again.
    seekable: The source can be read from near the tail on, for it was plain up to there.
    side_data: What its pictures carry beside their samples.
    """

    file: FileRecord
    first_frame: int
    frames: int
    begins_scene: bool
    end_pts: int
    reorder: int
    scene_cuts: tuple[int, ...]
    reruns: tuple[tuple[int, int, bool], ...]
    warnings: tuple[str, ...]
    tail: tuple[PictureMark, ...]
    seekable: bool
    side_data: tuple[CarriedData, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureEnd:
    """The picture is through: what its reader said at the end."""

    warnings: tuple[str, ...]
    damage: tuple[DamagedPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class SoundRecord:
    """A track of sound that is through."""

    file: FileRecord
    outcome: SoundOutcome


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of a job on the disk.

    facts: What decides every bit of the result; another workspace with the same facts would hold the same files.
    token: The part of the temporary file's name beside the target.
    threads: Of the first attempt; encoders give other bytes with another number.
    attempts: How often the job was started.
    next_is_cut: The frame after the last segment begins a scene; if not, `state` holds what it needs.
    backend, precision: What ran the video model.
    result, report: Set before the result gets its name.
    """

    facts: dict[str, str]
    token: str
    target: str
    threads: int
    attempts: int = 0
    warnings: tuple[str, ...] = ()
    segments: tuple[SegmentRecord, ...] = ()
    next_is_cut: bool = False
    state: FileRecord | None = None
    snapshot: FileRecord | None = None
    backend: str = ""
    precision: str = ""
    picture: PictureEnd | None = None
    sounds: tuple[SoundRecord, ...] = ()
    result: FileMark | None = None
    report: Report | None = None
    schema: int = SCHEMA

    @property
    def frames(self) -> int:
        """Pictures that are durable."""
        return sum(segment.frames for segment in self.segments)

    def begins_scene(self, number: int) -> bool:
        """Tell whether a segment, or the one after the last, needs nothing of the frames before it."""
        if number == len(self.segments):
            return number == 0 or self.next_is_cut
        return number == 0 or self.segments[number].begins_scene

    def files(self) -> set[str]:
        """Give the names of the files that belong to it."""
        records = [*(segment.file for segment in self.segments), *(sound.file for sound in self.sounds)]
        records += [record for record in (self.state, self.snapshot) if record is not None]
        return {record.name for record in records}


def manifest_to_json(manifest: Manifest) -> bytes:
    """Write a manifest as JSON text."""
    return json.dumps(asdict(manifest), separators=(",", ":")).encode()


def manifest_from_json(text: bytes) -> Manifest | None:
    """Read a manifest; None where the text is not whole, or of another schema: then nothing in it can be relied on."""
    from pydantic import TypeAdapter, ValidationError

    try:
        manifest = TypeAdapter(Manifest).validate_json(text, strict=True, extra="forbid")
    except ValidationError:
        return None
    return manifest if manifest.schema == SCHEMA else None
