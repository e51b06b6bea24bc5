import socket

import pytest

from appliance.web.security import MAX_BODY_BYTES


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8443", "127.0.0.1:80", "[::1]:8443", "192.168.1.7", "relume.local", "RELUME.LOCAL:1"],
)
def test_the_server_answers_to_its_names_and_to_addresses(nobody, host):
    assert nobody.get("/health", headers={"Host": host}).status_code == 200


def test_the_server_answers_to_its_host_name(nobody):
    assert nobody.get("/health", headers={"Host": socket.gethostname()}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "", "localhost@evil.example", "localhost/..", "a:b:c", "1.2.3.4.5"],
)
def test_a_name_that_was_pointed_here_by_someone_else_is_refused(nobody, host):
    answer = nobody.get("/health", headers={"Host": host})

    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host")


@pytest.mark.parametrize("path", ["/", "/health", "/api/jobs", "/page/none.js", "/nothing"])
def test_every_answer_has_the_security_headers(nobody, path):
    headers = nobody.get(path).headers

    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert headers.get("cache-control") == ("no-store" if path.startswith("/api") else headers.get("cache-control"))


def test_no_answer_opens_the_server_to_scripts_of_other_sites(admin):
    answer = admin.get("/api/jobs", headers={"Origin": "http://evil.example"})
    preflight = admin.request(
        "OPTIONS", "/api/jobs", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )

    assert not [name for name in (*answer.headers, *preflight.headers) if name.startswith("access-control")]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost.evil.example", "http://localhost:1"]
)
def test_a_change_that_comes_from_another_page_is_refused(admin, origin):
    answer = admin.post("/api/tokens", {"name": "x"}, headers={"Origin": origin})

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin")


def test_a_change_that_comes_from_the_own_page_is_taken(admin):
    assert admin.post("/api/tokens", {"name": "x"}, headers={"Origin": "http://localhost"}).status_code == 201


def test_a_large_body_is_refused_before_it_is_read(nobody):
    answer = nobody.post("/api/login", {"name": "a", "password": "x" * MAX_BODY_BYTES})

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_body_without_an_end_is_cut_off(nobody):
    sent = []

    def endless():
        for _ in range(10_000):
            sent.append(1)
            yield b" " * 8192

    answer = nobody.request("POST", "/api/login", content=endless(), headers={"Content-Type": "application/json"})

    assert answer.status_code == 413
    assert "larger than" in answer.json()["error"]["message"]


@pytest.mark.parametrize("length", ["-1", "x", "1e3"])
def test_a_length_that_is_none_is_refused(nobody, length):
    assert nobody.request("POST", "/api/login", headers={"Content-Length": length}).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/@x/../../app.py",
        "/page/@x/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/%2fetc/passwd",
        "/page//etc/passwd",
        "/page/%00",
    ],
)
def test_the_page_serves_nothing_outside_its_folder(nobody, path):
    answer = nobody.get(path)

    assert answer.status_code == 404
    assert "import" not in answer.text


@pytest.mark.parametrize("path", ["/nothing", "/api/nothing", "/api/jobs/x/y/z", "/docs", "/redoc"])
def test_missing_items_are_reported_like_every_error(nobody, path):
    answer = nobody.get(path)

    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"code", "message", "field"}
