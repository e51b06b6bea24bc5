"""Errors: one format for all, with messages that users can understand."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from appliance.jobs.errors import code_of
from appliance.jobs.job import JobRecord
from appliance.web.errors import hide_paths
from appliance.web.views import plain_message
from runtime.errors import (
    DamagedError,
    DecodeError,
    EncodeError,
    OptionError,
    OutputError,
    SessionError,
    UnsupportedMediaError,
)
from runtime.report import VerificationError

FOR_PROGRAMMERS = re.compile(
    r"pattern|Errno|Posix|Value error|Traceback|should match|valid (string|number)|NoneType|<class"
)
WRONG: tuple[Any, ...] = (None, "", "x", "a/../../b", "\x00", -1, 10**12, 1.5, True, [], {}, [{}], "x" * 5000, {"x": 1})

# Requests that would log the test out, or never end.
LEFT_OUT = {
    ("DELETE", "/api/users/{user_id}"),
    ("GET", "/api/events"),
    ("POST", "/api/logout"),
    ("POST", "/api/setup"),
    ("POST", "/api/login"),
}


def routes_of(app: FastAPI) -> list[APIRoute]:
    found: list[APIRoute] = []

    def walk(routes: list[Any]) -> None:
        for route in routes:
            if isinstance(route, APIRoute):
                found.append(route)
            elif hasattr(route, "original_router"):
                walk(route.original_router.routes)

    walk(app.routes)
    return found


def bodies_of(route: APIRoute, values: int) -> list[Any]:
    """Return bodies with up to `values` invalid values per field, one invalid value each, and some that are no objects.

    The values differ from field to field, so that a few per field cover all of them over a whole API.
    """
    if route.body_field is None:
        return [None]
    model = route.body_field.field_info.annotation
    fields = getattr(model, "model_fields", None) or dict.fromkeys(("port", "device", "tls_certificate", "host_names"))
    names = [getattr(field, "alias", None) or name for name, field in fields.items()]
    good = {
        "path": "/tmp",
        "destination": "/tmp",
        "name": "x",
        "password": "x",
        "role": "viewer",
        "url": "https://a.b/",
    }
    least = {name: good[name] for name in names if name in good}
    turns = itertools.cycle(WRONG)
    one_wrong = [{**least, name: value} for name in names for value in itertools.islice(turns, values)]
    return [*one_wrong, {**least, "no_such_field": 1}, {}, [], "text", 7, {"schedule": {"from": "25:00", "to": "x"}}]


@pytest.mark.parametrize("values", [3, pytest.param(len(WRONG), marks=pytest.mark.slow)])
def test_no_answer_to_bad_input_has_words_for_programmers(app, admin, operator, add_job, values):
    """Every route gets every field wrong in many ways; what comes back is read by people."""
    job = add_job(operator.user)
    said = set()
    for route in routes_of(app):
        for method in route.methods - {"HEAD", "OPTIONS"}:
            for part in ("x", "AAAAAAAAAAAAAAAA", job.id, "%00"):
                path = re.sub(r"\{[a-z_]+\}", part, route.path.replace("{action}", "pause"))
                if (method, route.path) in LEFT_OUT:
                    continue
                bodies = bodies_of(route, values) if part == "AAAAAAAAAAAAAAAA" or "{" not in route.path else [None]
                for body in bodies:
                    options = {} if body is None else {"json": body}
                    answer = admin.request(method, path, params={"limit": "x", "state": "none"}, **options)
                    assert answer.status_code < 500, (method, path, body, answer.text)
                    if answer.status_code < 400:
                        continue
                    error = answer.json()["error"]
                    assert set(error) == {"code", "message", "field"}, (method, path)
                    assert error["code"], (method, path, body)
                    assert not FOR_PROGRAMMERS.search(answer.text), (method, path, body, error["message"])
                    said.add(error["message"])
    assert len(said) > 40


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said", "field"),
    [
        (
            "POST",
            "/api/folders",
            {"path": "in", "destination": "/tmp"},
            422,
            "enter the full path, starting with /",
            "path",
        ),
        ("GET", "/api/jobs/abc", None, 404, "job not found", ""),
        ("GET", "/api/jobs/AAAAAAAAAAAAAAAA", None, 404, "job not found", ""),
        ("PATCH", "/api/users/abc", {}, 404, "user not found", ""),
        ("DELETE", "/api/folders/nowhere", None, 404, "watch folder not found", ""),
        ("DELETE", "/api/webhooks/AAAAAAAAAAAAAAAA", None, 404, "webhook not found", ""),
        ("POST", "/api/webhooks", {"url": "ftp://a.b/c"}, 422, "“ftp://a.b/c” is not a URL such as", "url"),
        ("POST", "/api/webhooks", {"url": "http://a.b/c", "events": []}, 422, "“events” is missing", "events"),
        ("POST", "/api/users", {"name": "A", "password": "x", "role": "king"}, 422, "choose one of", "role"),
        ("GET", "/api/jobs?limit=0", None, 422, "“limit” must be at least 1", "limit"),
        ("GET", "/api/jobs?state=none", None, 422, "unknown state “none”", "state"),
        (
            "POST",
            "/api/users",
            {"name": "A", "password": "x", "role": "viewer", "nme": 1},
            422,
            "no field named “nme”",
            "nme",
        ),
    ],
)
def test_an_error_names_the_field_and_the_expected_value(admin, method, path, body, status, said, field):
    answer = admin.request(method, path, **({} if body is None else {"json": body}))

    error = answer.json()["error"]
    assert (answer.status_code, error["field"]) == (status, field)
    assert said in error["message"]


def test_paths_of_the_server_become_names(tmp_path: Path):
    data = tmp_path / "data"
    message = f"{data}/uploads/Abc.mp4 is damaged; {data} is full, {data}base is not"

    said = hide_paths(message, {data: "the data directory", data / "uploads" / "Abc.mp4": "holiday.mp4"})

    assert said == f"holiday.mp4 is damaged; the data directory is full, {data}base is not"


def test_a_failed_job_shows_titles_and_nothing_for_the_command_line(services, operator, admin, add_job):
    job = add_job(operator.user, title="holiday in \\Nice.mp4")
    files = services.queue.files(job.id)
    claimed = services.queue.lease("cpu").claim()
    assert claimed is not None
    for message, said in (
        (
            f"{job.source} is damaged or cut short in stream 1; copy it again, or enhance it with --allow-damaged",
            "holiday in \\Nice.mp4 is damaged or cut short in stream 1; copy it again",
        ),
        (f"{files.folder}/.result.partial.mp4 has no sound", "the result has no sound"),
        (
            f"the check failed: 9 frames; it is kept as {files.results}/a b.unverified.mp4: look at it",
            "the check failed: 9 frames; it is kept as a b.unverified.mp4: look at it",
        ),
        (f"the disk of {services.settings.data} is nearly full", "the disk of the data directory is nearly full"),
        (f"[Errno 5] Input/output error: PosixPath('{job.source}')", "Input/output error: holiday in \\Nice.mp4"),
        (
            f"unexpected error (ZeroDivisionError: x); the details are in {files.folder}/worker.log",
            "unexpected error; see the server log",
        ),
    ):
        assert plain_message(with_message(claimed, message), files) == said

    services.queue.lease("cpu").fail(job.id, f"{job.source} is damaged", code="source_damaged")
    shown = admin.get(f"/api/jobs/{job.id}").json()
    assert (shown["code"], shown["message"]) == ("source_damaged", "holiday in \\Nice.mp4 is damaged")
    services.queue.retry(job.id)
    assert admin.get(f"/api/jobs/{job.id}").json()["code"] == ""


def with_message(job: JobRecord, message: str) -> JobRecord:
    from dataclasses import replace

    return replace(job, message=message)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DamagedError("x"), "source_damaged"),
        (DecodeError("x"), "source_unreadable"),
        (UnsupportedMediaError("x"), "source_unsupported"),
        (EncodeError("x"), "result_failed"),
        (OutputError("x"), "result_place"),
        (SessionError("x"), "model"),
        (OptionError("x"), "option"),
        (VerificationError("x", failures=("y",)), "unverified"),
        (ZeroDivisionError("x"), "unexpected"),
    ],
)
def test_every_failure_of_a_job_has_a_code(error: Exception, code: str):
    assert code_of(error) == code
