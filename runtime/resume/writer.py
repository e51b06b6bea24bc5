"""Writes the video in segments: each with its own encoder and file of packets."""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.container import OutputContainer

from runtime.atomic_files import FileRecord
from runtime.closing import Closing
from runtime.errors import OptionError
from runtime.media.demux import AnyPacket
from runtime.media.muxer import open_scratch
from runtime.media.pixel_formats import YuvFrame
from runtime.media.video_encoder import EncodeSettings, VideoEncoder
from runtime.resume.packets import PacketHead, PacketWriter
from runtime.resume.position import FrameCrcs
from runtime.resume.states import write_snapshot, write_state
from runtime.resume.workspace import SegmentRecord, VideoEnd, Workspace
from runtime.video.frames import States
from runtime.video.pipeline import PipelineResult, SegmentBoundary, Snapshot

_LEAST_S: Final = 5
_MOST_S: Final = 15
"""Three times the longest interval between key frames, so that a forced boundary adds no key frame."""


@dataclass(frozen=True, slots=True)
class SegmentRule:
    """A segment ends at a scene cut once it has `at_least` frames, and anywhere at `at_most`."""

    at_least: int
    at_most: int

    def __post_init__(self) -> None:
        # At least two frames: H.264 forbids two consecutive key frames with the same number, as two encoders would
        # write.
        if not 2 <= self.at_least <= self.at_most:
            raise OptionError(
                f"a segment has {self.at_least} to {self.at_most} frames, expected 2 or more, and the minimum first"
            )

    def ends(self, frames: int, *, is_cut: bool) -> bool:
        """Return whether a segment of that many frames ends before the next one, which begins a scene if `is_cut`."""
        return frames >= self.at_most or (is_cut and frames >= self.at_least)


def default_rule(rate: Fraction | None) -> SegmentRule:
    """Return the rule for a frame rate."""
    least = max(2, round((rate or Fraction(25)) * _LEAST_S))
    return SegmentRule(least, max(least, round((rate or Fraction(25)) * _MOST_S)))


_PACKETS: Final = "segment-{:05d}.packets"
_STATE: Final = "state-{:05d}.npz"
_SNAPSHOT: Final = "snapshot-{:05d}.npz"


@dataclass(slots=True)
class _Open:
    """The segment being written; `pts` are those of its packets, in decoding order."""

    container: OutputContainer
    encoder: VideoEncoder
    file: PacketWriter
    first_frame: int
    begins_scene: bool
    pts: "array[int]"
    end_pts: int = 0


class SegmentWriter(Closing):
    """The encoder and the segmenter of the pipeline; a context manager that removes an unfinished segment.

    `starts_segment` is called from the thread that detects scene cuts, `keep_state` from the engine's, the rest from
    the encoder's and, once that has ended, `finish` from the job's.
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
        """Continue after the segments that the workspace has.

        Args:
            workspace: The workspace of the job.
            settings: Those of the encoder.
            suffix: The container of the result.
            rule: Decides where a segment ends.
            crcs: Those of the source's frames.
            is_plain: Returns whether the source can be read from a later position on.
            snapshot: The comparison frame that the workspace already has.
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
        """Write the state before the frame of a boundary; the first frame of a scene needs none."""
        if join.is_cut:
            return
        path = self._workspace.folder / _STATE.format(join.index)
        with self._workspace.convert_os_errors():
            self._states[join.index] = write_state(path, join.previous, states)

    def encode(self, frame: YuvFrame) -> list[AnyPacket]:
        """Encode the next frame; its packets go to the segment's file."""
        segment = self._open = self._open or self._begin()
        self._store(segment, segment.encoder.encode(frame))
        segment.end_pts = frame.pts + frame.duration
        self._next += 1
        return []

    def flush(self) -> list[AnyPacket]:
        """Return nothing: `finish` ends the last segment, and only after the last frame."""
        return []

    def end_segment(self, join: SegmentBoundary, passed: PipelineResult) -> None:
        """Store the segment before a boundary durably."""
        self._end(passed, next_is_cut=join.is_cut, state=self._states.pop(join.index, None), end=None)

    def finish(self, passed: PipelineResult, end: VideoEnd) -> None:
        """Store the last segment durably, and the end of the video."""
        self._end(passed, next_is_cut=False, state=None, end=end)

    def close(self) -> None:
        """Remove the segment that was not finished."""
        segment, self._open = self._open, None
        if segment is not None:
            _close(segment)

    def _begin(self) -> _Open:
        container = open_scratch(self._suffix)
        encoder = VideoEncoder(container, self._settings)
        context = encoder.stream.codec_context
        head = PacketHead(self._settings.codec, self._settings.time_base, bytes(context.extradata or b""))
        path = self._workspace.folder / _PACKETS.format(len(self._workspace.manifest.segments))
        with self._workspace.convert_os_errors():
            file = PacketWriter(path, head)
        return _Open(container, encoder, file, self._next, self._next_is_scene, array("q"))

    def _store(self, segment: _Open, packets: list[AnyPacket]) -> None:
        with self._workspace.convert_os_errors():
            for packet in packets:
                assert packet.pts is not None
                segment.pts.append(packet.pts)
                segment.file.write(packet)

    def _end(
        self, passed: PipelineResult, *, next_is_cut: bool, state: FileRecord | None, end: VideoEnd | None
    ) -> None:
        segment, manifest = self._open, self._workspace.manifest
        changes: dict[str, object] = {}
        if segment is not None:
            self._store(segment, segment.encoder.flush(closes=False))
            with self._workspace.convert_os_errors():
                file = segment.file.finish()
            changes["segments"] = (*manifest.segments, self._record(segment, file, passed))
            _close(segment)
            self._open = None
        if passed.snapshot is not None and passed.snapshot is not self._snapshot:
            self._snapshot = passed.snapshot
            path = self._workspace.folder / _SNAPSHOT.format(self._next)
            with self._workspace.convert_os_errors():
                changes["snapshot"] = write_snapshot(path, passed.snapshot)
        self._workspace.commit(
            next_is_cut=next_is_cut, state=state, picture=end,
            backend=passed.backend, precision=passed.precision, **changes,
        )  # fmt: skip
        self._next_is_scene = next_is_cut
        self._drop(manifest.state, manifest.snapshot)

    def _drop(self, *records: FileRecord | None) -> None:
        """Remove files that the manifest no longer names; a later state may have been written already."""
        named = self._workspace.manifest.files()
        for record in records:
            if record is not None and record.name not in named:
                with self._workspace.convert_os_errors():
                    (self._workspace.folder / record.name).unlink(missing_ok=True)

    def _record(self, segment: _Open, file: FileRecord, passed: PipelineResult) -> SegmentRecord:
        first, last = segment.first_frame, self._next
        return SegmentRecord(
            file=file,
            first_frame=first,
            frames=last - first,
            begins_scene=segment.begins_scene,
            end_pts=segment.end_pts,
            reorder=count_reorder(segment.pts),
            scene_cuts=tuple(cut for cut in passed.scene_cuts if first <= cut < last),
            reruns=tuple((one.frame, one.tile, one.cured) for one in passed.reruns if first <= one.frame < last),
            warnings=tuple(segment.encoder.warnings),
            tail=self._crcs.take(last),
            seekable=self._is_plain(),
            side_data=segment.encoder.carried_data(),
            kept_tiles=passed.kept_tiles - sum(one.kept_tiles for one in self._workspace.manifest.segments),
        )


def count_reorder(pts: "array[int]") -> int:
    """Return the greatest number of places by which a packet precedes its presentation order."""
    shown = sorted(pts)
    return max((number - bisect_left(shown, value) for number, value in enumerate(pts)), default=0)


def _close(segment: _Open) -> None:
    segment.file.close()
    with suppress(av.FFmpegError):
        segment.container.close()
