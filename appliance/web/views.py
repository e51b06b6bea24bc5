"""Names that come from outside: shown and offered for saving, never used to find a file here."""

import json
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel, Field

from appliance.jobs.job import JobCommand, JobRecord, JobState, Origin
from appliance.jobs.job_files import JobFiles
from appliance.validation_messages import plain
from appliance.web.errors import hide_paths

MAX_NAME_LENGTH: Final = 150

# Reserved on the Windows machines that results are saved to.
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def clean_file_name(text: str) -> str:
    """Make a plain file name of what a browser sent: no folders, nothing that does not show, not too long."""
    name = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()).replace("\\", "/").rpartition("/")[2]
    name = "".join(mark for mark in name if unicodedata.category(mark)[0] != "C")
    name = re.sub(r'[<>:"|?*\s]+', " ", name).strip(" .")
    if len(name) > MAX_NAME_LENGTH:
        stem, dot, suffix = name.rpartition(".")
        keeps = dot and len(suffix) <= 10
        name = f"{stem[: MAX_NAME_LENGTH - 11].rstrip()}.{suffix}" if keeps else name[:MAX_NAME_LENGTH].rstrip()
    if not name or _RESERVED.fullmatch(name):
        name = f"file {name}".strip()
    return name


def content_disposition(name: str) -> str:
    """Offer a file for saving under a name (RFC 6266, RFC 8187): plain letters for old programs too."""
    clean = clean_file_name(name)
    bare = "".join(mark for mark in unicodedata.normalize("NFKD", clean) if not unicodedata.combining(mark))
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", bare)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(clean, safe='')}"


class HasOut(BaseModel):
    """Which files of a job there are to look at or save."""

    thumbnail: bool
    before: bool
    after: bool
    sound_before: bool
    sound_after: bool
    report: bool
    result: bool


_SOUND_SUFFIXES: Final = frozenset(
    (
        ".aac",
        ".ac3",
        ".aif",
        ".aiff",
        ".amr",
        ".flac",
        ".m4a",
        ".mka",
        ".mp2",
        ".mp3",
        ".oga",
        ".ogg",
        ".opus",
        ".wav",
        ".wma",
    )
)


class OptionsOut(BaseModel):
    """What was asked for; null is as the preset says."""

    preset: str
    scale: int | str | None
    strength: float | None
    audio: str | None
    codec: str | None
    model: str | None
    allow_damaged: bool
    start_s: float | None
    end_s: float | None


class JobOut(BaseModel):
    """A job; times are seconds since 1970, UTC."""

    id: str
    title: str
    state: JobState
    wish: JobCommand | None = Field(description="What a running job was asked and has not done yet")
    origin: Origin
    owner: str | None
    owner_name: str | None
    created_at: float
    started_at: float | None = Field(description="When the current try began")
    finished_at: float | None
    options: OptionsOut
    priority: int
    position: float
    attempts: int
    worked_s: float = Field(
        description="How long it was worked on since then, without pauses; of a running job, up to the last"
    )
    stage: str
    frames_done: int
    frames_total: int | None
    fps: float
    eta_s: float | None
    message: str = Field(description="Plain words: why it failed, or what it waits for")
    code: str = Field(description="Why it failed, for programs; empty where it did not")
    preview_of: str | None
    folder: str | None = Field(description="The watch folder that the file is from, by id")
    folder_name: str | None = Field(description="Its name: the last part of its path")
    source_name: str
    target: str | None = Field(description="Where the result of a watched file goes")
    result_name: str | None
    estimate: dict[str, Any] | None
    revision: int
    is_sound: bool = Field(description="A file without video: a recording")
    has: HasOut


def view_job(job: JobRecord, files: JobFiles, names: dict[str, str]) -> JobOut:
    """Show a job.

    Args:
        job: The job.
        files: Where its files lie.
        names: The names of the accounts by id.
    """
    options, done = job.options, job.state is JobState.DONE
    there = _names_in(files.folder)
    return JobOut(
        id=job.id,
        title=_text(job.title),
        state=job.state,
        wish=job.command,
        origin=job.origin,
        owner=job.owner,
        owner_name=names.get(job.owner or ""),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        options=OptionsOut(
            preset=options.preset,
            scale=options.scale,
            strength=options.strength,
            audio=options.audio,
            codec=options.codec,
            model=options.model,
            allow_damaged=options.allow_damaged,
            start_s=None if options.start is None else float(options.start),
            end_s=None if options.end is None else float(options.end),
        ),
        priority=job.priority,
        position=job.position,
        attempts=job.attempts,
        worked_s=job.worked_s,
        stage=job.stage,
        frames_done=job.frames_done,
        frames_total=job.frames_total,
        fps=job.fps,
        eta_s=job.eta_s,
        message=_text(plain_message(job, files)),
        code=job.code,
        preview_of=job.preview_of,
        folder=job.folder,
        folder_name=None if job.folder_name is None else _text(job.folder_name),
        source_name=_text(job.title if job.origin is Origin.UPLOAD else job.source.name),
        target=None if job.origin is Origin.UPLOAD or job.target is None else _text(str(job.target)),
        result_name=None if job.result is None else _text(job.result.name),
        estimate=None if job.estimate is None else json.loads(job.estimate),
        revision=job.revision,
        is_sound=_is_sound(job, there, files),
        has=HasOut(
            thumbnail=files.thumbnail.name in there,
            before=files.before.name in there,
            after=done and files.after.name in there,
            sound_before=files.sound_before.name in there,
            sound_after=done and files.sound_after.name in there,
            report=done and files.report.name in there,
            result=done and job.result is not None and _is_plain(job.result),
        ),
    )


def _is_sound(job: JobRecord, there: frozenset[str], files: JobFiles) -> bool:
    """Return whether a job's file has no video, as far as its own files and its name tell."""
    if files.thumbnail.name in there or files.before.name in there:
        return False
    suffix = os.path.splitext(job.title)[1].lower()
    return files.sound_after.name in there or suffix in _SOUND_SUFFIXES


# Advice for the command line, which a page has no use for, up to the next point where one advice ends.
_FOR_THE_COMMAND: Final = re.compile(r"[;,:]?\s*(?:or\s+)?[^;,]*(?<![\w-])--[a-z][\w-]*[^;,]*")


def plain_message(job: JobRecord, files: JobFiles) -> str:
    """Return a job's message for a page: titles for paths of this server, no advice for the command line."""
    names = {
        job.source: job.title,
        files.folder: "the result",
        files.folder.parents[1]: "the data directory",
        **({} if job.target is None else {job.target.parent: "the result’s folder", job.target: job.target.name}),
        **({} if job.result is None else {job.result: job.result.name}),
    }
    message = _UNEXPECTED.sub("unexpected error; the server log has the details", job.message)
    # The name of a file whose check failed stays; without the folder it is no path of this server.
    for folder in (files.results, *(() if job.target is None else (job.target.parent,))):
        message = message.replace(f"; it is kept as {folder}/", "; it is kept as ")
    return _FOR_THE_COMMAND.sub("", plain(hide_paths(message, names))).strip(" ;,:")


_UNEXPECTED: Final = re.compile(r"(?:unexpected error|this should not happen) \(.*\); the details are in .*", re.DOTALL)


def _is_plain(path: Path) -> bool:
    """Return True for a regular file; a link is never given out."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _text(text: str) -> str:
    """Make text that JSON can carry of a name that is not UTF-8."""
    return text.encode("utf-8", "replace").decode()
