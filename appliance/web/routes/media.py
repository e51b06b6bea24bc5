"""The files of a job: thumbnail, before and after, sound, report and result; in parts, for players that jump."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from appliance.jobs.holding import Publication
from appliance.jobs.records import JobRecord, JobState
from appliance.watch.errors import FolderNotFoundError
from appliance.web.access import ServicesHere, Viewer
from appliance.web.names import content_disposition
from appliance.web.refusals import RefusedError, refuse
from appliance.web.report_text import describe_report
from appliance.web.routes.jobs import JobId
from appliance.web.services import Services
from runtime.plain_files import open_plain
from runtime.report import report_from_json

router = APIRouter(tags=["media"])

Part = Literal["thumbnail", "before", "after", "sound-before", "sound-after"]
_TYPES: Final[dict[Part, str]] = {
    "thumbnail": "image/jpeg",
    "before": "video/mp4",
    "after": "video/mp4",
    "sound-before": "audio/mp4",
    "sound-after": "audio/mp4",
}
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file"},
    206: {"content": {"application/octet-stream": {}}, "description": "The part that was asked for"},
}


class MediaResponse(FileResponse):
    """An open file, which it closes; what has its name meanwhile does not matter.

    It is read in larger pieces than Starlette's, since each piece is a trip to another thread.
    """

    chunk_size = 256 * 1024

    def __init__(self, handle: int, kind: str, headers: dict[str, str]) -> None:
        self._file = open(handle, "rb", buffering=0)  # noqa: SIM115
        super().__init__(f"/proc/self/fd/{handle}", media_type=kind, headers=headers, stat_result=os.fstat(handle))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a range that the file does not have is refused in the form of every refusal."""
        refused = False

        async def tell(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = True
                size = os.fstat(self._file.fileno()).st_size
                words = f"the part that was asked for is not in this file of {size} bytes"
                headers = {"Content-Range": f"bytes */{size}"}
                await refuse(message["status"], "range", words, headers)(scope, receive, send)
            elif not refused:
                await send(message)

        with self._file:
            await super().__call__(scope, receive, tell)


class ReportTextOut(BaseModel):
    """A report in sentences."""

    lines: list[str]


@router.get("/api/jobs/{job_id}/report", summary="Get the report of a job")
def report(services: ServicesHere, caller: Viewer, job_id: JobId) -> dict[str, Any]:
    """Give the report as data, with names in place of the box's own paths."""
    del caller
    found: dict[str, Any] = json.loads(_read_report(services, job_id))
    job = services.queue.get(job_id)
    found["source"]["path"] = job.title
    found["result"]["path"] = Path(found["result"]["path"]).name
    return found


@router.get("/api/jobs/{job_id}/report/text", summary="Get the report in plain words")
def report_text(services: ServicesHere, caller: Viewer, job_id: JobId) -> ReportTextOut:
    """Give the report as sentences."""
    del caller
    return ReportTextOut(lines=describe_report(report_from_json(_read_report(services, job_id))))


@router.get("/api/jobs/{job_id}/result", response_class=MediaResponse, responses=_FILE, summary="Save the result")
def result(services: ServicesHere, caller: Viewer, job_id: JobId) -> FileResponse:
    """Give the result for saving, under the name of the source with the result's suffix."""
    del caller
    job = services.queue.get(job_id)
    if job.state is not JobState.DONE or job.result is None:
        raise RefusedError(404, "not_found", "this job has no result yet")
    name = job.result.name.encode("utf-8", "replace").decode()
    headers = {"Content-Disposition": content_disposition(name)}
    below = _folder_of_result(services, job, job.result)
    return _file(job.result, below, "application/octet-stream", headers, services.queue.publication(job_id))


def _folder_of_result(services: Services, job: JobRecord, result: Path) -> Path:
    """Give the folder that the result of a job must be in: links are followed up to it, but none from there on."""
    if job.target is None:
        return services.queue.files(job.id).results
    if job.folder is not None:
        with suppress(FolderNotFoundError):
            destination = services.folders.get(job.folder).wish.destination
            if result.is_relative_to(destination):
                return destination
    # The folder has another destination by now, or is watched no more; a job of the command line has none.
    return job.target.parent


@router.get("/api/jobs/{job_id}/{part}", response_class=MediaResponse, responses=_FILE, summary="Look at a job")
def part(services: ServicesHere, caller: Viewer, job_id: JobId, part: Part) -> FileResponse:
    """Give the thumbnail, the picture before and after, or the sound before and after."""
    del caller
    services.queue.get(job_id)
    files = services.queue.files(job_id)
    places = {
        "thumbnail": files.thumbnail,
        "before": files.before,
        "after": files.after,
        "sound-before": files.sound_before,
        "sound-after": files.sound_after,
    }
    return _file(places[part], files.folder, _TYPES[part], {"Content-Disposition": "inline"})


def _file(
    path: Path, below: Path, kind: str, headers: dict[str, str], publication: Publication | None = None
) -> FileResponse:
    try:
        handle = open_plain(path, below=below)
    except OSError:
        raise RefusedError(404, "not_found", "this job has no such file, or it was moved away") from None
    if publication is not None and not publication.fits(os.fstat(handle)):
        os.close(handle)
        raise RefusedError(404, "not_found", "another file has the name of this job's result by now; look there")
    # The browser may keep it, but asks each time: the file can be made anew, and the log-in can end.
    return MediaResponse(handle, kind, {**headers, "Cache-Control": "private, no-cache"})


def _read_report(services: Services, job_id: str) -> str:
    services.queue.get(job_id)
    files = services.queue.files(job_id)
    try:
        with open(open_plain(files.report, below=files.folder), encoding="utf-8") as file:
            return file.read()
    except OSError:
        raise RefusedError(404, "not_found", "this job has no report yet") from None
