"""Where the files of a job lie in the data directory."""

import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from appliance.jobs.job import JobRecord
from runtime.errors import OutputError
from runtime.safe_open import make_plain_folder

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


_LONGEST_STEM_BYTES: Final = 150
# What Windows and its network shares refuse, beside the separator.
_REFUSED: Final = '<>:"/\\|?*'


def result_folder(job: JobRecord, files: JobFiles) -> Path:
    """Return the folder of a job's result."""
    return files.results if job.target is None else job.target.parent


def make_result_folder(job: JobRecord, files: JobFiles, *, below: Path | None = None) -> Path:
    """Make the folder of a job's result where it is missing.

    Args:
        job: The job.
        files: Its files.
        below: The destination of its watch folder; no link in it is followed.

    Raises:
        OutputError: It cannot be made.
    """
    folder = result_folder(job, files)
    try:
        if below is None:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            make_plain_folder(folder, below=below)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} for the result cannot be made: {error.strerror}; choose another, or make it yourself"
        ) from error
    return folder


def result_name(job: JobRecord, suffix: str) -> str:
    """Return the name that a result shall have, if it is free; without a target it is made of the job's title."""
    if job.target is not None:
        return job.target.name
    kind = "preview" if job.preview_of is not None else "relume"
    return f"{safe_stem(job.title)}.{kind}{suffix}"


def staged_path(job: JobRecord, files: JobFiles, suffix: str) -> Path:
    """Return the hidden name under which a result waits, complete and checked, for its own."""
    return result_folder(job, files) / f".{_mark(job)}{suffix}"


def remove_unfinished(job: JobRecord, files: JobFiles) -> None:
    """Remove what a job left in the folder of its result, except the result."""
    folder = result_folder(job, files)
    with suppress(OSError):
        # The muxer hides its temporary file behind one more dot.
        for path in folder.glob(f"*.{_mark(job)}*"):
            path.unlink(missing_ok=True)
    if job.target is None:
        with suppress(OSError):
            folder.rmdir()


def free_names(wanted: Path) -> Iterator[Path]:
    """Yield the wanted name, then `name (2).mp4` and so on, without those that exist."""
    for number in count(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
        if not path.exists() and not path.is_symlink():
            yield path


def safe_stem(title: str) -> str:
    """Make a name without its suffix from any text: no folder, nothing hidden, nothing that a file system refuses."""
    text = unicodedata.normalize("NFC", title.replace("\\", "/").rsplit("/", 1)[-1])
    text = "".join("_" if letter in _REFUSED else letter for letter in text if letter.isprintable())
    stem = Path(text).stem if text.strip(" .") else ""
    cut = stem.encode("utf-8", "ignore")[:_LONGEST_STEM_BYTES].decode("utf-8", "ignore")
    return cut.strip(" .") or "result"


def _mark(job: JobRecord) -> str:
    return f"relume-{job.id}"
