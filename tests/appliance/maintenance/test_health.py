import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.maintenance.health import ask
from appliance.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


class Answers(http.server.BaseHTTPRequestHandler):
    """Sends the server's `answer` to every request."""

    def do_GET(self) -> None:
        status, body = self.server.answer
        self.send_response(status if self.path == "/health" else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.answer = (200, b'{"status": "ok", "version": "1.2.3"}')
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings(server, tmp_path, **changes) -> Settings:
    return Settings(data=tmp_path, port=server.server_address[1], tls=False, **changes)


def test_a_healthy_server_returns_its_version(server, tmp_path):
    assert ask(settings(server, tmp_path)) == "1.2.3"


@pytest.mark.parametrize(
    "answer", [(503, b"{}"), (200, b'{"status": "ill"}'), (200, b"<html>"), (200, b"[]"), (200, b"")]
)
def test_any_other_answer_is_an_error(server, tmp_path, answer):
    server.answer = answer
    with pytest.raises(OSError, match="server"):
        ask(settings(server, tmp_path))


def test_the_module_reports_by_its_exit_code(server, tmp_path):
    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "appliance.maintenance.health"],
            env={"PYTHONPATH": str(ROOT), "RELUME_DATA": str(tmp_path), "RELUME_TLS": "false", **variables},
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )

    good = run(RELUME_PORT=str(server.server_address[1]))
    assert (good.returncode, good.stdout) == (0, "healthy, Relume 1.2.3\n")
    bad = run(RELUME_PORT="1")
    assert bad.returncode == 1
    assert "unhealthy: " in bad.stderr
