"""The whole server as a process tree, started as a user starts it."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "correct horse battery"


class Box:
    """A running `relume serve`."""

    def __init__(self, process: subprocess.Popen[str], data: Path, scheme: str, port: int) -> None:
        self.process, self.data = process, data
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.said = ""

    def read_until(self, mark: str) -> str:
        assert self.process.stdout is not None
        while mark not in self.said:
            line = self.process.stdout.readline()
            assert line, f"the server ended: {self.said}{self.process.stderr.read() if self.process.stderr else ''}"
            self.said += line
        return self.said

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, verify=False)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        with self.client() as client:
            while time.monotonic() < deadline:
                try:
                    assert client.get("/health").json()["status"] == "ok"
                    return
                except httpx.TransportError:
                    time.sleep(0.02)
        raise AssertionError("the server did not become ready")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def start(data: Path, *options: str, tls: bool = False) -> Iterator[Box]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "appliance.cli",
        "serve",
        "--data",
        str(data),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [*command, "--tls" if tls else "--no-tls", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RELUME_PLAIN_PORT": "0"},
    )
    box = Box(process, data, "https" if tls else "http", port)
    try:
        yield box
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def test_from_the_first_start_to_a_result_and_a_graceful_end(tmp_path: Path, clip_bytes: bytes):
    with start(tmp_path / "data") as box:
        token = re.search(r"/setup\?token=([\w-]+)", box.read_until("token="))
        assert token is not None
        box.wait_ready()
        with box.client() as client:
            setup = {"token": token[1], "name": "Anna", "password": PASSWORD}
            client.headers["X-CSRF-Token"] = client.post("/api/setup", json=setup).json()["csrf"]
            tus = {"Upload-Length": str(len(clip_bytes)), "Upload-Metadata": "filename Y2xpcC5tcDQ="}
            place = client.post("/api/uploads", headers=tus).headers["location"]
            headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
            assert client.patch(place, content=clip_bytes, headers=headers).status_code == 204
            body = {"file": place.rpartition("/")[2], "preset": "sound-only"}
            job = client.post("/api/jobs", json=body).json()
            deadline = time.monotonic() + 120
            while job["state"] not in ("done", "failed") and time.monotonic() < deadline:
                time.sleep(0.1)
                job = client.get(f"/api/jobs/{job['id']}").json()
            assert job["state"] == "done", job["message"]
            result = client.get(f"/api/jobs/{job['id']}/result")
            assert result.headers["content-disposition"].startswith('attachment; filename="clip.relume.mp4"')
            assert result.content[4:8] == b"ftyp"
            workers = client.get("/api/system").json()["workers"]
            with client.stream("GET", "/api/events") as events:  # an open page does not delay the shutdown
                lines = events.iter_lines()  # kept: without it the connection would be closed
                next(lines)
                box.process.send_signal(signal.SIGTERM)
                assert box.process.wait(60) == 0

        for worker in workers:
            assert not psutil.pid_exists(worker["pid"]) or psutil.Process(worker["pid"]).status() == "zombie"
    log = (tmp_path / "data" / "logs" / "relume.log").read_text()
    assert "Traceback" not in log
    assert "graceful shutdown exceeded" not in log
    assert token[1] not in log
    assert PASSWORD not in log


def test_the_link_is_written_until_there_is_an_account_and_a_killed_server_leaves_nothing_behind(tmp_path: Path):
    data = tmp_path / "data"
    with start(data) as box:
        first = re.search(r"token=([\w-]+)", box.read_until("token="))
        box.wait_ready()
        box.process.send_signal(signal.SIGINT)
        assert box.process.wait(60) == 0
    with start(data) as box:
        second = re.search(r"token=([\w-]+)", box.read_until("token="))
        box.wait_ready()
        assert first is not None
        assert second is not None
        with box.client() as client:
            body = {"token": first[1], "name": "Anna", "password": PASSWORD}
            assert client.post("/api/setup", json=body).status_code == 401
            assert client.post("/api/setup", json={**body, "token": second[1]}).status_code == 200
        deadline = time.monotonic() + 60
        while not (children := psutil.Process(box.process.pid).children(recursive=True)):
            assert time.monotonic() < deadline, "the server has started no worker"
            time.sleep(0.05)
        box.process.kill()
        box.process.wait(60)
        _, alive = psutil.wait_procs(children, timeout=30)
        assert alive == []
    with start(data) as box:
        box.wait_ready()
        box.process.send_signal(signal.SIGTERM)
        out, _ = box.process.communicate(timeout=60)
        assert "Relume is running at" in out
        assert "token=" not in out
        assert box.process.returncode == 0


def test_under_tls_the_cookie_is_secure_and_the_certificate_is_the_servers_own(tmp_path: Path):
    with start(tmp_path / "data", tls=True) as box:
        said = box.read_until("token=")
        token = re.search(r"token=([\w-]+)", said)
        box.wait_ready()
        with httpx.Client(
            base_url=box.url, timeout=60, verify=ssl.create_default_context(cafile=tmp_path / "data/secrets/box.crt")
        ) as client:
            assert token is not None
            answer = client.post("/api/setup", json={"token": token[1], "name": "Anna", "password": PASSWORD})
        assert answer.status_code == 200
        assert "Secure" in answer.headers["set-cookie"]
        assert answer.headers["set-cookie"].startswith("__Host-relume_session=")
        assert "strict-transport-security" not in answer.headers
        assert "SHA-256 fingerprint" in said
        box.process.send_signal(signal.SIGTERM)
        assert box.process.wait(60) == 0


def test_a_second_server_on_the_same_data_is_refused_with_a_message(tmp_path: Path):
    with start(tmp_path / "data") as box:
        box.wait_ready()
        with start(tmp_path / "data") as second:
            _, said = second.process.communicate(timeout=60)

        assert second.process.returncode != 0
        assert "is in use by another Relume server" in said
        assert "Traceback" not in said
        box.wait_ready()


def test_a_port_that_is_taken_is_reported(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path / "data", "--port", str(port)) as box:
            _, said = box.process.communicate(timeout=60)

    assert box.process.returncode != 0
    assert f"cannot listen on port {port}: it is already in use" in said
    assert "Traceback" not in said


def test_wrong_settings_end_the_start_with_one_line(tmp_path: Path):
    (tmp_path / "relume.toml").write_text("upload_days = 0\n")
    with start(tmp_path) as box:
        _, said = box.process.communicate(timeout=60)

    assert box.process.returncode != 0
    assert said.strip().splitlines() == ["relume: setting upload_days: Keep uploads (days) must be between 1 and 365"]


@pytest.mark.slow
def test_the_idle_server_is_ready_soon_and_takes_little(tmp_path: Path):
    begun = time.monotonic()
    with start(tmp_path / "data") as box:
        box.wait_ready()
        ready_s = time.monotonic() - begun
        time.sleep(3)
        server = psutil.Process(box.process.pid)
        before = server.cpu_times()
        time.sleep(20)
        after = server.cpu_times()
        share = (after.user + after.system - before.user - before.system) / 20
        print(json.dumps({"ready_s": ready_s, "cpu_share": share, "rss": server.memory_info().rss}))

        assert share < 0.01
        assert server.memory_info().rss < 200e6
        assert ready_s < 10  # 2 s on an otherwise idle machine


def test_settings_that_fail_at_the_start_give_way_to_the_last_that_worked(tmp_path: Path):
    data = tmp_path / "data"
    with start(data) as box:
        box.wait_ready()
        box.process.send_signal(signal.SIGTERM)
        box.process.wait(60)
    good = (data / "relume.last-good.toml").read_text()
    (data / "relume.toml").write_text('prt = 80\ntls_certificate = "/nix/a.pem"\ntls_key = "/nix/a.key"\n')

    with start(data) as box:
        token = re.search(r"/setup\?token=([\w-]+)", box.read_until("token="))
        assert token is not None
        assert "Note: the saved settings cannot be used" in box.said
        assert "there is no setting named “prt”; did you mean port?" in box.said
        box.wait_ready()
        with box.client() as client:
            setup = {"token": token[1], "name": "Anna", "password": PASSWORD}
            client.headers["X-CSRF-Token"] = client.post("/api/setup", json=setup).json()["csrf"]
            assert client.get("/api/system").json()["settings_fallback"] is True
            assert "prt" in client.get("/api/settings").json()["problem"]
            assert client.patch("/api/settings", json={"upload_days": 3}).status_code == 200
        assert (data / "relume.last-good.toml").read_text() == good
    assert "prt" not in (data / "relume.toml").read_text()
    assert "\nupload_days = 3\n" in (data / "relume.toml").read_text()
