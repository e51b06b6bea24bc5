"""A real box (the server's own process tree) and a real browser in front of it."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCREENSHOTS = ROOT / "out" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
PASSWORD = "three green lamps"
DEADLINE_S = 60.0
MARKUP = "<img src=x onerror=alert(1)>"


class Api:
    """The box's API for one user, as another program would use it."""

    def __init__(self, url: str) -> None:
        self.url, self._csrf = url, ""
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        raw = isinstance(body, bytes)
        data = body if raw or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        for name, value in {"X-CSRF-Token": self._csrf, **(headers or {})}.items():
            request.add_header(name, value)
        if data is not None and not raw:
            request.add_header("Content-Type", "application/json")
        with self._opener.open(request, timeout=30) as response:
            text = response.read()
            self.location = response.headers.get("Location")
        return json.loads(text) if text else None

    def enter(self, path: str, **fields: str) -> "Api":
        self._csrf = self.send("POST", path, fields)["csrf"]
        return self

    def upload(self, file: Path, name: str | None = None) -> str:
        content, tus = file.read_bytes(), {"Tus-Resumable": "1.0.0"}
        shown = base64.b64encode((name or file.name).encode()).decode()
        self.send(
            "POST",
            "/api/uploads",
            b"",
            {**tus, "Upload-Length": str(len(content)), "Upload-Metadata": f"filename {shown}"},
        )
        place = self.location
        kind = "application/offset+octet-stream"
        self.send("PATCH", place, content, {**tus, "Upload-Offset": "0", "Content-Type": kind})
        return place.rsplit("/", 1)[-1]

    def finish(self, job_id: str) -> dict[str, Any]:
        return poll(lambda: (job := self.send("GET", f"/api/jobs/{job_id}"))["state"] in ("done", "failed") and job)


@pytest.fixture(name="poll", scope="session")
def give_poll() -> Callable[..., Any]:
    return poll


def poll(look: Callable[[], Any], *, deadline_s: float = DEADLINE_S) -> Any:
    """Look until there is something; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < end, "nothing came before the deadline"
        time.sleep(0.05)
    return found


@dataclass
class Box:
    """A server on a data directory; it can be stopped and started again on the same port."""

    data: Path
    port: int
    process: subprocess.Popen[str] | None = None
    setup_link: str = ""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> "Box":
        log = (self.data / "server.out").open("w+")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "appliance.cli", "serve", "--data", str(self.data), "--host", "127.0.0.1"),
                *("--port", str(self.port), "--no-tls"),
            ],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "RELUME_ANNOUNCE": "false"},
        )
        log.close()
        poll(self._answers)
        found = re.search(r"/setup\?token=(\S+)", (self.data / "server.out").read_text())
        self.setup_link = f"{self.url}/setup?token={found[1]}" if found else ""
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=30) is not None
            self.process = None

    def set_up(self) -> Api:
        return Api(self.url).enter(
            "/api/setup", token=self.setup_link.partition("token=")[2], name="Maria", password=PASSWORD
        )

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.data / "server.out").read_text()
        try:
            return Api(self.url).send("GET", "/health")["status"] == "ok"
        except urllib.error.URLError:
            return False


@pytest.fixture(scope="session")
def open_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Box]]:
    """Yield the function that starts a new box; all are stopped at the end."""
    boxes: list[Box] = []

    def start() -> Box:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        boxes.append(Box(tmp_path_factory.mktemp("box"), port))
        return boxes[-1].start()

    yield start
    for box in boxes:
        box.stop()


@dataclass(frozen=True)
class Furnished:
    """A box in use: three accounts, and a job of each kind that ends without help."""

    box: Box
    maria: Api
    job: dict[str, Any]
    sound: dict[str, Any]

    @property
    def url(self) -> str:
        return self.box.url


@pytest.fixture(scope="session")
def clip_file(write_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("media") / "Café at noon.mp4", frames=25, size=(96, 64))


@pytest.fixture(scope="session")
def furnished(open_box: Callable[[], Box], clip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Furnished:
    box = open_box()
    maria = box.set_up()
    for name, role in (("Ben", "operator"), ("Guard", "viewer"), (MARKUP, "viewer")):
        maria.send("POST", "/api/users", {"name": name, "role": role, "password": PASSWORD})
    places = [tmp_path_factory.mktemp(name) for name in ("recordings", "better")]
    maria.send(
        "POST", "/api/folders", {"path": str(places[0]), "destination": str(places[1]), "preset": "surveillance"}
    )
    maria.send("POST", "/api/webhooks", {"url": "http://127.0.0.1:9/told", "events": ["job.failed"]})
    maria.send("POST", "/api/tokens", {"name": "Recorder"})
    jobs = [
        maria.send("POST", "/api/jobs", {"file": maria.upload(clip_file), **wishes})
        for wishes in ({"preset": "upscale", "scale": 2}, {"preset": "sound-only"})
    ]
    done = [maria.finish(job["id"]) for job in jobs]
    assert [job["state"] for job in done] == ["done", "done"], [job["message"] for job in done]
    return Furnished(box, maria, *done)


@dataclass
class Faults:
    """What a page must not do; `allowed` are patterns of what a test brings about itself."""

    url: str
    allowed: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on("console", lambda message: message.type in ("error", "warning") and self.found.append(message.text))
        page.on("pageerror", lambda error: self.found.append(f"exception: {error}"))
        page.on(
            "request", lambda request: request.url.startswith(self.url) or self.found.append(f"request: {request.url}")
        )

    def left(self) -> list[str]:
        return [fault for fault in self.found if not any(re.search(pattern, fault) for pattern in self.allowed)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # For one module and not the session: while it runs, no other test of this thread could use asyncio.
    sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Yield the function that opens a page in a new browser profile; each is checked for faults at the end.

    A page has its `Faults` as `page.faults`. No console errors, no broken content policy, no requests elsewhere.
    """
    opened: list[tuple[Any, Faults]] = []

    def open_one(url: str, *, width: int = 1280, height: int = 800, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.faults = Faults(re.match(r"https?://[^/]+", url)[0])
        page.faults.watch(page)
        keep_choosers(page)
        opened.append((page, page.faults))
        page.goto(url)
        return page

    yield open_one
    for page, faults in opened:
        page.context.close()
        assert faults.left() == []


def keep_choosers(page: Any) -> None:
    """Keep the file dialogs that a page opens: told only right before the click, Playwright may be too late."""
    page.choosers = []

    def keep(chooser: Any) -> None:
        page.choosers.append(chooser)

    page.on("filechooser", keep)


@pytest.fixture
def log_in(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that opens a page and logs in."""

    def enter(url: str, name: str = "Maria", **options: Any) -> Any:
        page = open_page(url + "/", **options)
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Queue", exact=True).wait_for()
        return page

    return enter


@pytest.fixture(scope="session")
def look() -> Callable[..., list[str]]:
    """Return the function that keeps a screenshot of a page and names what is wrong with how it is made.

    That are accessibility faults that axe (MPL-2.0, used here alone) calls serious or critical, and what is wider
    than the window.
    """
    axe_core = pytest.importorskip("axe_core_python", reason="the axe-core-python package is not installed")
    axe = (Path(axe_core.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def look_at(page: Any, name: str, *, check: bool = True, whole: bool = False) -> list[str]:
        # One frame later, when colours that were just changed are painted.
        page.evaluate("scrollTo(0, 0); new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)
        faults = [f"{name}: {fault}" for fault in (find_faults(page, axe) if check else [])]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            faults.append(f"{name}: wider than the window")
        return faults

    return look_at


def find_faults(page: Any, axe: str) -> list[str]:
    page.evaluate(f"() => {{ if (!window.axe) {{ {axe} }} }}")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations)")
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
