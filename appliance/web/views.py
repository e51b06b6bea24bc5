"""Jobs as the API returns them, with file names and messages that are safe to display."""

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
from appliance.validation_messages import clean_message
from appliance.web.errors import hide_paths

MAX_NAME_LENGTH: Final = 150

# Reserved on Windows, where results may be saved.
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def clean_file_name(text: str) -> str:
    """Return a safe file name: without folders and invisible characters, and not too long."""
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
    """Return the header that offers a file for download (RFC 6266, RFC 8187), with an ASCII name for old clients."""
    clean = clean_file_name(name)
    bare = "".join(mark for mark in unicodedata.normalize("NFKD", clean) if not unicodedata.combining(mark))
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", bare)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(clean, safe='')}"


class HasOut(BaseModel):
    """The available files of a job."""

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
    """The options of a job; null means as in the preset."""

    preset: str
    scale: int | str | None
    strength: float | None
    grain: float | None
    audio: str | None
    loudness: str | None
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
    wish: JobCommand | None = Field(description="A pause or cancellation that a running job has not carried out yet")
    origin: Origin
    owner: str | None
    owner_name: str | None
    created_at: float
    started_at: float | None = Field(description="Start of the current attempt")
    finished_at: float | None
    options: OptionsOut
    priority: int
    position: float
    attempts: int
    worked_s: float = Field(
        description="Processing time since then without pauses; of a running job, up to the latest resume"
    )
    stage: str
    frames_done: int
    frames_total: int | None
    fps: float
    eta_s: float | None
    message: str = Field(description="Why it failed, or what it is waiting for")
    code: str = Field(description="Why it failed, for programs; empty if it did not fail")
    preview_of: str | None
    folder: str | None = Field(description="The id of the watch folder that the file is from")
    folder_name: str | None = Field(description="The last part of the path of the watch folder")
    source_name: str
    target: str | None = Field(description="Where the result of a watched file is written")
    result_name: str | None
    estimate: dict[str, Any] | None
    revision: int
    is_sound: bool = Field(description="An audio file without video")
    has: HasOut


def view_job(job: JobRecord, files: JobFiles, names: dict[str, str]) -> JobOut:
    """Return a job as the API shows it.

    Args:
        job: The job.
        files: The paths of its files.
        names: The names of the users by id.
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
            grain=options.grain,
            audio=options.audio,
            loudness=options.loudness,
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
            result=done and job.result is not None and _is_regular_file(job.result),
        ),
    )


def _is_sound(job: JobRecord, there: frozenset[str], files: JobFiles) -> bool:
    """Return True if the file of a job has no video, judged by its previews and its name."""
    if files.thumbnail.name in there or files.before.name in there:
        return False
    suffix = os.path.splitext(job.title)[1].lower()
    return files.sound_after.name in there or suffix in _SOUND_SUFFIXES


# Advice about command line options, up to the next comma or semicolon; the page has no use for it.
_FOR_THE_COMMAND: Final = re.compile(r"[;,:]?\s*(?:or\s+)?[^;,]*(?<![\w-])--[a-z][\w-]*[^;,]*")


def plain_message(job: JobRecord, files: JobFiles) -> str:
    """Return the message of a job for the page: titles instead of paths, no advice about the command line."""
    names = {
        job.source: job.title,
        files.folder: "the result",
        files.folder.parents[1]: "the data directory",
        **({} if job.target is None else {job.target.parent: "the result’s folder", job.target: job.target.name}),
        **({} if job.result is None else {job.result: job.result.name}),
    }
    message = _UNEXPECTED.sub("unexpected error; see the server log", job.message)
    # The name of a file that failed the check stays, without its folder.
    for folder in (files.results, *(() if job.target is None else (job.target.parent,))):
        message = message.replace(f"; it is kept as {folder}/", "; it is kept as ")
    return _FOR_THE_COMMAND.sub("", clean_message(hide_paths(message, names))).strip(" ;,:")


_UNEXPECTED: Final = re.compile(r"(?:unexpected error|this should not happen) \(.*\); the details are in .*", re.DOTALL)


def _is_regular_file(path: Path) -> bool:
    """Return True for a regular file; links are never served."""
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
    """Replace what is not valid Unicode, as in the name of a file."""
    return text.encode("utf-8", "replace").decode()
