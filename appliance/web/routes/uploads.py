"""Resumable uploads: the tus protocol 1.0 with creation and termination (https://tus.io/protocols/resumable-upload)."""

import base64
import binascii
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from appliance.web.errors import ApiError
from appliance.web.security import Operator, ServicesDep
from appliance.web.upload_store import Upload

VERSION: Final = "1.0.0"
_TUS: Final = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}
_MAX_METADATA: Final = 4096

router = APIRouter(tags=["uploads"])

UploadId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{16}$", description="From the Location header of its creation")]
Resumable = Annotated[str | None, Header(alias="Tus-Resumable", description="1.0.0")]


class FileOut(BaseModel):
    """An uploaded file; `probe` and `error` are both null while it is being checked."""

    id: str
    name: str
    size_bytes: int
    probe: "ProbeOut | None"
    has_thumbnail: bool
    error: str | None = Field(description="Why it cannot be enhanced")


class ProbeOut(BaseModel):
    """The properties of a file; null means unknown."""

    container: str
    duration_s: float | None
    has_picture: bool
    has_sound: bool
    width: int | None
    height: int | None
    fps: float | None
    frames: int | None
    codec: str | None
    damage: str | None = Field(None, description="How the file is damaged; it can still be enhanced with allow_damaged")


class FindingOut(BaseModel):
    """A fault of a file."""

    code: str
    text: str


class AdviceOut(BaseModel):
    """The faults of a file; `preset` is null where nothing needs to be done, or nothing could be measured."""

    findings: list[FindingOut] = Field(default_factory=list)
    preset: str | None = None
    reason: str = ""


@router.options("/api/uploads", status_code=204, summary="Show the upload protocol")
def describe(services: ServicesDep, caller: Operator) -> Response:
    """Return the version and extensions of tus, and the size of the largest file."""
    del caller
    headers = {
        **_TUS,
        "Tus-Version": VERSION,
        "Tus-Extension": "creation,termination",
        "Tus-Max-Size": str(services.settings.upload_limit_bytes),
    }
    return Response(status_code=204, headers=headers)


@router.post("/api/uploads", status_code=201, summary="Start an upload", response_class=Response)
def create(
    services: ServicesDep,
    caller: Operator,
    resumable: Resumable = None,
    length: Annotated[int | None, Header(alias="Upload-Length", ge=0, description="Size in bytes")] = None,
    metadata: Annotated[
        str, Header(alias="Upload-Metadata", max_length=_MAX_METADATA, description="filename and filetype in base64")
    ] = "",
) -> Response:
    """Start an upload; send its data to the URL in the Location header of the response."""
    _check_version(resumable)
    if length is None:
        raise ApiError(400, "length", "the Upload-Length header is missing; declare the size of the file")
    upload = services.uploads.begin(caller, _read_metadata(metadata).get("filename", ""), length)
    return Response(status_code=201, headers={**_TUS, "Location": f"/api/uploads/{upload.id}", "Upload-Offset": "0"})


@router.head("/api/uploads/{upload_id}", summary="Show the offset of an upload", response_class=Response)
async def look(services: ServicesDep, caller: Operator, upload_id: UploadId, resumable: Resumable = None) -> Response:
    """Return the offset at which to continue; a request that is still writing to the upload is ended."""
    _check_version(resumable)
    await _find(services, caller, upload_id)
    await services.upload_writer.take_over(upload_id)
    upload = await _find(services, caller, upload_id)
    name = base64.b64encode(upload.name.encode()).decode()
    headers = {
        **_TUS,
        "Upload-Offset": str(upload.offset_bytes),
        "Upload-Length": str(upload.size_bytes),
        "Upload-Metadata": f"filename {name}",
    }
    return Response(status_code=200, headers=headers)


@router.patch(
    "/api/uploads/{upload_id}",
    status_code=204,
    summary="Send data",
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/offset+octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def append(
    request: Request,
    services: ServicesDep,
    caller: Operator,
    upload_id: UploadId,
    resumable: Resumable = None,
    offset: Annotated[
        int | None, Header(alias="Upload-Offset", ge=0, description="Position of the data in the file")
    ] = None,
) -> Response:
    """Write data at the offset; data received before a lost connection is kept."""
    _check_version(resumable)
    if request.headers.get("content-type") != "application/offset+octet-stream":
        raise ApiError(415, "type", "the Content-Type must be application/offset+octet-stream")
    if offset is None:
        raise ApiError(400, "offset", "the Upload-Offset header is missing")
    await _find(services, caller, upload_id)
    synced_bytes = await services.upload_writer.receive(
        upload_id, caller.id, offset, request.stream(), is_allowed=lambda: bool(services.login.still_valid({caller}))
    )
    return Response(status_code=204, headers={**_TUS, "Upload-Offset": str(synced_bytes)})


@router.delete("/api/uploads/{upload_id}", status_code=204, summary="Delete an upload", response_class=Response)
async def remove(services: ServicesDep, caller: Operator, upload_id: UploadId, resumable: Resumable = None) -> Response:
    """Delete an upload without a job, complete or not."""
    _check_version(resumable)
    await _find(services, caller, upload_id)
    await services.upload_writer.take_over(upload_id)
    upload = await _find(services, caller, upload_id)
    await to_thread.run_sync(services.uploads.remove, upload)
    return Response(status_code=204, headers=_TUS)


@router.get("/api/files", summary="List the uploaded files without a job", response_model=list[FileOut])
def waiting(services: ServicesDep, caller: Operator) -> list[FileOut]:
    """Return the caller's complete uploads that have no job."""
    return [
        FileOut(
            id=upload.id,
            name=upload.name,
            size_bytes=upload.size_bytes,
            probe=None if upload.probe is None else ProbeOut(**upload.probe),
            has_thumbnail=services.uploads.thumbnail(upload.id).is_file(),
            error=upload.error,
        )
        for upload in services.uploads.waiting(caller.id)
    ]


@router.get(
    "/api/files/{upload_id}/thumbnail",
    response_class=FileResponse,
    responses={200: {"content": {"image/jpeg": {}}, "description": "The thumbnail"}},
    summary="Get the thumbnail of an uploaded file",
)
def thumbnail(services: ServicesDep, caller: Operator, upload_id: UploadId) -> FileResponse:
    """Return the thumbnail of an uploaded file."""
    path = services.uploads.thumbnail(services.uploads.get(upload_id, caller.id).id)
    try:
        found = path.stat()
    except OSError:
        raise ApiError(404, "not_found", "this file has no thumbnail") from None
    headers = {"Content-Disposition": "inline", "Cache-Control": "private, max-age=3600"}
    return FileResponse(path, media_type="image/jpeg", headers=headers, stat_result=found)


@router.get("/api/files/{upload_id}/advice", summary="Measure an uploaded file and suggest a preset")
def advise(services: ServicesDep, caller: Operator, upload_id: UploadId) -> AdviceOut:
    """Return what is wrong with a file; measuring takes some seconds the first time."""
    upload = services.uploads.get(upload_id, caller.id)
    if upload.probe is None:
        raise ApiError(409, "unchecked", "the file is still being checked; try again in a moment")
    return AdviceOut.model_validate(services.advice.get(services.uploads.path(upload)))


async def _find(services: ServicesDep, caller: Operator, upload_id: str) -> Upload:
    return await to_thread.run_sync(services.uploads.get, upload_id, caller.id)


def _check_version(resumable: str | None) -> None:
    if resumable is not None and resumable != VERSION:
        raise ApiError(412, "version", f"this server supports tus {VERSION}", {"Tus-Version": VERSION})


def _read_metadata(text: str) -> dict[str, str]:
    """Parse `key base64, key base64`; ignore what is invalid."""
    found = {}
    for pair in text.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            continue
    return found
