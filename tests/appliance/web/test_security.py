"""Every route of the app against every role, so that a new route cannot forget to name one."""

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Mount

from appliance.accounts.principal import Role
from appliance.web.security import Public, RequireRole

OPEN = {
    ("GET", "/health"),
    ("GET", "/api/session"),
    ("GET", "/api/setup"),
    ("POST", "/api/setup"),
    ("POST", "/api/login"),
    ("GET", "/"),
    ("GET", "/setup"),
}
OPERATOR = {
    ("OPTIONS", "/api/uploads"),
    ("POST", "/api/uploads"),
    ("HEAD", "/api/uploads/{upload_id}"),
    ("PATCH", "/api/uploads/{upload_id}"),
    ("DELETE", "/api/uploads/{upload_id}"),
    ("GET", "/api/files"),
    ("POST", "/api/estimates"),
    ("POST", "/api/jobs"),
    ("PATCH", "/api/jobs/{job_id}"),
    ("DELETE", "/api/jobs/{job_id}"),
    ("POST", "/api/jobs/{job_id}/{action}"),
    ("GET", "/api/files/{upload_id}/thumbnail"),
    ("GET", "/api/files/{upload_id}/advice"),
    ("GET", "/api/own-presets"),
    ("POST", "/api/own-presets"),
    ("GET", "/api/own-presets/export"),
    ("POST", "/api/own-presets/import"),
    ("PATCH", "/api/own-presets/{preset_id}"),
    ("DELETE", "/api/own-presets/{preset_id}"),
}
ADMINISTRATOR = (
    "/api/users",
    "/api/folders",
    "/api/settings",
    "/api/audit",
    "/api/webhooks",
    "/api/engines/",
    "/api/queue/",
)


def walk(routes: list) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif isinstance(route, Mount):
            assert route.path == "/page", f"{route.path} is mounted outside of the rules"
        else:
            yield from walk(route.original_router.routes)


def needs_of(dependant: Dependant) -> list[RequireRole | Public]:
    own = [dependant.call] if isinstance(dependant.call, RequireRole | Public) else []
    return own + [found for part in dependant.dependencies for found in needs_of(part)]


def table(app: FastAPI) -> list[tuple[str, str, list[RequireRole | Public]]]:
    return [
        (method, route.path, needs_of(route.dependant))
        for route in walk(app.routes)
        for method in sorted(route.methods)
    ]


def expected(method: str, path: str) -> Role | None:
    if (method, path) in OPEN:
        return None
    if path.startswith(ADMINISTRATOR):
        return Role.ADMINISTRATOR
    return Role.OPERATOR if (method, path) in OPERATOR else Role.VIEWER


def test_every_route_names_exactly_one_role_and_the_one_that_it_should(app: FastAPI):
    rows = table(app)

    assert len(rows) > 40
    for method, path, needs in rows:
        assert len(needs) == 1, f"{method} {path} names {len(needs)} roles"
        role = None if isinstance(needs[0], Public) else needs[0].role
        assert role == expected(method, path), f"{method} {path}"


def test_every_route_is_closed_to_everyone_below_its_role(app, nobody, viewer, operator, services):
    people = [(nobody, None), (viewer, Role.VIEWER), (operator, Role.OPERATOR)]
    before = (services.users.list(), services.queue.revision(), services.webhooks.list())

    for method, path, needs in table(app):
        if isinstance(needs[0], Public):
            continue
        address = re.sub(
            r"\{[a-z_]+\}", "AAAAAAAAAAAAAAAA", path.replace("{action}", "pause").replace("{part}", "after")
        )
        for person, role in people:
            if role is not None and role.includes(needs[0].role):
                continue
            answer = person.request(method, address)
            wanted = 401 if role is None else 403
            assert answer.status_code == wanted, f"{method} {address} as {role}: {answer.status_code}"
            if method != "HEAD":
                assert answer.json()["error"]["code"] == ("login_needed" if role is None else "role")

    assert (services.users.list(), services.queue.revision(), services.webhooks.list()) == before


def test_every_change_with_a_cookie_needs_the_csrf_token_of_this_session(app, admin, operator):
    stolen = operator.csrf

    for method, path, needs in table(app):
        if isinstance(needs[0], Public) or method in ("GET", "HEAD", "OPTIONS"):
            continue
        address = re.sub(r"\{[a-z_]+\}", "AAAAAAAAAAAAAAAA", path.replace("{action}", "pause"))
        for token in ("", "wrong", stolen, "ü"):
            answer = admin.request(method, address, headers={"X-CSRF-Token": token.encode("latin-1")})
            assert answer.status_code == 403, f"{method} {address}"
            assert answer.json()["error"]["code"] == "csrf"


def test_an_api_token_acts_within_its_role_without_csrf_but_not_on_tokens_and_passwords(admin, client):
    secret = admin.post("/api/tokens", {"name": "script", "role": "operator"}).json()["secret"]
    program = type(admin)(client, headers={"Authorization": f"Bearer {secret}"})

    assert program.get("/api/jobs").status_code == 200
    assert program.begin_upload("a.mp4", 5).status_code == 201
    assert program.get("/api/users").status_code == 403
    for answer in (
        program.get("/api/tokens"),
        program.post("/api/tokens", {"name": "more"}),
        program.patch("/api/me", {"password": "x", "new_password": "y"}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "in_person")


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer relume_x", "Basic QTpC", "Bearer relume_" + "a" * 43, "\x7f"]
)
def test_a_forged_token_is_refused_even_with_a_valid_cookie(admin, header):
    answer = admin.get("/api/jobs", headers={"Authorization": header})

    assert answer.status_code == 401


@pytest.mark.parametrize("cookie", ["", "relume_session=", "relume_session=x", "relume_session=" + "a" * 5000])
def test_a_forged_cookie_is_nobody(nobody, cookie):
    assert nobody.get("/api/jobs", headers={"Cookie": cookie}).status_code == 401


def test_a_revoked_role_takes_effect_at_once(admin, operator):
    assert operator.get("/api/files").status_code == 200

    admin.patch(f"/api/users/{operator.user.id}", {"role": "viewer"})

    assert operator.get("/api/files").status_code == 403


def test_what_an_administrator_changes_needs_a_person_and_no_token(app, admin, operator, client, services):
    secret = admin.post("/api/tokens", {"name": "script", "role": "administrator"}).json()["secret"]
    program = type(admin)(client, headers={"Authorization": f"Bearer {secret}"})
    before = (services.users.list(), services.webhooks.list(), services.folders.list())

    for method, path, needs in table(app):
        if isinstance(needs[0], Public) or needs[0].role is not Role.ADMINISTRATOR:
            continue
        answer = program.request(method, re.sub(r"\{[a-z_]+\}", operator.user.id, path))
        if method in ("GET", "HEAD"):
            assert answer.status_code != 403, path
        else:
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "in_person"), f"{method} {path}"
    assert (services.users.list(), services.webhooks.list(), services.folders.list()) == before


def test_ones_own_password_is_changed_with_the_current_one_alone(admin, operator):
    answer = admin.patch(f"/api/users/{admin.user.id}", {"password": "another horse battery"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "own_password")
    assert admin.patch(f"/api/users/{operator.user.id}", {"password": "another horse battery"}).status_code == 200
