import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from appliance.accounts.principal import Actor, Role
from appliance.accounts.users import User
from appliance.jobs.job import JobRecord, NewJob, Origin
from appliance.settings import Settings
from appliance.settings_file import load_settings
from appliance.store.data_dir import prepare_data_directory
from appliance.store.database import Database
from appliance.web.app import create_app
from appliance.web.services import Services, open_services
from runtime.options import EnhanceOptions

PASSWORD = "correct horse battery"
BOSS = Actor(None, "test")
TUS = {"Tus-Resumable": "1.0.0"}
Answer = Any


@dataclass
class Person:
    """Someone at a browser, or with an API token."""

    client: Any
    user: User | None = None
    secret: str = ""
    csrf: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, url: str, **options: Any) -> Answer:
        headers = {"X-CSRF-Token": self.csrf} if self.csrf else {}
        headers |= {"Cookie": f"relume_session={self.secret}"} if self.secret else {}
        headers |= self.headers | options.pop("headers", {})
        return self.client.request(method, url, headers=headers, **options)

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def post(self, url: str, json: Any = None, **options: Any) -> Answer:
        return self.request("POST", url, **({} if json is None else {"json": json}), **options)

    def patch(self, url: str, json: Any = None, **options: Any) -> Answer:
        return self.request("PATCH", url, **({} if json is None else {"json": json}), **options)

    def delete(self, url: str, **options: Any) -> Answer:
        return self.request("DELETE", url, **options)

    def begin_upload(self, name: str, size: int, **options: Any) -> Answer:
        metadata = f"filename {base64.b64encode(name.encode()).decode()}"
        headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
        return self.post("/api/uploads", headers=headers, **options)

    def send(self, place: str, offset: int, content: Any) -> Answer:
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return self.patch(place, content=content, headers=headers)

    def upload(self, name: str, content: bytes) -> str:
        place = self.begin_upload(name, len(content)).headers["location"]
        answer = self.send(place, 0, content)
        assert answer.status_code == 204, answer.text
        return place.rpartition("/")[2]

    def checked(self, upload_id: str) -> dict[str, Any]:
        """Wait until a file has been checked."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            files = {file["id"]: file for file in self.get("/api/files").json()}
            if files[upload_id]["probe"] or files[upload_id]["error"]:
                return files[upload_id]
            time.sleep(0.02)
        raise AssertionError("the file was not looked into")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    prepare_data_directory(tmp_path / "data")
    return load_settings(
        tmp_path / "data", tls=False, disk_reserve_gib=0.0, upload_limit_gib=0.01, zoo=tmp_path / "zoo"
    )


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    with Database(settings.database) as database:
        yield open_services(database, settings)


@pytest.fixture
def app(services: Services) -> FastAPI:
    return create_app(services)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def log_in(services: Services, request: pytest.FixtureRequest) -> Callable[..., Person]:
    """Create an account with a role and log it in, without using the app."""

    def make(role: Role, name: str = "", *, client: Any = None) -> Person:

        user = services.users.add(name or f"Test {role}", PASSWORD, role, actor=BOSS)
        with services.database.transaction() as connection:
            new = services.sessions.open(connection, user.id, "test", old=None)
        used = client if client is not None else request.getfixturevalue("client")
        return Person(used, user, new.secret, new.principal.csrf)

    return make


@pytest.fixture
def admin(log_in: Callable[..., Person]) -> Person:
    return log_in(Role.ADMINISTRATOR, "Anna")


@pytest.fixture
def operator(log_in: Callable[..., Person]) -> Person:
    return log_in(Role.OPERATOR, "Olga")


@pytest.fixture
def viewer(log_in: Callable[..., Person]) -> Person:
    return log_in(Role.VIEWER, "Vera")


@pytest.fixture
def nobody(client: TestClient) -> Person:
    return Person(client)


@pytest.fixture
def stored(services: Services) -> Callable[[str], Path]:
    """Return the path of an upload's file, by its id or address."""

    def find(place: str) -> Path:
        upload_id = place.rpartition("/")[2]
        with services.database.read() as connection:
            (owner,) = connection.execute("SELECT owner FROM uploads WHERE id = ?", (upload_id,)).fetchone()
        return services.uploads.path(services.uploads.get(upload_id, owner))

    return find


@pytest.fixture
def add_job(services: Services, tmp_path: Path) -> Callable[..., JobRecord]:
    """Queue a job without an upload."""

    def add(owner: User | None = None, title: str = "clip.mp4") -> JobRecord:
        origin = Origin.COMMAND if owner is None else Origin.UPLOAD
        new = NewJob(tmp_path / "clip.mp4", title, EnhanceOptions(), owner=owner and owner.id, origin=origin)
        return services.queue.add(new)

    return add


@pytest.fixture
def live(app: FastAPI) -> Iterator[str]:
    """Serve the app from a thread on a free port, and give its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture
def live_client(live: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live, timeout=60) as client:
        yield client
