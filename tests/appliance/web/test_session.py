import pytest
from starlette.testclient import TestClient

from appliance.store.database import Database
from appliance.web.app import create_app
from appliance.web.services import open_services

from .conftest import Person

PASSWORD = "correct horse battery"


def set_up(services, person, **changes):
    token = services.login.new_setup_secret()
    return person.post("/api/setup", {"token": token, "name": "Anna", "password": PASSWORD, **changes})


def test_the_first_account_is_made_by_the_link_and_is_logged_in(services, nobody):
    assert nobody.get("/api/session").json()["setup_needed"] is True

    answer = set_up(services, nobody)

    body = answer.json()
    assert (answer.status_code, body["user"]["name"], body["user"]["role"]) == (200, "Anna", "administrator")
    assert body["setup_needed"] is False
    assert body["own_jobs_only"] is False
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie  # this server runs without TLS
    assert nobody.get("/api/session").json()["csrf"] == body["csrf"]  # the client keeps the cookie


def test_a_wrong_link_makes_no_account(services, nobody):
    answer = set_up(services, nobody, token="wrong")

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "setup_link")
    assert services.users.list() == []


def test_a_link_is_checked_before_anything_is_typed(services, nobody):
    secret = services.login.new_setup_secret()

    assert nobody.get("/api/setup", params={"token": secret}).status_code == 204
    wrong = nobody.get("/api/setup", params={"token": "wrong"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "setup_link")
    assert nobody.get("/api/setup", params={"token": secret}).status_code == 204, "looking at it does not use it"


def test_a_login_changes_the_cookie_and_a_logout_ends_it(services, nobody, client):
    set_up(services, nobody)
    fixed = client.cookies["relume_session"]

    answer = nobody.post("/api/login", {"name": "anna", "password": PASSWORD})

    assert answer.status_code == 200
    assert client.cookies["relume_session"] != fixed
    assert nobody.get("/api/jobs", headers={"Cookie": f"relume_session={fixed}"}).status_code == 401
    new = client.cookies["relume_session"]
    nobody.csrf = answer.json()["csrf"]
    assert nobody.post("/api/logout").status_code == 204
    assert "relume_session" not in client.cookies
    assert nobody.get("/api/jobs", headers={"Cookie": f"relume_session={new}"}).status_code == 401


def test_a_cookie_that_was_planted_is_never_taken_over(services, nobody, client):
    set_up(services, nobody)
    client.cookies.clear()

    answer = nobody.post(
        "/api/login", {"name": "anna", "password": PASSWORD}, headers={"Cookie": "relume_session=planted"}
    )

    assert "planted" not in answer.headers["set-cookie"]
    assert nobody.get("/api/jobs", headers={"Cookie": "relume_session=planted"}).status_code == 401


def test_guessing_is_stopped_whether_the_account_exists_or_not(services, nobody):
    set_up(services, nobody)
    said = {}
    for name in ("anna", "nobody"):
        answers = [nobody.post("/api/login", {"name": name, "password": f"guess {n}"}) for n in range(10)]
        assert [answer.status_code for answer in answers] == [401] * 8 + [429] * 2
        said[name] = [answer.json() for answer in answers]
        assert int(answers[-1].headers["retry-after"]) > 600

    assert said["anna"] == said["nobody"]
    assert "try again in 15 minutes" in said["anna"][-1]["error"]["message"]
    assert nobody.post("/api/login", {"name": "anna", "password": PASSWORD}).status_code == 429


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "anna"},
        {"name": "anna", "password": ""},
        {"name": "anna", "password": ["a"]},
        {"name": {"$ne": ""}, "password": "x"},
        {"name": "a" * 201, "password": "x"},
        {"name": "anna", "password": "x", "role": "administrator"},
        [],
        "anna",
    ],
)
def test_a_login_that_is_not_one_is_refused(nobody, body):
    answer = nobody.post("/api/login", body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


def test_a_login_by_a_form_of_another_site_is_refused(services, nobody):
    set_up(services, nobody)
    body = {"name": "anna", "password": PASSWORD}

    cross = nobody.post("/api/login", body, headers={"Origin": "http://evil.example"})
    as_form = nobody.request("POST", "/api/login", data=body)
    as_text = nobody.request(
        "POST", "/api/login", content=b'{"name":"anna","password":"x"}', headers={"Content-Type": "text/plain"}
    )

    assert (cross.status_code, cross.json()["error"]["code"]) == (403, "origin")
    assert as_form.status_code == 422
    assert as_text.status_code == 422


def test_one_changes_the_own_password(admin, nobody):
    wrong = admin.patch("/api/me", {"password": "wrong wrong", "new_password": "another good password"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "wrong_password")
    assert wrong.json()["error"]["field"] == "password"

    assert admin.patch("/api/me", {"password": PASSWORD, "new_password": "another good password"}).status_code == 204

    assert admin.get("/api/jobs").status_code == 200
    assert nobody.post("/api/login", {"name": "Anna", "password": "another good password"}).status_code == 200


def test_the_present_password_cannot_be_guessed_by_changing_it(admin):
    codes = [
        admin.patch("/api/me", {"password": f"guess {n}", "new_password": "another good password"}).status_code
        for n in range(9)
    ]

    assert codes == [422] * 8 + [429]


def test_health_returns_only_the_version(nobody):
    assert nobody.get("/health").json().keys() == {"status", "version"}


def test_a_user_sees_their_sessions_and_ends_the_others(admin, nobody, client):
    other = nobody.post("/api/login", {"name": "Anna", "password": PASSWORD}, headers={"User-Agent": "Phone/1"})
    assert other.status_code == 200
    client.cookies.clear()

    listed = admin.get("/api/me/sessions").json()

    assert [(entry["agent"], entry["current"]) for entry in listed] == [("Phone/1", False), ("", True)]
    assert admin.delete("/api/me/sessions", params={"session": "nobody's"}).status_code == 204
    assert len(admin.get("/api/me/sessions").json()) == 2
    assert admin.delete("/api/me/sessions").status_code == 204
    assert [entry["current"] for entry in admin.get("/api/me/sessions").json()] == [True]


def test_a_first_password_is_changed_before_anything_else(admin, nobody):
    admin.post("/api/users", {"name": "Ben", "password": "first password", "role": "operator", "must_change": True})
    answer = nobody.post("/api/login", {"name": "Ben", "password": "first password"})
    nobody.csrf = answer.json()["csrf"]
    assert answer.json()["user"]["must_change"] is True

    refused = nobody.get("/api/jobs")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "password_change_needed")
    again = nobody.patch("/api/me", {"password": "first password", "new_password": "first password"})
    assert (again.status_code, again.json()["error"]["field"]) == (422, "new_password")

    change = {"password": "first password", "new_password": "one of my own now"}
    assert nobody.patch("/api/me", change).status_code == 204

    assert nobody.get("/api/jobs").status_code == 200
    assert nobody.get("/api/session").json()["user"]["must_change"] is False


def test_an_expired_session_is_explained(admin, services):
    with services.database.transaction() as connection:
        connection.execute("UPDATE sessions SET last_seen_at = last_seen_at - 90000")

    error = admin.get("/api/jobs").json()["error"]

    assert error["code"] == "session_expired"
    assert error["message"] == "you were logged out after 24 hours without activity; log in again"


def test_language_and_notifications_are_each_users_own(admin, operator):
    change = {"language": "de", "email": "anna@studio.example", "email_events": ["done", "done", "failed"]}
    assert admin.patch("/api/me", change).status_code == 204

    user = admin.get("/api/session").json()["user"]
    assert (user["language"], user["email"]) == ("de", "anna@studio.example")
    assert user["email_events"] == ["done", "failed"]
    assert operator.get("/api/session").json()["user"]["language"] == ""
    bad = admin.patch("/api/me", {"email": "anna@studio.example\r\nBcc: all@studio.example"})
    assert (bad.status_code, bad.json()["error"]["field"]) == (422, "email")


def test_under_tls_no_other_service_of_this_host_can_set_a_cookie_next_to_the_session(settings):
    tls = settings.model_copy(update={"tls": True})
    with Database(settings.database) as database:
        services = open_services(database, tls)
        with TestClient(create_app(services), base_url="https://localhost") as client:
            nobody = Person(client)
            assert set_up(services, nobody).status_code == 200
            (name,) = client.cookies
            secret = client.cookies[name]
            client.cookies.clear()
            for cookie, status in (
                (f"{name}={secret}", 200),
                (f"{name}={secret}; relume_session=tossed", 200),
                (f"relume_session={secret}", 401),
            ):
                assert nobody.get("/api/jobs", headers={"Cookie": cookie}).status_code == status
    assert name == "__Host-relume_session"


@pytest.mark.parametrize(("own", "said"), [(False, None), (True, "max-age=31536000")])
def test_a_provided_certificate_enables_hsts(settings, tmp_path, own, said):
    given = (
        {"tls": True, "tls_certificate": tmp_path / "a.pem", "tls_key": tmp_path / "a.key"} if own else {"tls": True}
    )
    with Database(settings.database) as database:
        services = open_services(database, settings.model_copy(update=given))
        with TestClient(create_app(services), base_url="https://localhost") as client:
            assert client.get("/health").headers.get("strict-transport-security") == said
