"""Merges tracks by time into one file that gets its name only when it is complete."""

import errno
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from heapq import heapify, heappop, heapreplace
from itertools import count
from math import lcm
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import av
from av.container import OutputContainer
from av.stream import Stream

from runtime.atomic_files import describe_taken, publish_file
from runtime.errors import EncodeError, OutputError
from runtime.media.audio_encoder import AudioEncoder, AudioSettings
from runtime.media.demux import AnyPacket
from runtime.media.matroska_header import FILLER, amend_matroska
from runtime.media.media_info import Shape
from runtime.media.mp4_header import amend_mp4
from runtime.media.video_encoder import EncodeSettings, VideoEncoder
from runtime.media.wave_chunks import WaveChunk, append_chunks

Track = Iterator[AnyPacket]

FORMATS: Final = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".m4a": "mp4",
    ".m4b": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".mka": "matroska",
    ".webm": "webm",
    ".wav": "wav",
    ".flac": "flac",
    ".mp3": "mp3",
    ".ogg": "ogg",
    ".opus": "opus",
}
_MATROSKA: Final = (".mkv", ".mka", ".webm")
MP4_FAMILY: Final = (".mp4", ".m4v", ".m4a", ".m4b", ".mov")
# FFmpeg's own muxer for this brand supports neither cover images nor audio other than AAC and ALAC, which lack some
# layouts; an MP4 of the same brand does.
_BRANDS: Final = {".m4a": "M4A ", ".m4b": "M4B "}
_NO_CLOCK: Final = (".wav", ".flac", ".mp3", ".ogg", ".opus")
# Tags with a dedicated MP4 atom; all others need free-form atoms, which fewer players read.
_MP4_TAGS: Final = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright",
    "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track",
    "disc", "creation_time", "media_type", "compilation", "encoder", "location", "location-eng",
}  # fmt: skip
CONTAINER_TAGS: Final = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
# Fields that only the `bext` chunk of a Broadcast Wave file has. FFmpeg reads its other fields under general names and
# writes them under their own names.
_BROADCAST_MARKS: Final = ("time_reference", "originator_reference", "umid", "coding_history")
_BROADCAST_FIELDS: Final = {
    "comment": "description",
    "encoded_by": "originator",
    "date": "origination_date",
    "creation_time": "origination_time",
}
_CHAPTER_TAGS: Final = (".ogg", ".opus", ".flac")
_HIGHEST_TIMESCALE: Final = 2**31 - 1
# Tracks are merged here, so the container's own queue need not wait long for a sparse one.
_QUEUE_US: Final = 200_000


class Muxer:
    """One result being written, as a context manager: leaving it without `publish` deletes the file."""

    def __init__(self, target: Path, *, overwrite: bool = False, token: str | None = None) -> None:
        """Start a temporary file beside the target.

        Args:
            target: The result; its suffix chooses the container.
            overwrite: Replace an existing target when publishing.
            token: A part of the temporary file's name (see `partial_path`), so that it is found again after a crash.

        Raises:
            OutputError: The suffix is not supported, the folder is missing, or the target already exists.
        """
        self.target = target
        self.suffix = target.suffix.lower()
        self.warnings: list[str] = []
        self._overwrite = overwrite
        self._published = False
        self._finished = False
        self._closing = ExitStack()
        self._shapes: dict[int, Shape] = {}
        self._wave_chunks: tuple[WaveChunk, ...] = ()
        refuse_target(target, overwrite=overwrite)
        self.partial = partial_path(target, token or uuid4().hex[:8])
        options = {"max_interleave_delta": str(_QUEUE_US)}
        if self.suffix == ".wav":
            options["rf64"] = "auto"
        if self.suffix in _BRANDS:
            options["brand"] = _BRANDS[self.suffix]
        try:
            self.container: OutputContainer = av.open(
                # The prefix keeps a colon in a name, such as "12:30 talk", from being taken for a protocol.
                f"file:{self.partial}",
                "w",
                format=FORMATS[self.suffix],
                container_options=options,
            )
        except av.FFmpegError as error:
            raise _write_error(self.target, error) from error

    def add_video(self, settings: EncodeSettings) -> VideoEncoder:
        """Add a stream of encoded frames."""
        return VideoEncoder(self.container, settings)

    def add_audio(self, settings: AudioSettings) -> AudioEncoder:
        """Add a stream of encoded audio."""
        return AudioEncoder(self.container, settings, from_zero=begins_at_zero(self.suffix, settings))

    def set_wave_chunks(self, chunks: tuple[WaveChunk, ...]) -> None:
        """Add chunks to a WAV file after its audio; other containers cannot hold them."""
        self._wave_chunks = chunks if self.suffix == ".wav" else ()

    def set_shape(self, stream: Stream, shape: Shape) -> None:
        """Set the display properties of a stream, after its tags are set."""
        self._shapes[stream.index] = shape
        if self.suffix in _MATROSKA and shape != Shape():
            stream.metadata["title"] = stream.metadata.get("title", "") + FILLER

    def set_tags(self, tags: dict[str, str], *, has_cover: bool = False) -> None:
        """Set the tags of the whole file."""
        kept = {key: text for key, text in tags.items() if key.lower() not in CONTAINER_TAGS}
        self.container.metadata.update(kept)
        if self.suffix == ".wav" and any(key.lower() in _BROADCAST_MARKS for key in kept):
            self.container.container_options["write_bext"] = "1"
            for name, field in _BROADCAST_FIELDS.items():
                if name in kept:
                    self.container.metadata.setdefault(field, kept[name])
        if self.suffix not in MP4_FAMILY:
            return
        foreign = sorted(key for key in kept if key.lower() not in _MP4_TAGS)
        if foreign and has_cover:
            self.warnings.append(f"tags not carried beside a cover image: {', '.join(foreign)}")
        elif foreign:
            self.container.container_options["movflags"] = "use_metadata_tags"

    def set_chapters(self, chapters: list[Any]) -> None:
        """Set the chapters, in PyAV's form.

        FFmpeg's Ogg muxer rounds their times up to whole seconds and its FLAC muxer drops them; there they are written
        as the tags CHAPTER000, CHAPTER000NAME and so on, in milliseconds, which is what both formats read.
        """
        if self.suffix not in _CHAPTER_TAGS:
            self.container.set_chapters(chapters)
            return
        for number, chapter in enumerate(chapters):
            total_ms = round(chapter["start"] * chapter["time_base"] * 1000)
            minutes, ms = divmod(total_ms, 60_000)
            key = f"CHAPTER{number:03}"
            text = f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}.{ms % 1000:03}"
            self.container.metadata[key] = text
            self.container.metadata[f"{key}NAME"] = chapter["metadata"].get("title", "")

    def close_with(self, resource: Any) -> None:
        """Close a resource (a context manager) together with this muxer."""
        self._closing.enter_context(resource)

    def run(self, tracks: Iterable[Track]) -> None:
        """Write every packet of every track, always from the track with the earliest time.

        Only one packet per track is queued, so a slow track holds the others back instead of filling memory.

        Raises:
            EncodeError: The disk is full, or the container refuses a packet.
        """
        self._write_header()
        heads: list[tuple[Fraction, int, AnyPacket, Track]] = []
        for number, track in enumerate(tracks):
            first = next(track, None)
            if first is not None:
                heads.append((_time(first), number, first, track))
        heapify(heads)
        while heads:
            _, number, packet, track = heads[0]
            self._write(packet)
            following = next(track, None)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (_time(following), number, following, track))

    def publish(self) -> Path:
        """Finish the file and give it its name.

        Raises:
            EncodeError: The last bytes cannot be written.
            OutputError: The target appeared meanwhile.
        """
        self._finish()
        publish_file(self.partial, self.target, overwrite=self._overwrite)
        self._published = True
        return self.target

    def set_aside(self) -> Path:
        """Keep the finished file beside the target, under a name that shows that its verification failed.

        Raises:
            OutputError: The file system refuses.
        """
        for number in count(1):
            mark = "unverified" if number == 1 else f"unverified-{number}"
            path = self.target.with_name(f"{self.target.stem}.{mark}{self.target.suffix}")
            if os.path.lexists(path):
                continue
            publish_file(self.partial, path, overwrite=False)
            self._published = True
            return path
        raise AssertionError("there is always one more name")

    def finish(self) -> Path:
        """Write the last bytes and return the temporary file, complete, for checks before `publish`."""
        self._finish()
        return self.partial

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()
        with suppress(av.FFmpegError, OSError):
            self.container.close()
        if not self._published:
            with suppress(OSError):
                self.partial.unlink()

    def _write_header(self) -> None:
        if self.suffix in MP4_FAMILY:
            self.container.container_options["movie_timescale"] = str(self._timescale())
        try:
            self.container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise _write_error(self.target, error) from error

    def _timescale(self) -> int:
        """Return a time scale in which the start of every track is an integer; the usual 1000 would round it."""
        scale = 1000
        for stream in self.container.streams:
            if stream.type in ("video", "audio") and stream.time_base:
                wider = lcm(scale, stream.time_base.denominator)
                scale = wider if wider <= _HIGHEST_TIMESCALE else scale
        return scale

    def _write(self, packet: AnyPacket) -> None:
        try:
            self.container.mux_one(packet)
        except (av.FFmpegError, ValueError) as error:
            raise _write_error(self.target, error) from error

    def _finish(self) -> None:
        if self._finished:
            return
        self._closing.close()
        shapes = [self._shapes[index] for index in sorted(self._shapes)]
        try:
            self.container.close()
            if any(shape != Shape() for shape in shapes):
                if self.suffix in _MATROSKA:
                    amend_matroska(self.partial, shapes, is_webm=self.suffix == ".webm")
                elif self.suffix in MP4_FAMILY:
                    amend_mp4(self.partial, shapes)
            if self._wave_chunks:
                append_chunks(self.partial, self._wave_chunks)
            self._finished = True
        except (av.FFmpegError, OSError) as error:
            raise _write_error(self.target, error) from error


def open_scratch(suffix: str) -> OutputContainer:
    """Open a container in memory that is never written: a place for encoders whose packets are stored elsewhere.

    It has the format of the result, since the container determines whether an encoder puts headers into packets.
    """
    return av.open(io.BytesIO(), "w", format=FORMATS[suffix])


def begins_at_zero(suffix: str, settings: AudioSettings) -> bool:
    """Return whether audio that starts late must begin with silence in a container.

    MP4 trims an encoder's priming samples only from audio that starts at zero, and some containers store no times.
    """
    return suffix in _NO_CLOCK or (suffix in MP4_FAMILY and settings.bit_rate is not None)


def partial_path(target: Path, token: str) -> Path:
    """Return the name of a result while it is being written, beside the target."""
    return target.with_name(f".{target.stem}.{token}.partial{target.suffix.lower()}")


def refuse_suffix(target: Path) -> None:
    """Check that the container of a result is supported.

    Raises:
        OutputError: It is not.
    """
    suffix = target.suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(
            f"{target} has the suffix {suffix or 'none'}, which is not supported for results; "
            f"expected one of {', '.join(FORMATS)} (.mkv can hold the most)"
        )


def refuse_target(target: Path, *, overwrite: bool) -> None:
    """Check the target of a job before any work is done.

    Raises:
        OutputError: The suffix is not supported, the folder is missing, or the target already exists.
    """
    refuse_suffix(target)
    if not os.path.isdir(target.parent):
        raise OutputError(f"folder {target.parent} does not exist; create it first")
    if os.path.isdir(target):
        raise OutputError(f"{target} is a folder, expected the name of a file")
    if os.path.exists(target) and not overwrite:
        raise OutputError(describe_taken(target))


def default_suffix(source: Path, containers: tuple[str, ...]) -> str:
    """Return the source's own suffix if it is among the containers, else the first of them."""
    suffix = source.suffix.lower()
    return suffix if suffix in containers else containers[0]


def _time(packet: AnyPacket) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base


def _write_error(target: Path, error: Exception) -> EncodeError | OutputError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return EncodeError(
            f"{target} cannot be written: no space left in {target.parent}; free some space or choose another folder"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{target.parent} is not writable; choose another folder")
    return EncodeError(f"{target} cannot be written: {error}")
