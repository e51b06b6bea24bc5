"""The API against its own description: every request gets an answer, and never a server error."""

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import hypothesis
import pytest
import schemathesis
import torch
import uvicorn
from hypothesis import HealthCheck, Phase
from schemathesis.generation.modes import GenerationMode

from appliance.accounts.audit import COMMAND_LINE
from appliance.accounts.principal import Role
from appliance.settings_file import load_settings
from appliance.store.data_dir import prepare_data_directory
from appliance.store.database import Database
from appliance.web.app import create_app
from appliance.web.services import open_services

# An endless stream, and requests that would end the session or change the password used by the test.
LEFT_OUT = {("GET", "/api/events"), ("POST", "/api/logout"), ("PATCH", "/api/me")}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    data = tmp_path_factory.mktemp("box") / "data"
    prepare_data_directory(data)
    settings = load_settings(data, tls=False, disk_reserve_gib=0.0, upload_limit_gib=0.001, login_attempts=1000)
    with Database(settings.database) as database:
        services = open_services(database, settings)
        user = services.users.add("Anna", "correct horse battery", Role.ADMINISTRATOR, actor=COMMAND_LINE)
        with database.transaction() as connection:
            new = services.sessions.open(connection, user.id, "test", old=None)
        app = create_app(services)
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield {
            "app": app,
            "services": services,
            "url": f"http://127.0.0.1:{listening.getsockname()[1]}",
            "headers": {"Cookie": f"relume_session={new.secret}", "X-CSRF-Token": new.principal.csrf},
        }
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(autouse=True)
def denormals() -> None:
    """Enable denormals in this thread again: ONNX Runtime disabled them in an earlier test; hypothesis needs them."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def operations(box: dict) -> list:
    schema = schemathesis.openapi.from_dict(box["app"].openapi())
    found = [result.ok() for result in schema.get_all_operations()]
    return [operation for operation in found if (operation.method.upper(), operation.path) not in LEFT_OUT]


def fuzz(box: dict, operations: list, *, examples: int) -> int:
    """Send valid and invalid requests; return their number."""
    sent = []
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @hypothesis.settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case) -> None:
                answer = case.call(base_url=box["url"], headers=box["headers"])
                sent.append(answer.status_code)
                case.validate_response(answer, checks=CHECKS)

            try:
                send()
            except hypothesis.errors.Unsatisfiable:
                continue  # there is no invalid request to send
    return len(sent)


@schemathesis.serializer("application/offset+octet-stream")
def send_bytes(_context, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


schemathesis.checks.load_all_checks()
CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]


def test_whatever_is_sent_is_answered_as_described_and_never_with_a_server_error(box, operations):
    assert len(operations) > 35

    assert fuzz(box, operations, examples=1) > 60

    assert box["services"].users.list()[0].role is Role.ADMINISTRATOR


@pytest.mark.slow
def test_a_great_deal_that_is_sent_never_ends_in_a_server_error(box, operations):
    assert fuzz(box, operations, examples=60) > 2000


def test_every_operation_is_described_in_words(box: dict):
    described = box["app"].openapi()

    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"], where
            assert operation["tags"], where
            assert "4XX" in operation["responses"], where
            assert "422" not in operation["responses"], where
    assert described["components"]["securitySchemes"].keys() == {"session", "token"}


def test_the_description_needs_a_login(box: dict):
    assert httpx.get(f"{box['url']}/openapi.json").status_code == 401
    assert httpx.get(f"{box['url']}/openapi.json", headers=box["headers"]).json()["info"]["title"] == "Relume"
