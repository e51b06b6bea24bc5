"""The folder in which a job's work is kept: opened, checked against its manifest, added to, cleared."""

import fcntl
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

from runtime.closing import Closing
from runtime.errors import OutputError
from runtime.media.mux import partial_path
from runtime.segments.durable import is_whole, mark_file, remove_durably, sync_folder, told_errors, write_durably
from runtime.segments.records import Manifest, manifest_from_json, manifest_to_json

_FOLDER: Final = "segments"
_MANIFEST: Final = "manifest.json"


class Workspace(Closing):
    """A job's folder, held by this process alone, and the manifest of what is done.

    Only what the manifest names is relied on: a file is written and synced first, then the manifest that names it
    replaces the old one. Whatever else lies there is left over from an interruption and is removed.
    """

    def __init__(self, workspace: Path) -> None:
        """Take the folder, making it if it is missing.

        Raises:
            OutputError: The folder cannot be written, or another process works in it.
        """
        self.folder = workspace / _FOLDER
        with told_errors(workspace):
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(workspace)
            self._lock: int | None = os.open(self.folder, os.O_RDONLY)
            try:
                # Held by the open folder, so that no file is left and a killed process lets go of it.
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self.close()
                raise OutputError(f"{self.folder} is in use by another process; wait until it has ended") from error
        try:
            self._manifest = manifest_from_json((self.folder / _MANIFEST).read_bytes())
        except OSError:
            self._manifest = None
        except BaseException:
            self.close()
            raise

    @property
    def manifest(self) -> Manifest:
        """What is done."""
        assert self._manifest is not None
        return self._manifest

    def facts(self) -> dict[str, str]:
        """Give what decided the work that is kept here; nothing where there is none."""
        return {} if self._manifest is None else self._manifest.facts

    def begin(self, facts: dict[str, str], *, target: Path, threads: int) -> None:
        """Go on with the work in the folder where it is this job's, and begin anew where not; clear what is left over.

        Afterwards every file that the manifest names is whole, unless the result is published already.
        """
        found, old = self._manifest, self._manifest
        warnings: tuple[str, ...] = ()
        if found is not None and found.facts != facts:
            changed = [name for name in facts if found.facts.get(name) != facts[name]]
            # A backend that could not be opened has left no work behind, and nothing is lost with it.
            if found.segments or found.sounds or found.result is not None:
                warnings = (f"the work kept from before was done with another {' and '.join(changed)}; started over",)
            found = None
        elif found is None and (self.folder / _MANIFEST).exists():
            warnings = ("the list of the work kept from before was not readable; started over",)
        if found is None:
            token = uuid4().hex[:8] if old is None else old.token
            found = Manifest(facts, token, str(target), threads, warnings=warnings)
        elif found.target != str(target):
            found = replace(found, target=str(target), result=None, report=None)
        if old is not None:
            with suppress(OSError):
                remove_durably(partial_path(Path(old.target), old.token))
        self._manifest = found
        if self.is_published():
            return
        self._manifest = self._whole_part(found)
        self.commit(attempts=found.attempts + 1)
        self.tidy()

    def start_over(self, reason: str) -> None:
        """Give up the picture's segments; `reason` goes into the report."""
        self.commit(
            segments=(), next_is_cut=False, state=None, snapshot=None, picture=None,
            warnings=(*self.manifest.warnings, reason),
        )  # fmt: skip
        self.tidy()

    def commit(self, **changes: Any) -> None:
        """Change the manifest and bring it to the disk; the files that it names must be there, synced.

        Raises:
            OutputError: The disk is full; the manifest is then as it was.
        """
        manifest = replace(self.manifest, **changes)
        with told_errors(self.folder):
            sync_folder(self.folder)
            write_durably(self.folder / _MANIFEST, manifest_to_json(manifest))
        self._manifest = manifest

    def tidy(self) -> None:
        """Remove every file that the manifest does not name."""
        named = {*self.manifest.files(), _MANIFEST}
        with told_errors(self.folder):
            remove_durably(*(path for path in self.folder.iterdir() if path.name not in named))

    def is_published(self) -> bool:
        """Tell whether the target is this job's result, complete."""
        target, mark = Path(self.manifest.target), self.manifest.result
        if mark is None or self.manifest.report is None:
            return False
        try:
            return target.stat().st_size == mark.size_bytes and mark_file(target) == mark
        except OSError:
            return False

    def clear_target(self) -> None:
        """Remove the empty file that a crash leaves at the target, where a file system has no hard links."""
        target = Path(self.manifest.target)
        with suppress(OSError):
            if self.manifest.result is not None and target.stat().st_size == 0:
                target.unlink()

    def clear(self) -> None:
        """Remove the work, once the result has its name; what was done, and the report, stay known."""
        with suppress(OSError):
            remove_durably(partial_path(Path(self.manifest.target), self.manifest.token))
        self.commit(segments=(), sounds=(), state=None, snapshot=None, picture=None, next_is_cut=False)
        self.tidy()

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def _whole_part(self, manifest: Manifest) -> Manifest:
        """Give the manifest up to the first file that is missing or damaged.

        Without the state before a frame, the work can go on only where a scene begins.
        """
        sounds = tuple(sound for sound in manifest.sounds if is_whole(self.folder, sound.file))
        segments = manifest.segments
        whole = 0
        while whole < len(segments) and is_whole(self.folder, segments[whole].file):
            whole += 1
        snapshot = manifest.snapshot
        if snapshot is not None and not is_whole(self.folder, snapshot):
            snapshot, whole = None, 0
        keep = whole
        state = manifest.state if whole == len(segments) else None
        stateless = state is None or not is_whole(self.folder, state)
        if manifest.picture is None or whole < len(segments):
            while stateless and not manifest.begins_scene(keep):
                keep -= 1
        if keep == len(segments):
            return replace(manifest, sounds=sounds, snapshot=snapshot)
        again = f"{len(segments) - keep} of the segments kept from before were made again, for a file was damaged"
        return replace(
            manifest, sounds=sounds, snapshot=snapshot, segments=segments[:keep], state=None, picture=None,
            next_is_cut=keep > 0 and manifest.begins_scene(keep), warnings=(*manifest.warnings, again),
            result=None, report=None,
        )  # fmt: skip
