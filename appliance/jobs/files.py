"""Where the files of a job lie in the data directory."""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ASIDE: Final = "removed-"
"""How a workspace is called that is being removed."""
COMPARED_S: Final = 120
"""How much of the beginning the films to compare hold."""


@dataclass(frozen=True, slots=True)
class JobFiles:
    """The files of one job; any of them may be missing."""

    data: Path
    id: str

    @property
    def folder(self) -> Path:
        """What is kept of the job as long as it is in the list."""
        return self.data / "jobs" / self.id

    @property
    def workspace(self) -> Path:
        """What an interrupted job needs to go on; gone when it is done or cancelled."""
        return self.folder / "work"

    @property
    def thumbnail(self) -> Path:
        """A small picture of the source."""
        return self.folder / "thumbnail.jpg"

    @property
    def before(self) -> Path:
        """The source's picture and sound as every browser plays them."""
        return self.folder / "before.mp4"

    @property
    def after(self) -> Path:
        """The result's picture and sound: same times and size as `before`."""
        return self.folder / "after.mp4"

    @property
    def sound_before(self) -> Path:
        """The source's sound alone."""
        return self.folder / "sound-before.m4a"

    @property
    def sound_after(self) -> Path:
        """The result's sound alone."""
        return self.folder / "sound-after.m4a"

    @property
    def report(self) -> Path:
        """The report, once there is a result."""
        return self.folder / "report.json"

    @property
    def log(self) -> Path:
        """What the worker noted, tracebacks among it."""
        return self.folder / "log.txt"

    @property
    def results(self) -> Path:
        """Holds the result of a job without a target."""
        return self.data / "results" / self.id

    def count_segments(self) -> int:
        """Count what is finished in the workspace: it grows as long as the job gets on."""
        return sum(1 for path in self.workspace.glob("segments/*") if not path.name.endswith(".part"))

    def remove_workspace(self) -> None:
        """Remove what an interrupted job would need."""
        shutil.rmtree(self.workspace, ignore_errors=True)

    def set_aside_workspace(self) -> Path | None:
        """Take the workspace away under another name, at once, to be removed in peace; None where there is none."""
        aside = self.folder / f"{ASIDE}{secrets.token_hex(4)}"
        try:
            self.workspace.rename(aside)
        except OSError:
            return None
        return aside

    def remove(self) -> None:
        """Remove everything of the job from the data directory."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.results, ignore_errors=True)
