"""Errors as API responses: a status, a code for programs, and a message for people."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from appliance.errors import (
    AccountError,
    AccountNotFoundError,
    ApplianceError,
    LoginError,
    MailError,
    OwnPresetNotFoundError,
    TooManyLoginsError,
    UploadNotFoundError,
    UploadSpaceError,
    WebhookNotFoundError,
)
from appliance.jobs.errors import JobError, JobNotFoundError, JobStateError
from appliance.store.errors import DatabaseBusyError, DatabaseFullError
from appliance.validation_messages import clean_message, describe_validation_error
from appliance.watch.errors import FolderNotFoundError
from runtime.errors import DecodeError, OptionError, RelumeError, UnsupportedMediaError

logger = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """An error."""

    code: str = Field(description="For programs; stable")
    message: str = Field(description="For people: what is wrong and what to do")
    field: str = Field("", description="The field of the request that the error is about; empty for none or several")


class ErrorBody(BaseModel):
    """The body of every error response."""

    error: ErrorDetail


class ApiError(ApplianceError):
    """An error response with a status, a code and a message."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None, *, field: str = ""
    ) -> None:
        super().__init__(message, code=code, field=field)
        self.status, self.headers = status, headers or {}


# The first matching class applies, so subclasses come before their base classes.
_STATUSES: Final[tuple[tuple[type[RelumeError], int, str], ...]] = (
    (LoginError, 401, "login_failed"),
    (TooManyLoginsError, 429, "too_many_logins"),
    (AccountNotFoundError, 404, "not_found"),
    (UploadNotFoundError, 404, "not_found"),
    (JobNotFoundError, 404, "not_found"),
    (FolderNotFoundError, 404, "not_found"),
    (WebhookNotFoundError, 404, "not_found"),
    (OwnPresetNotFoundError, 404, "not_found"),
    (UploadSpaceError, 413, "no_room"),
    (JobStateError, 409, "job_state"),
    (AccountError, 422, "account"),
    (MailError, 422, "mail"),
    (DatabaseBusyError, 503, "busy"),
    (DatabaseFullError, 507, "disk_full"),
    (OptionError, 422, "option"),
    (DecodeError, 422, "not_media"),
    (UnsupportedMediaError, 422, "not_media"),
    (JobError, 409, "job"),
    (ApplianceError, 422, "refused"),
)

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorBody, "description": "Rejected; the message says why and what to do"},
    "5XX": {"model": ErrorBody, "description": "Failed; the message says what to do"},
}


def add_error_handlers(app: FastAPI) -> None:
    """Register handlers that return every error in the same form."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RelumeError, _known)
    app.add_exception_handler(Exception, _unknown)


def error_response(
    status: int, code: str, message: str, headers: dict[str, str] | None = None, *, field: str = ""
) -> JSONResponse:
    """Create an error response."""
    detail = ErrorDetail(code=code, message=message, field=field)
    return JSONResponse({"error": detail.model_dump()}, status, headers=headers)


def status_and_code(error: RelumeError) -> tuple[int, str]:
    """Return the HTTP status and the code for an error."""
    status, code = next(
        ((status, code) for kind, status, code in _STATUSES if isinstance(error, kind)), (500, "unexpected")
    )
    return status, getattr(error, "code", "") or code


def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RelumeError)
    data = request.app.state.services.settings.data
    message, field = clean_message(hide_paths(str(error), {data: "the data directory"})), getattr(error, "field", "")
    if isinstance(error, ApiError):
        return error_response(error.status, error.code, message, error.headers, field=field)
    status, code = status_and_code(error)
    if isinstance(error, LookupError) and status == 404:
        # The original message is for the command line: it contains ids.
        kind = next((name for part, name in _IDS.items() if part in request.path_params), "item")
        message = f"{kind} not found; it may have been deleted"
    if status >= 500:
        logger.warning("%s %s failed: %s", request.method, request.url.path, error)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyLoginsError) else None
    return error_response(status, code, message, headers, field=field)


def hide_paths(message: str, names: Mapping[Path, str]) -> str:
    """Replace paths of the server and everything below them with names, longest path first."""
    for path, name in sorted(names.items(), key=lambda item: -len(str(item[0]))):
        pattern = re.escape(str(path)) + r"(?:/[^\s,;:'\"()]*)?(?![\w.-])"
        message = re.sub(pattern, name.replace("\\", r"\\"), message)
    return message


# What the path parameters identify; an invalid one is reported as not found.
_IDS: Final = {
    "job_id": "job",
    "user_id": "user",
    "folder_id": "watch folder",
    "webhook_id": "webhook",
    "token_id": "token",
    "upload_id": "file",
    "session_id": "session",
}


def _invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place, *rest = (str(part) for part in first["loc"])
    field = next((part for part in rest if not part.isdigit()), "")
    if place == "path" and field in _IDS:
        return error_response(404, "not_found", f"{_IDS[field]} not found")
    title = f"“{field.replace('_', ' ')}”" if field else "the request"
    return error_response(422, "invalid", describe_validation_error(first, title), field=field)


def _http(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, HTTPException)
    messages = {404: "this URL does not exist", 405: "this URL does not accept that method"}
    message = messages.get(error.status_code) or str(error.detail)
    code = HTTPStatus(error.status_code).name.lower()
    return error_response(error.status_code, code, message, dict(error.headers or {}))


def _unknown(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises it again after this response; uvicorn logs the traceback.
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return error_response(500, "unexpected", "unexpected error; see the server log")
