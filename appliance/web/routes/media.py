"""The files of a job: thumbnail, before and after, sound, report and result; in parts, for players that jump."""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse
from pydantic import BaseModel

from appliance.jobs.records import JobState
from appliance.web.access import ServicesHere, Viewer
from appliance.web.names import content_disposition
from appliance.web.refusals import RefusedError
from appliance.web.report_page import write_report_page
from appliance.web.report_text import describe_report
from appliance.web.routes.jobs import JobId, seen_job
from appliance.web.services import Services
from appliance.web.zipping import zip_files
from runtime.report import report_from_json

router = APIRouter(tags=["media"])

Part = Literal["thumbnail", "before", "after", "sound-before", "sound-after"]
_MOST_RESULTS: Final = 500
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
    """A file, read in larger pieces than Starlette's, since each piece is a trip to another thread."""

    chunk_size = 256 * 1024


class ReportTextOut(BaseModel):
    """A report in sentences."""

    lines: list[str]


@router.get("/api/jobs/{job_id}/report", summary="Get the report of a job")
def report(services: ServicesHere, caller: Viewer, job_id: JobId, response: Response) -> dict[str, Any]:
    """Give the report as data, with names in place of the box's own paths."""
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
def report_page(services: ServicesHere, caller: Viewer, job_id: JobId) -> HTMLResponse:
    """Give the report as a page that prints well."""
    job = seen_job(services, caller, job_id)
    return HTMLResponse(write_report_page(job, report_from_json(_read_report(services, job_id))))


@router.get("/api/jobs/{job_id}/report/text", summary="Get the report in plain words")
def report_text(services: ServicesHere, caller: Viewer, job_id: JobId) -> ReportTextOut:
    """Give the report as sentences."""
    seen_job(services, caller, job_id)
    return ReportTextOut(lines=describe_report(report_from_json(_read_report(services, job_id))))


@router.get("/api/jobs/{job_id}/result", response_class=MediaResponse, responses=_FILE, summary="Save the result")
def result(services: ServicesHere, caller: Viewer, job_id: JobId) -> FileResponse:
    """Give the result for saving, under the name of the source with the result's suffix."""
    job = seen_job(services, caller, job_id)
    if job.state is not JobState.DONE or job.result is None:
        raise RefusedError(404, "not_found", "this job has no result yet")
    name = job.result.name.encode("utf-8", "replace").decode()
    return _file(job.result, "application/octet-stream", {"Content-Disposition": content_disposition(name)})


@router.get(
    "/api/results.zip",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}, "description": "The results"}},
    summary="Save the results of several jobs",
)
def results(
    services: ServicesHere,
    caller: Viewer,
    jobs: Annotated[str, Query(min_length=16, max_length=17 * _MOST_RESULTS, description="Ids, separated by commas")],
) -> StreamingResponse:
    """Give the results of several jobs in one ZIP file, uncompressed; it is written while it is sent."""
    found = [seen_job(services, caller, job_id) for job_id in jobs.split(",")]
    without = next((job for job in found if job.state is not JobState.DONE or job.result is None), None)
    if without is not None:
        raise RefusedError(404, "not_found", f"{without.title} has no result yet; leave it out")
    paths = [job.result for job in found if job.result is not None]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise RefusedError(404, "not_found", f"the result {missing.name} was moved away; leave it out")
    headers = {"Content-Disposition": content_disposition("Relume results.zip"), "Cache-Control": "no-store"}
    return StreamingResponse(zip_files(paths), media_type="application/zip", headers=headers)


@router.get("/api/jobs/{job_id}/{part}", response_class=MediaResponse, responses=_FILE, summary="Look at a job")
def part(services: ServicesHere, caller: Viewer, job_id: JobId, part: Part) -> FileResponse:
    """Give the thumbnail, the picture before and after, or the sound before and after."""
    seen_job(services, caller, job_id)
    files = services.queue.files(job_id)
    places = {
        "thumbnail": files.thumbnail,
        "before": files.before,
        "after": files.after,
        "sound-before": files.sound_before,
        "sound-after": files.sound_after,
    }
    return _file(places[part], _TYPES[part], {"Content-Disposition": "inline"})


def _file(path: Path, kind: str, headers: dict[str, str]) -> FileResponse:
    try:
        found = path.stat()
    except OSError:
        raise RefusedError(404, "not_found", "this job has no such file, or it was moved away") from None
    # The browser may keep it, but asks each time: the file can be made anew, and the log-in can end.
    return MediaResponse(
        path, media_type=kind, headers={**headers, "Cache-Control": "private, no-cache"}, stat_result=found
    )


def _read_report(services: Services, job_id: str) -> str:
    services.queue.get(job_id)
    try:
        return services.queue.files(job_id).report.read_text(encoding="utf-8")
    except OSError:
        raise RefusedError(404, "not_found", "this job has no report yet") from None
