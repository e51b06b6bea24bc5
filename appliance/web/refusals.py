"""Errors as the API answers them: a status, a code for programs and plain words for people."""

import logging
from http import HTTPStatus
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
    TooManyLoginsError,
    UploadNotFoundError,
    UploadSpaceError,
    WebhookNotFoundError,
)
from appliance.jobs.errors import JobError, JobNotFoundError, JobStateError
from appliance.store.errors import DatabaseBusyError, DatabaseFullError
from appliance.watch.errors import FolderNotFoundError
from runtime.errors import DecodeError, OptionError, RelumeError, UnsupportedMediaError

logger = logging.getLogger(__name__)


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs; it stays the same")
    message: str = Field(description="For people: what happened and what to do")


class ErrorBody(BaseModel):
    """The body of every refusal."""

    error: ErrorDetail


class RefusedError(ApplianceError):
    """A request is refused with a status, a code and plain words."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


# The first class that fits decides, so leaves come before their parents.
_ANSWERS: Final[tuple[tuple[type[RelumeError], int, str], ...]] = (
    (LoginError, 401, "login_failed"),
    (TooManyLoginsError, 429, "too_many_logins"),
    (AccountNotFoundError, 404, "not_found"),
    (UploadNotFoundError, 404, "not_found"),
    (JobNotFoundError, 404, "not_found"),
    (FolderNotFoundError, 404, "not_found"),
    (WebhookNotFoundError, 404, "not_found"),
    (UploadSpaceError, 413, "no_room"),
    (JobStateError, 409, "job_state"),
    (AccountError, 422, "account"),
    (DatabaseBusyError, 503, "busy"),
    (DatabaseFullError, 507, "disk_full"),
    (OptionError, 422, "option"),
    (DecodeError, 422, "not_media"),
    (UnsupportedMediaError, 422, "not_media"),
    (JobError, 409, "job"),
    (ApplianceError, 422, "refused"),
)

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorBody, "description": "Refused; the message says why and what to do"},
    "5XX": {"model": ErrorBody, "description": "Could not be done; the message says what to do"},
}


def add_refusals(app: FastAPI) -> None:
    """Make an app answer every error in one form."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RelumeError, _known)
    app.add_exception_handler(Exception, _unknown)


def refuse(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Make the answer of a refusal."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=headers)


def answer_of(error: RelumeError) -> tuple[int, str]:
    """Give the status and the code for an error of ours."""
    return next(((status, code) for kind, status, code in _ANSWERS if isinstance(error, kind)), (500, "failed"))


def _known(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RelumeError)
    if isinstance(error, RefusedError):
        return refuse(error.status, error.code, str(error), error.headers)
    status, code = answer_of(error)
    if status >= 500:
        logger.warning("a request failed: %s", error)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, TooManyLoginsError) else None
    return refuse(status, code, str(error), headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return refuse(422, "invalid", f"{place or 'the request'}: {first['msg']}")


def _http(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this address", 405: "this address does not take that method"}
    message = words.get(error.status_code) or str(error.detail)
    code = HTTPStatus(error.status_code).name.lower()
    return refuse(error.status_code, code, message, dict(error.headers or {}))


def _unknown(request: Request, error: Exception) -> JSONResponse:
    # Starlette's outermost layer raises it again after this answer; uvicorn logs the traceback.
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return refuse(500, "failed", "this should not happen; the log of the box has the details")
