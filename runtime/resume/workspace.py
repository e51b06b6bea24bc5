"""The workspace of a job: its folder and the manifest in it, which defines the completed work."""

import json
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

from runtime.atomic_files import (
    FileRecord,
    FileSignature,
    convert_os_errors,
    is_intact,
    read_signature,
    remove_durably,
    sync_path,
    write_durably,
)
from runtime.audio.pipeline import AudioOutcome
from runtime.closing import Closing
from runtime.errors import OutputError
from runtime.file_lock import FileLock
from runtime.media.muxer import partial_path
from runtime.media.verify import CarriedData
from runtime.report import DamagedPlace, Report

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class FrameCrc:
    """The PTS of a decoded source frame and the CRC-32 of its samples."""

    pts: int
    crc32: int


@dataclass(frozen=True, slots=True)
class SegmentRecord:
    """A finished segment; frames are counted from the clip's first.

    begins_scene: Its first frame does not depend on earlier ones.
    end_pts: The end of its last frame.
    reorder: The greatest number of places by which a packet precedes its presentation order.
    reruns: Frame, tile, and whether running the tile again gave a valid result.
    tail: The last frames of the source, by which the resume point is found.
    seekable: The source can be read from near the tail, since it was regular up to there.
    side_data: The side data of its frames.
    kept_tiles: Tiles that stood still and were not computed again.
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
    tail: tuple[FrameCrc, ...]
    seekable: bool
    side_data: tuple[CarriedData, ...] = ()
    kept_tiles: int = 0


@dataclass(frozen=True, slots=True)
class VideoEnd:
    """The end of the video: the warnings of its reader and the damaged places."""

    warnings: tuple[str, ...]
    damage: tuple[DamagedPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class AudioRecord:
    """A finished audio track."""

    file: FileRecord
    outcome: AudioOutcome


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of a job on the disk; in the file `fingerprint` is called `facts`.

    fingerprint: Everything that determines the bits of the result; with the same one, all files would be the same.
    token: A part of the name of the temporary file beside the target.
    threads: Those of the first attempt; encoders produce other bytes with another number.
    attempts: The number of times that the job was started.
    next_is_cut: The frame after the last segment begins a scene; if not, `state` has the state before it.
    backend, precision: Those of the video model.
    result, report: Set before the result gets its name.
    """

    fingerprint: dict[str, str]
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
    picture: VideoEnd | None = None
    sounds: tuple[AudioRecord, ...] = ()
    result: FileSignature | None = None
    report: Report | None = None
    schema: int = SCHEMA

    @property
    def frames(self) -> int:
        """The number of stored frames."""
        return sum(segment.frames for segment in self.segments)

    def begins_scene(self, number: int) -> bool:
        """Return whether a segment, or the one after the last, does not depend on the frames before it."""
        if number == len(self.segments):
            return number == 0 or self.next_is_cut
        return number == 0 or self.segments[number].begins_scene

    def files(self) -> set[str]:
        """Return the names of the files that belong to it."""
        records = [*(segment.file for segment in self.segments), *(audio.file for audio in self.sounds)]
        records += [record for record in (self.state, self.snapshot) if record is not None]
        return {record.name for record in records}


def manifest_to_json(manifest: Manifest) -> bytes:
    """Write a manifest as JSON text."""
    fields = asdict(manifest)
    return json.dumps({"facts": fields.pop("fingerprint"), **fields}, separators=(",", ":")).encode()


def manifest_from_json(text: bytes) -> Manifest | None:
    """Read a manifest; None where the text is incomplete, or of another schema."""
    from pydantic import TypeAdapter

    try:
        fields = json.loads(text)
        fields["fingerprint"] = fields.pop("facts")
        manifest = TypeAdapter(Manifest).validate_json(json.dumps(fields), strict=True, extra="forbid")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return manifest if manifest.schema == SCHEMA else None


_FOLDER: Final = "segments"
_MANIFEST: Final = "manifest.json"


class Workspace(Closing):
    """A job's folder, locked by this process, and its manifest.

    Only files listed in the manifest are used: a file is written and synced first, then the manifest that lists it
    replaces the old one. All others are leftovers of an interruption and are removed.
    """

    def __init__(self, workspace: Path, *, temporary_for: Path | None = None) -> None:
        """Open and lock the folder, creating it if it is missing.

        Args:
            workspace: The job's folder.
            temporary_for: The result of a job whose folder no other process and no later attempt uses. It is then not
                locked, since network drives may refuse to lock a folder, and errors name the result.

        Raises:
            OutputError: The folder cannot be written, or another process works in it.
        """
        self.folder = workspace / _FOLDER
        self._result = temporary_for
        self._lock: FileLock | None = None
        with self.convert_os_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_path(workspace)
            if not self.is_temporary:
                self._take_lock()
        try:
            self._manifest = manifest_from_json((self.folder / _MANIFEST).read_bytes())
        except OSError:
            self._manifest = None
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        """Lock the open folder, so that there is no lock file and a killed process releases it."""
        self._lock = FileLock.try_existing(self.folder, shared=False)
        if self._lock is None:
            raise OutputError(f"{self.folder} is in use by another process; wait for it to finish")

    @property
    def is_temporary(self) -> bool:
        """Whether no later attempt uses the folder."""
        return self._result is not None

    def convert_os_errors(self) -> AbstractContextManager[None]:
        """Convert errors of writing to the folder; see `runtime.atomic_files.convert_os_errors`."""
        return convert_os_errors(self.folder, result=self._result)

    @property
    def manifest(self) -> Manifest:
        """The current manifest."""
        assert self._manifest is not None
        return self._manifest

    def stored_fingerprint(self) -> dict[str, str]:
        """Return the fingerprint of the stored work; empty where there is none."""
        return {} if self._manifest is None else self._manifest.fingerprint

    def begin(self, fingerprint: dict[str, str], *, target: Path, threads: int) -> None:
        """Resume the work in the folder if its fingerprint is equal, or start over; remove all other files.

        Afterwards every file in the manifest is intact, unless the result has already been published.
        """
        found, old = self._manifest, self._manifest
        warnings: tuple[str, ...] = ()
        if found is not None and found.fingerprint != fingerprint:
            changed = [name for name in fingerprint if found.fingerprint.get(name) != fingerprint[name]]
            # If a backend could not be opened, there is no work that would be lost.
            if found.segments or found.sounds or found.result is not None:
                warnings = (f"the stored progress was made with a different {' and '.join(changed)}; started over",)
            found = None
        elif found is None and (self.folder / _MANIFEST).exists():
            warnings = ("the manifest of the stored progress was not readable; started over",)
        if found is None:
            token = uuid4().hex[:8] if old is None else old.token
            found = Manifest(fingerprint, token, str(target), threads, warnings=warnings)
        elif found.target != str(target):
            found = replace(found, target=str(target), result=None, report=None)
        if old is not None:
            with suppress(OSError):
                remove_durably(partial_path(Path(old.target), old.token))
        self._manifest = found
        if self.is_published():
            return
        self._manifest = self._intact_part(found)
        self.commit(attempts=found.attempts + 1)
        self.tidy()

    def start_over(self, reason: str) -> None:
        """Drop the segments of the video; `reason` goes into the report."""
        self.commit(
            segments=(), next_is_cut=False, state=None, snapshot=None, picture=None,
            warnings=(*self.manifest.warnings, reason),
        )  # fmt: skip
        self.tidy()

    def commit(self, **changes: Any) -> None:
        """Change the manifest durably; the files that it lists must already be synced.

        Raises:
            OutputError: The disk is full; the manifest is then as it was.
        """
        manifest = replace(self.manifest, **changes)
        with self.convert_os_errors():
            sync_path(self.folder)
            write_durably(self.folder / _MANIFEST, manifest_to_json(manifest))
        self._manifest = manifest

    def tidy(self) -> None:
        """Remove every file that the manifest does not name."""
        named = {*self.manifest.files(), _MANIFEST}
        with self.convert_os_errors():
            remove_durably(*(path for path in self.folder.iterdir() if path.name not in named))

    def is_published(self) -> bool:
        """Return whether the target is the complete result of this job."""
        target, mark = Path(self.manifest.target), self.manifest.result
        if mark is None or self.manifest.report is None:
            return False
        try:
            return target.stat().st_size == mark.size_bytes and read_signature(target) == mark
        except OSError:
            return False

    def remove_empty_target(self) -> None:
        """Remove the empty file that a crash can leave at the target on file systems without hard links."""
        target = Path(self.manifest.target)
        with suppress(OSError):
            if self.manifest.result is not None and target.stat().st_size == 0:
                target.unlink()

    def clear(self) -> None:
        """Remove the stored work once the result has its name; the manifest with the report stays."""
        with suppress(OSError):
            remove_durably(partial_path(Path(self.manifest.target), self.manifest.token))
        self.commit(segments=(), sounds=(), state=None, snapshot=None, picture=None, next_is_cut=False)
        self.tidy()

    def close(self) -> None:
        """Release the folder."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def _intact_part(self, manifest: Manifest) -> Manifest:
        """Return the manifest up to the first file that is missing or damaged.

        Without the state before a frame, the job can resume only where a scene begins.
        """
        audios = tuple(audio for audio in manifest.sounds if is_intact(self.folder, audio.file))
        segments = manifest.segments
        whole = 0
        while whole < len(segments) and is_intact(self.folder, segments[whole].file):
            whole += 1
        snapshot = manifest.snapshot
        if snapshot is not None and not is_intact(self.folder, snapshot):
            snapshot, whole = None, 0
        keep = whole
        state = manifest.state if whole == len(segments) else None
        stateless = state is None or not is_intact(self.folder, state)
        if manifest.picture is None or whole < len(segments):
            while stateless and not manifest.begins_scene(keep):
                keep -= 1
        if keep == len(segments):
            return replace(manifest, sounds=audios, snapshot=snapshot)
        again = f"{len(segments) - keep} of the stored segments were processed again because a file was damaged"
        return replace(
            manifest, sounds=audios, snapshot=snapshot, segments=segments[:keep], state=None, picture=None,
            next_is_cut=keep > 0 and manifest.begins_scene(keep), warnings=(*manifest.warnings, again),
            result=None, report=None,
        )  # fmt: skip
