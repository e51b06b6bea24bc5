"""Paths of a job's files in the data directory, and of its result."""

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
"""Prefix of a workspace that is being removed."""
PROXY_S: Final = 120
"""Duration of the preview proxies."""


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Paths of one job's files; any of them may be missing."""

    data: Path
    id: str

    @property
    def folder(self) -> Path:
        """Files that are kept as long as the job is in the list."""
        return self.data / "jobs" / self.id

    @property
    def workspace(self) -> Path:
        """Files with which an interrupted job resumes; removed when it is done or cancelled."""
        return self.folder / "work"

    @property
    def thumbnail(self) -> Path:
        """A frame of the source."""
        return self.folder / "thumbnail.jpg"

    @property
    def before(self) -> Path:
        """Preview proxy of the source."""
        return self.folder / "before.mp4"

    @property
    def after(self) -> Path:
        """Preview proxy of the result, with the times and size of `before`."""
        return self.folder / "after.mp4"

    @property
    def still_before(self) -> Path:
        """A frame of the source from the middle of its preview proxy, for the report."""
        return self.folder / "still-before.jpg"

    @property
    def still_after(self) -> Path:
        """The same frame of the result."""
        return self.folder / "still-after.jpg"

    @property
    def sound_before(self) -> Path:
        """Audio proxy of the source."""
        return self.folder / "sound-before.m4a"

    @property
    def sound_after(self) -> Path:
        """Audio proxy of the result."""
        return self.folder / "sound-after.m4a"

    @property
    def report(self) -> Path:
        """The report, written with the result."""
        return self.folder / "report.json"

    @property
    def log(self) -> Path:
        """The log of the worker, with tracebacks."""
        return self.folder / "log.txt"

    @property
    def results(self) -> Path:
        """The folder of the result of a job without a target."""
        return self.data / "results" / self.id

    def count_segments(self) -> int:
        """Count the finished segments, which grow while the job makes progress."""
        return sum(1 for path in self.workspace.glob("segments/*") if not path.name.endswith(".part"))

    def remove_workspace(self) -> None:
        """Remove the workspace."""
        shutil.rmtree(self.workspace, ignore_errors=True)

    def set_aside_workspace(self) -> Path | None:
        """Rename the workspace, so that it can be removed later; None where there is none."""
        aside = self.folder / f"{ASIDE}{secrets.token_hex(4)}"
        try:
            self.workspace.rename(aside)
        except OSError:
            return None
        return aside

    def remove(self) -> None:
        """Remove all files of the job from the data directory."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.results, ignore_errors=True)


_LONGEST_STEM_BYTES: Final = 150
# Characters that Windows and its network shares refuse, and the separator.
_REFUSED: Final = '<>:"/\\|?*'


def result_folder(job: JobRecord, files: JobFiles) -> Path:
    """Return the folder of a job's result."""
    return files.results if job.target is None else job.target.parent


def make_result_folder(job: JobRecord, files: JobFiles, *, below: Path | None = None) -> Path:
    """Create the folder of a job's result.

    Args:
        job: The job.
        files: Its files.
        below: The destination of its watch folder; links below it are not followed.

    Raises:
        OutputError: It cannot be created.
    """
    folder = result_folder(job, files)
    try:
        if below is None:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            make_plain_folder(folder, below=below)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} for the result cannot be created: {error.strerror}; choose another, or create it"
        ) from error
    return folder


def result_name(job: JobRecord, suffix: str) -> str:
    """Return the preferred name of a result; without a target it is derived from the job's title."""
    if job.target is not None:
        return job.target.name
    kind = "preview" if job.preview_of is not None else "relume"
    return f"{safe_stem(job.title)}.{kind}{suffix}"


def staged_path(job: JobRecord, files: JobFiles, suffix: str) -> Path:
    """Return the hidden path of a complete and verified result before its publication."""
    return result_folder(job, files) / f".{_mark(job)}{suffix}"


def remove_unfinished(job: JobRecord, files: JobFiles) -> None:
    """Remove the temporary files of a job in the folder of its result."""
    folder = result_folder(job, files)
    with suppress(OSError):
        # The muxer hides its temporary file behind one more dot.
        for path in folder.glob(f"*.{_mark(job)}*"):
            path.unlink(missing_ok=True)
    if job.target is None:
        with suppress(OSError):
            folder.rmdir()


def free_names(wanted: Path) -> Iterator[Path]:
    """Yield the wanted path, then `name (2).mp4` and so on, without existing ones."""
    for number in count(1):
        path = wanted if number == 1 else wanted.with_name(f"{wanted.stem} ({number}){wanted.suffix}")
        if not path.exists() and not path.is_symlink():
            yield path


def safe_stem(title: str) -> str:
    """Return a valid file name without suffix for any text: no folder, not hidden, no refused characters."""
    text = unicodedata.normalize("NFC", title.replace("\\", "/").rsplit("/", 1)[-1])
    text = "".join("_" if letter in _REFUSED else letter for letter in text if letter.isprintable())
    stem = Path(text).stem if text.strip(" .") else ""
    cut = stem.encode("utf-8", "ignore")[:_LONGEST_STEM_BYTES].decode("utf-8", "ignore")
    return cut.strip(" .") or "result"


def _mark(job: JobRecord) -> str:
    return f"relume-{job.id}"
