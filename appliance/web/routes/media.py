"""The files of a job: thumbnail, previews before and after, report and result; with range requests for players."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from pydantic import BaseModel
from starlette.types import Message, Receive, Scope, Send

from appliance.jobs.job import JobRecord, JobState
from appliance.watch.errors import FolderNotFoundError
from appliance.web.errors import ApiError, error_response
from appliance.web.report_views import describe_report, write_report_page
from appliance.web.routes.job_requests import JobId, seen_job
from appliance.web.security import ServicesDep, Viewer
from appliance.web.services import Services
from appliance.web.views import content_disposition
from appliance.web.zip_stream import zip_files
from runtime.report import report_from_json
from runtime.safe_open import open_plain

router = APIRouter(tags=["media"])

Part = Literal["thumbnail", "before", "after", "sound-before", "sound-after", "still-before", "still-after"]
_MAX_RESULTS: Final = 500
_TYPES: Final[dict[Part, str]] = {
    "thumbnail": "image/jpeg",
    "before": "video/mp4",
    "after": "video/mp4",
    "sound-before": "audio/mp4",
    "sound-after": "audio/mp4",
    "still-before": "image/jpeg",
    "still-after": "image/jpeg",
}
_FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The file"},
    206: {"content": {"application/octet-stream": {}}, "description": "The requested range"},
}


class MediaResponse(FileResponse):
    """A response with the contents of an open file, even if its name now belongs to another file.

    It reads larger chunks than Starlette's, since each is read in another thread.
    """

    chunk_size = 256 * 1024

    def __init__(self, handle: int, kind: str, headers: dict[str, str], status_code: int = 200) -> None:
        # FastAPI reads the default of `status_code` when it describes the API.
        self._file = open(handle, "rb", buffering=0)  # noqa: SIM115
        path, found = f"/proc/self/fd/{handle}", os.fstat(handle)
        super().__init__(path, status_code, media_type=kind, headers=headers, stat_result=found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; an invalid range is reported in the usual error format."""
        replaced = False

        async def send_or_replace(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] >= 400:
                replaced = True
                size = os.fstat(self._file.fileno()).st_size
                text = f"the requested range is outside this file of {size} bytes"
                headers = {"Content-Range": f"bytes */{size}"}
                await error_response(message["status"], "range", text, headers)(scope, receive, send)
            elif not replaced:
                await send(message)

        with self._file:
            await super().__call__(scope, receive, send_or_replace)


class ReportTextOut(BaseModel):
    """A report as sentences."""

    lines: list[str]


@router.get("/api/jobs/{job_id}/report", summary="Get the report of a job")
def report(services: ServicesDep, caller: Viewer, job_id: JobId, response: Response) -> dict[str, Any]:
    """Return the report as JSON, with names instead of paths of the server."""
    job = seen_job(services, caller, job_id)
    found: dict[str, Any] = json.loads(_read_report(services, job_id))
    found["source"]["path"] = job.title
    found["result"]["path"] = Path(found["result"]["path"]).name
    response.headers["Content-Disposition"] = content_disposition(f"{Path(job.title).stem}.report.json")
    return found


@router.get(
    "/api/jobs/{job_id}/report/page",
    summary="Get the report for printing",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def report_page(services: ServicesDep, caller: Viewer, job_id: JobId) -> HTMLResponse:
    """Return the report as a page for printing."""
    job = seen_job(services, caller, job_id)
    files = services.queue.files(job_id)
    stills = files.still_before.is_file() and files.still_after.is_file()
    return HTMLResponse(write_report_page(job, report_from_json(_read_report(services, job_id)), stills=stills))


@router.get("/api/jobs/{job_id}/report/text", summary="Get the report in plain words")
def report_text(services: ServicesDep, caller: Viewer, job_id: JobId) -> ReportTextOut:
    """Return the report as sentences."""
    seen_job(services, caller, job_id)
    return ReportTextOut(lines=describe_report(report_from_json(_read_report(services, job_id))))


@router.get("/api/jobs/{job_id}/result", response_class=MediaResponse, responses=_FILE, summary="Download the result")
def result(services: ServicesDep, caller: Viewer, job_id: JobId) -> FileResponse:
    """Return the result for download, under the name of the source with the suffix of the result."""
    job = seen_job(services, caller, job_id)
    if job.state is not JobState.DONE or job.result is None:
        raise ApiError(404, "not_found", "this job has no result yet")
    name = job.result.name.encode("utf-8", "replace").decode()
    headers = {"Content-Disposition": content_disposition(name)}
    return _answer(_open_result(services, job), "application/octet-stream", headers)


def _open_result(services: Services, job: JobRecord) -> int:
    """Open the result of a finished job without following links below its folder; return the descriptor.

    Raises:
        ApiError: The job has no result, or another file now has its name.
    """
    if job.state is not JobState.DONE or job.result is None:
        raise ApiError(404, "not_found", f"{job.title} has no result yet; deselect it")
    handle = _open(job.result, _folder_of_result(services, job, job.result), job.result.name)
    publication = services.queue.publication(job.id)
    if publication is not None and not publication.fits(os.fstat(handle)):
        os.close(handle)
        raise ApiError(404, "not_found", f"the result {job.result.name} was replaced by another file")
    return handle


def _folder_of_result(services: Services, job: JobRecord, result: Path) -> Path:
    """Return the folder that must contain the result of a job; links are followed up to it, but not below it."""
    if job.target is None:
        return services.queue.files(job.id).results
    if job.folder is not None:
        with suppress(FolderNotFoundError):
            destination = services.folders.get(job.folder).config.destination
            if result.is_relative_to(destination):
                return destination
    # The destination has changed, or the folder is no longer watched; jobs of the command line have none.
    return job.target.parent


@router.get(
    "/api/results.zip",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The results"}},
    summary="Download the results of several jobs",
)
def results(
    services: ServicesDep,
    caller: Viewer,
    jobs: Annotated[str, Query(min_length=16, max_length=17 * _MAX_RESULTS, description="Ids, separated by commas")],
) -> StreamingResponse:
    """Stream the results of several jobs as one uncompressed ZIP archive."""
    found = [seen_job(services, caller, job_id) for job_id in jobs.split(",")]
    for job in found:
        os.close(_open_result(services, job))  # a missing one is reported before anything is sent

    def opener(job: JobRecord) -> Callable[[], int]:
        return lambda: _open_result(services, job)

    files = [(job.result.name, opener(job)) for job in found if job.result is not None]
    headers = {"Content-Disposition": content_disposition("Relume results.zip"), "Cache-Control": "no-store"}
    return StreamingResponse(zip_files(files), media_type="application/zip", headers=headers)


@router.get(
    "/api/jobs/{job_id}/{part}", response_class=MediaResponse, responses=_FILE, summary="Get a preview of a job"
)
def part(services: ServicesDep, caller: Viewer, job_id: JobId, part: Part) -> FileResponse:
    """Return the thumbnail, or the video, audio or still picture before or after."""
    seen_job(services, caller, job_id)
    files = services.queue.files(job_id)
    places = {
        "thumbnail": files.thumbnail,
        "before": files.before,
        "after": files.after,
        "sound-before": files.sound_before,
        "sound-after": files.sound_after,
        "still-before": files.still_before,
        "still-after": files.still_after,
    }
    handle = _open(places[part], files.folder, places[part].name)
    return _answer(handle, _TYPES[part], {"Content-Disposition": "inline"})


def _open(path: Path, below: Path, name: str) -> int:
    try:
        return open_plain(path, below=below)
    except OSError:
        raise ApiError(404, "not_found", f"the file {name} does not exist; it may have been moved") from None


def _answer(handle: int, kind: str, headers: dict[str, str]) -> FileResponse:
    # Browsers may cache it but must revalidate: the file may be rewritten, and the session may end.
    return MediaResponse(handle, kind, {**headers, "Cache-Control": "private, no-cache"})


def _read_report(services: Services, job_id: str) -> str:
    services.queue.get(job_id)
    files = services.queue.files(job_id)
    try:
        with open(open_plain(files.report, below=files.folder), encoding="utf-8") as file:
            return file.read()
    except OSError:
        raise ApiError(404, "not_found", "this job has no report yet") from None
