"""A real server with its workers, and a real browser.

Starting a server, running a job and loading the page in a new browser profile each take seconds, so tests share them:
`furnished` is a server in use, `asleep` one whose jobs wait, and a browser profile is kept for each user.
"""

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
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from runtime.manifest import zoo_folder

ROOT = Path(__file__).resolve().parents[3]
SCREENSHOTS = ROOT / "out" / "screenshots" if os.environ.get("RELUME_SCREENSHOTS") else None
"""Where `look` keeps screenshots; nowhere by default, since each takes half a second."""
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
    """The server's API for one user, as another program would use it."""

    def __init__(self, url: str) -> None:
        self.url, self._csrf = url, ""
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
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
        """Wait until a job is done or has failed."""

        def ended() -> Any:
            job = self.send("GET", f"/api/jobs/{job_id}")
            return job["state"] in ("done", "failed") and job

        # Each request slows the job down.
        return poll(ended, every_s=0.2)

    def end_jobs(self) -> list[dict[str, Any]]:
        """Cancel all jobs that have not ended, and return all."""
        for job in self.send("GET", "/api/jobs?state=queued,running,paused&limit=200")["jobs"]:
            with suppress(urllib.error.HTTPError):  # it may have ended by now
                self.send("POST", f"/api/jobs/{job['id']}/cancel")
            while self.send("GET", f"/api/jobs/{job['id']}")["state"] not in ("done", "failed", "cancelled"):
                time.sleep(0.05)
        jobs: list[dict[str, Any]] = self.send("GET", "/api/jobs?limit=200")["jobs"]
        return jobs


@pytest.fixture(name="poll", scope="session")
def poll_fixture() -> Callable[..., Any]:
    return poll


def poll(look: Callable[[], Any], *, deadline_s: float = DEADLINE_S, every_s: float = 0.05) -> Any:
    """Repeat a check until it returns something true; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not (found := look()):
        assert time.monotonic() < end, "nothing came before the deadline"
        time.sleep(every_s)
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


@pytest.fixture(scope="package")
def open_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Box]]:
    """Yield a function that starts a new server, with these lines of settings; all are stopped at the end."""
    boxes: list[Box] = []

    def start(settings: str = "") -> Box:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        boxes.append(Box(tmp_path_factory.mktemp("box"), port))
        # On a busy machine the process that checks an upload may take longer than a person would wait.
        (boxes[-1].data / "relume.toml").write_text("probe_timeout_s = 120\n" + settings)
        return boxes[-1].start()

    yield start
    for box in boxes:
        box.stop()


@dataclass(frozen=True)
class Furnished:
    """A server in use: accounts, a watch folder, an imported model, and a job of each kind that ends without help."""

    box: Box
    maria: Api
    ben: Api
    job: dict[str, Any]
    sound: dict[str, Any]

    @property
    def url(self) -> str:
        return self.box.url


@pytest.fixture(scope="package")
def clip_file(write_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("media") / "Café at noon.mp4", frames=25, size=(96, 64))


@pytest.fixture(scope="package")
def furnished(open_box: Callable[..., Box], clip_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Furnished:
    zoo = tmp_path_factory.mktemp("zoo")
    shutil.copytree(zoo_folder() / "light-x2", zoo / "archive-x2")
    box = open_box(f"zoo = {json.dumps(str(zoo))}\n")
    maria = box.set_up()
    jobs = [
        maria.send("POST", "/api/jobs", {"file": maria.upload(clip_file), **options})
        for options in ({"preset": "upscale", "scale": 2}, {"preset": "sound-only"})
    ]
    for name, role in (("Ben", "operator"), ("Guard", "viewer"), (MARKUP, "viewer")):
        maria.send("POST", "/api/users", {"name": name, "role": role, "password": PASSWORD})
    places = [tmp_path_factory.mktemp(name) for name in ("recordings", "better")]
    maria.send(
        "POST", "/api/folders", {"path": str(places[0]), "destination": str(places[1]), "preset": "surveillance"}
    )
    maria.send("POST", "/api/webhooks", {"url": "http://127.0.0.1:9/hook", "events": ["job.failed"]})
    maria.send("POST", "/api/tokens", {"name": "Recorder"})
    done = [maria.finish(job["id"]) for job in jobs]
    assert [job["state"] for job in done] == ["done", "done"], [job["message"] for job in done]
    ben = Api(box.url).enter("/api/login", name="Ben", password=PASSWORD)
    return Furnished(box, maria, ben, *done)


@dataclass
class Asleep:
    """A server whose worker is stopped, so that jobs wait until `wake`."""

    box: Box
    maria: Api
    clip: Path
    worker: int = 0

    @property
    def url(self) -> str:
        return self.box.url

    def sleep(self) -> None:
        """End all jobs, then stop the worker."""
        self.maria.send("POST", "/api/queue/pause")
        self.maria.end_jobs()
        for file in self.maria.send("GET", "/api/files"):
            self.maria.send("DELETE", f"/api/uploads/{file['id']}")
        self.worker = poll(lambda: self.maria.send("GET", "/api/system")["workers"][0]["pid"])
        os.kill(self.worker, signal.SIGSTOP)
        self.maria.send("POST", "/api/queue/resume")

    def wake(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.worker, signal.SIGCONT)

    def queue(self, preset: str, *names: str) -> list[dict[str, Any]]:
        """Queue jobs of these names, and no others.

        One that an earlier test cancelled is retried: each upload is checked by a process, which takes a second.
        """
        known = {}
        for job in self.maria.end_jobs():
            if job["title"] in names and job["state"] == "cancelled" and job["options"]["preset"] == preset:
                known[job["title"]] = job
            else:
                self.maria.send("DELETE", f"/api/jobs/{job['id']}")
        for name in names:
            if name in known:
                self.maria.send("PATCH", f"/api/jobs/{known[name]['id']}", {"priority": 0})
                self.maria.send("POST", f"/api/jobs/{known[name]['id']}/retry")
            else:
                self.maria.send("POST", "/api/jobs", {"file": self.maria.upload(self.clip, name), "preset": preset})
        jobs = {job["title"]: job for job in self.maria.send("GET", "/api/jobs")["jobs"]}
        return [jobs[name] for name in names]


@pytest.fixture(scope="package")
def asleep_box(open_box: Callable[..., Box], clip_file: Path) -> Asleep:
    box = open_box()
    return Asleep(box, box.set_up(), clip_file)


@pytest.fixture
def asleep(asleep_box: Asleep) -> Iterator[Asleep]:
    """Yield the server whose worker is stopped, without queued jobs."""
    asleep_box.sleep()
    yield asleep_box
    asleep_box.wake()


@dataclass
class Faults:
    """What a page must not do; `allowed` are patterns of faults that a test causes on purpose."""

    url: str
    allowed: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def left(self) -> list[str]:
        return [fault for fault in self.found if not any(re.search(pattern, fault) for pattern in self.allowed)]


def watch(page: Any) -> None:
    """Record the faults of a page in its `faults`, and keep its file dialogs in `choosers`.

    If Playwright is asked to expect a file dialog only just before the click, it may be too late.
    """

    def note(is_fault: bool, text: str) -> None:
        if is_fault:
            page.faults.found.append(text)

    def describe(message: Any) -> str:
        return f"{message.text} {message.location.get('url', '')}"

    def keep(chooser: Any) -> None:
        page.choosers.append(chooser)

    page.on("console", lambda message: note(message.type in ("error", "warning"), describe(message)))
    page.on("pageerror", lambda error: note(True, f"exception: {error}"))
    page.on("request", lambda request: note(not request.url.startswith(page.faults.url), f"request: {request.url}"))
    page.on("filechooser", keep)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    # For this folder rather than the session: while it runs, no other test of this thread could use asyncio.
    sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Profiles:
    """Browser profiles, one for each user of each server, and their pages.

    A page that is used again starts four times as fast as a new one: it has a process, the files and a login.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._profiles: dict[tuple[Any, ...], Any] = {}
        self._idle: dict[Any, list[Any]] = {}
        self._users: dict[tuple[str, str], Api] = {}

    def take(self, url: str, name: str | None, *, fresh: bool = False, **options: Any) -> Any:
        """Return a page of a user, or of nobody, without remains of other tests."""
        key = (url, name, *sorted(options.items()))
        profile = None if fresh else self._profiles.get(key)
        if profile is None:
            profile = self._browser.new_context(**options)
            profile.set_default_timeout(40_000)
            if not fresh:
                self._profiles[key] = profile
        idle = self._idle.setdefault(profile, [])
        page = idle.pop() if idle else profile.new_page()
        if not hasattr(page, "faults"):
            watch(page)
        # The page between the tests names no icon, so the browser requests the default one.
        page.faults, page.choosers = Faults(url, ["/favicon.ico"]), []
        session = profile.new_cdp_session(page)
        session.send("Storage.clearDataForOrigin", {"origin": url, "storageTypes": "local_storage"})
        session.detach()
        wanted = {} if name is None else self._cookies(url, name)
        if {cookie["name"]: cookie["value"] for cookie in profile.cookies()} != wanted:
            profile.clear_cookies()
            profile.add_cookies([{"name": key, "value": value, "url": url} for key, value in wanted.items()])
        return page

    def give_back(self, page: Any) -> None:
        """Keep a page for the next test, at an address that does nothing."""
        profile = page.context
        if profile not in self._profiles.values():
            profile.close()
            return
        try:
            page.unroute_all()
            page.goto(f"{page.faults.url}/health")
            self._idle[profile].append(page)
        except Exception:  # such as a server that is down
            page.close()

    def _cookies(self, url: str, name: str) -> dict[str, str]:
        user = self._users.get((url, name))
        if user is None or user.send("GET", "/api/session")["user"] is None:
            user = self._users[url, name] = Api(url).enter("/api/login", name=name, password=PASSWORD)
        return {cookie.name: cookie.value or "" for cookie in user.cookies}


@pytest.fixture(scope="package")
def profiles(chromium: Any) -> Profiles:
    return Profiles(chromium)


@pytest.fixture
def open_page(profiles: Profiles) -> Iterator[Callable[..., Any]]:
    """Yield a function that opens a page; each is checked for faults at the end.

    A page has its `Faults` as `page.faults`. No console errors, no broken content policy, no requests elsewhere.
    `fresh` is for a test that leaves something in its browser profile, such as a clock. Only with
    `trials` the server tries a file before a job: each trial is a process of its own and takes seconds.
    """
    opened: list[tuple[Any, Faults]] = []

    def open_one(
        url: str,
        *,
        user: str | None = None,
        width: int = 1280,
        height: int = 800,
        color_scheme: str = "light",
        reduced_motion: str = "no-preference",
        trials: bool = False,
        **options: Any,
    ) -> Any:
        page = profiles.take(re.match(r"https?://[^/]+", url)[0], user, **options)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=color_scheme, reduced_motion=reduced_motion)
        if not trials:
            # Without a test run the page asks again when no job runs, and by then a test may have removed the file.
            page.faults.allowed.append("404 .*/api/estimates")
            page.route("**/api/estimates", estimate_without_trial)
        opened.append((page, page.faults))
        page.goto(url)
        return page

    yield open_one
    left = [fault for page, faults in opened for fault in faults.left()]
    for page, _ in opened:
        profiles.give_back(page)
    assert left == []


def estimate_without_trial(route: Any) -> None:
    route.continue_(post_data=(route.request.post_data or "").replace('"quick":false', '"quick":true'))


@pytest.fixture
def log_in(open_page: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that opens a view of the page for a user who is logged in."""

    def enter(url: str, name: str = "Maria", at: str = "", **options: Any) -> Any:
        page = open_page(f"{url}/#/{at}", user=name, **options)
        page.locator("main h1").wait_for()
        return page

    return enter


@pytest.fixture(scope="session")
def look() -> Callable[..., list[str]]:
    """Return a function that lists the faults of a page's markup and layout, and may keep a screenshot.

    That are accessibility faults that axe (MPL-2.0, used here alone) calls serious or critical, and what is wider
    than the window. `check` may name the only rules that are to be checked.
    """
    axe_core = pytest.importorskip("axe_core_python", reason="the axe-core-python package is not installed")
    axe = (Path(axe_core.__file__).parent / "axe.min.js").read_text(encoding="utf-8")

    def look_at(page: Any, name: str, *, check: bool | list[str] = True, whole: bool = False) -> list[str]:
        page.evaluate(SETTLE)
        if SCREENSHOTS:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=whole)
        faults = [f"{name}: {fault}" for fault in (find_faults(page, axe, check) if check else [])]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            faults.append(f"{name}: wider than the window")
        return faults

    return look_at


# Changed colours are painted a frame later, and transitions may take a moment.
SETTLE = """async () => {
  scrollTo(0, 0);
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const ending = document.getAnimations().filter(({ playState, effect }) =>
    playState === "running" && Number.isFinite(effect.getComputedTiming().endTime));
  await Promise.allSettled(ending.map(({ finished }) => finished));
}"""


def find_faults(page: Any, axe: str, rules: bool | list[str]) -> list[str]:
    page.evaluate(f"() => {{ if (!window.axe) {{ {axe} }} }}")
    options = {"resultTypes": ["violations"], **({"runOnly": rules} if isinstance(rules, list) else {})}
    found = page.evaluate(
        """async (options) => {
            const { violations, passes } = await axe.run(document, options);
            return { violations, ran: [...violations, ...passes].map(({ id }) => id) };
        }""",
        options,
    )
    assert "color-contrast" in found["ran"], "the contrast of texts is checked"
    return [
        f"{fault['id']}: {node['html'][:120]} {node['failureSummary'][:200] if fault['id'] == 'color-contrast' else ''}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
