"""Where one segment of the picture ends and the next begins."""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.container import OutputContainer

from runtime.atomic_files import FileRecord, convert_os_errors
from runtime.closing import Closing
from runtime.errors import OptionError
from runtime.media.demux import AnyPacket
from runtime.media.muxer import open_scratch
from runtime.media.pixel_formats import YuvFrame
from runtime.media.video_encoder import EncodeSettings, VideoEncoder
from runtime.resume.packets import PacketHead, PacketWriter
from runtime.resume.position import FrameCrcs
from runtime.resume.states import write_snapshot, write_state
from runtime.resume.workspace import PictureEnd, SegmentRecord, Workspace
from runtime.video.frames import States
from runtime.video.pipeline import PipelineResult, SegmentBoundary, Snapshot

_LEAST_S: Final = 5
_MOST_S: Final = 15
"""Three times the longest way between key frames, so that a forced join costs no key frame more."""


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """A segment ends at a change of scene once it has `at_least` pictures, and anywhere at `at_most`."""

    at_least: int
    at_most: int

    def __post_init__(self) -> None:
        # Two pictures at least: H.264 forbids two key frames in a row that carry the same number, as two encoders give.
        if not 2 <= self.at_least <= self.at_most:
            raise OptionError(
                f"a segment has {self.at_least} to {self.at_most} pictures, expected 2 or more, and the least first"
            )

    def ends(self, pictures: int, *, is_cut: bool) -> bool:
        """Return whether a segment of that many pictures ends before the next one, which begins a scene if `is_cut`."""
        return pictures >= self.at_most or (is_cut and pictures >= self.at_least)


def default_rule(rate: Fraction | None) -> SegmentRule:
    """Return the rule for a picture rate."""
    least = max(2, round((rate or Fraction(25)) * _LEAST_S))
    return SegmentRule(least, max(least, round((rate or Fraction(25)) * _MOST_S)))


_PACKETS: Final = "segment-{:05d}.packets"
_STATE: Final = "state-{:05d}.npz"
_SNAPSHOT: Final = "snapshot-{:05d}.npz"


@dataclass(slots=True)
class _Open:
    """The segment being written; `pts` are its packets', in the order of coding."""

    container: OutputContainer
    encoder: VideoEncoder
    file: PacketWriter
    first_frame: int
    begins_scene: bool
    pts: "array[int]"
    end_pts: int = 0


class SegmentWriter(Closing):
    """The pipeline's encoder and segmenter in one; a context manager, whose leaving gives up an unfinished segment.

    `begins` is called from the thread that sees scene cuts, `keep_state` from the engine's, the rest from the
    encoder's and, once that has ended, `finish` from the job's.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: EncodeSettings,
        *,
        suffix: str,
        rule: SegmentRule,
        crcs: FrameCrcs,
        is_plain: Callable[[], bool],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Go on after the segments that the workspace holds.

        Args:
            workspace: Where the segments go.
            settings: How the pictures are encoded.
            suffix: The container of the result.
            rule: Where a segment ends.
            crcs: Those of the source's frames.
            is_plain: Tells whether the source can be read from a later place on.
            snapshot: What the workspace holds already of the pictures to be compared.
        """
        self._workspace, self._settings, self._suffix = workspace, settings, suffix
        self._rule, self._crcs, self._is_plain = rule, crcs, is_plain
        self._snapshot = snapshot
        self._begun = self._next = workspace.manifest.frames
        self._next_is_scene = workspace.manifest.begins_scene(len(workspace.manifest.segments))
        self._states: dict[int, FileRecord] = {}
        self._open: _Open | None = None

    def starts_segment(self, index: int, *, is_cut: bool) -> bool:
        """Return whether a segment begins with this frame."""
        if not self._rule.ends(index - self._begun, is_cut=is_cut):
            return False
        self._begun = index
        return True

    def keep_state(self, join: SegmentBoundary, states: States) -> None:
        """Write what the frame of a join needs of those before; the first of a scene needs nothing."""
        if join.is_cut:
            return
        path = self._workspace.folder / _STATE.format(join.index)
        with convert_os_errors(self._workspace.folder):
            self._states[join.index] = write_state(path, join.previous, states)

    def encode(self, picture: YuvFrame) -> list[AnyPacket]:
        """Encode the next picture; its packets go to the segment's file."""
        segment = self._open = self._open or self._begin()
        self._store(segment, segment.encoder.encode(picture))
        segment.end_pts = picture.pts + picture.duration
        self._next += 1
        return []

    def flush(self) -> list[AnyPacket]:
        """Do nothing: `finish` ends the last segment, and only when every picture is through."""
        return []

    def end_segment(self, join: SegmentBoundary, passed: PipelineResult) -> None:
        """Make the segment before a join durable."""
        self._end(passed, next_is_cut=join.is_cut, state=self._states.pop(join.index, None), picture=None)

    def finish(self, passed: PipelineResult, picture: PictureEnd) -> None:
        """Make the last segment durable, and note that the picture is through."""
        self._end(passed, next_is_cut=False, state=None, picture=picture)

    def close(self) -> None:
        """Give up the segment that was not finished."""
        segment, self._open = self._open, None
        if segment is not None:
            _close(segment)

    def _begin(self) -> _Open:
        container = open_scratch(self._suffix)
        encoder = VideoEncoder(container, self._settings)
        context = encoder.stream.codec_context
        head = PacketHead(self._settings.codec, self._settings.time_base, bytes(context.extradata or b""))
        path = self._workspace.folder / _PACKETS.format(len(self._workspace.manifest.segments))
        with convert_os_errors(self._workspace.folder):
            file = PacketWriter(path, head)
        return _Open(container, encoder, file, self._next, self._next_is_scene, array("q"))

    def _store(self, segment: _Open, packets: list[AnyPacket]) -> None:
        with convert_os_errors(self._workspace.folder):
            for packet in packets:
                assert packet.pts is not None
                segment.pts.append(packet.pts)
                segment.file.write(packet)

    def _end(
        self, passed: PipelineResult, *, next_is_cut: bool, state: FileRecord | None, picture: PictureEnd | None
    ) -> None:
        segment, manifest = self._open, self._workspace.manifest
        changes: dict[str, object] = {}
        if segment is not None:
            self._store(segment, segment.encoder.flush(closes=False))
            with convert_os_errors(self._workspace.folder):
                file = segment.file.finish()
            changes["segments"] = (*manifest.segments, self._record(segment, file, passed))
            _close(segment)
            self._open = None
        if passed.snapshot is not None and passed.snapshot is not self._snapshot:
            self._snapshot = passed.snapshot
            path = self._workspace.folder / _SNAPSHOT.format(self._next)
            with convert_os_errors(self._workspace.folder):
                changes["snapshot"] = write_snapshot(path, passed.snapshot)
        self._workspace.commit(
            next_is_cut=next_is_cut, state=state, picture=picture,
            backend=passed.backend, precision=passed.precision, **changes,
        )  # fmt: skip
        self._next_is_scene = next_is_cut
        self._drop(manifest.state, manifest.snapshot)

    def _drop(self, *records: FileRecord | None) -> None:
        """Remove files that the manifest named before; a later state may be among the files already."""
        named = self._workspace.manifest.files()
        for record in records:
            if record is not None and record.name not in named:
                with convert_os_errors(self._workspace.folder):
                    (self._workspace.folder / record.name).unlink(missing_ok=True)

    def _record(self, segment: _Open, file: FileRecord, passed: PipelineResult) -> SegmentRecord:
        first, last = segment.first_frame, self._next
        return SegmentRecord(
            file=file,
            first_frame=first,
            frames=last - first,
            begins_scene=segment.begins_scene,
            end_pts=segment.end_pts,
            reorder=find_reorder(segment.pts),
            scene_cuts=tuple(cut for cut in passed.scene_cuts if first <= cut < last),
            reruns=tuple((one.frame, one.tile, one.cured) for one in passed.reruns if first <= one.frame < last),
            warnings=tuple(segment.encoder.warnings),
            tail=self._crcs.take(last),
            seekable=self._is_plain(),
            side_data=segment.encoder.carried_data(),
        )


def find_reorder(pts: "array[int]") -> int:
    """Tell by how many places a packet lies before its turn of being shown, at most; in the order of coding."""
    shown = sorted(pts)
    return max((number - bisect_left(shown, value) for number, value in enumerate(pts)), default=0)


def _close(segment: _Open) -> None:
    segment.file.close()
    with suppress(av.FFmpegError):
        segment.container.close()
