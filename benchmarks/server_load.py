"""Load test of a Relume server: many browsers on the queue page, many large uploads, and a running job.

`python -m benchmarks.server_load` starts its own server on an empty data directory and uses it only over HTTP. Each
browser holds a live-update stream, and asks for the page's files and the list of jobs as the page does. The uploads are
sent by another process, so that they do not slow down the browsers. It prints JSON: the 95th percentile of page
and list requests, the server's memory and processor time, and the uploads that were lost; with the machine's load
before the test, since other programs make every figure worse.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

ROOT: Final = Path(__file__).resolve().parents[1]
_PIECE: Final = 8 << 20
_PAGE: Final = ("/", "/page/js/main.js", "/page/css/base.css")
_LIST: Final = "/api/jobs?state=queued,running,paused&limit=100"


@dataclass(slots=True)
class Load:
    """Measurements during the load; times in seconds."""

    page_s: list[float] = field(default_factory=list)
    list_s: list[float] = field(default_factory=list)
    events: int = 0
    uploaded: int = 0
    lost: int = 0
    errors: list[str] = field(default_factory=list)
    peak_rss_bytes: int = 0


def main() -> None:
    """Run the load test and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--uploads", type=int, default=10)
    parser.add_argument("--upload-mb", type=float, default=200.0)
    parser.add_argument("--poll-s", type=float, default=2.0, help="seconds between the list requests of one browser")
    parser.add_argument("--seconds", type=float, default=30.0, help="minimum duration of the load")
    parser.add_argument("--warm-up-s", type=float, default=10.0, help="time over which the browsers connect")
    parser.add_argument("--no-job", action="store_true", help="without a running job")
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relume-load-") as folder:
        print(json.dumps(run(Path(folder), arguments), indent=2))


def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Start a server, load it, and return the figures."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "appliance.cli", "serve", "--data", str(folder / "data"), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--tls" if arguments.tls else "--no-tls"]
    environment = {**os.environ, "RELUME_PLAIN_PORT": "0", "RELUME_DISK_RESERVE_GIB": "0.5"}
    begun = time.monotonic()
    with (
        (folder / "stderr").open("wb") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        try:
            return _measure(
                server, f"{'https' if arguments.tls else 'http'}://127.0.0.1:{port}", folder, arguments, begun
            )
        finally:
            server.terminate()


def _measure(
    server: "subprocess.Popen[str]", url: str, folder: Path, arguments: argparse.Namespace, begun: float
) -> dict[str, Any]:
    assert server.stdout is not None
    token = None
    while token is None:
        token = re.search(r"token=([\w-]+)", server.stdout.readline())
    with httpx.Client(base_url=url, verify=False, timeout=60) as client:
        ready_s = _wait_ready(client, begun)
        idle = _idle_share(server.pid) if arguments.seconds >= 10 else None
        setup = {"token": token[1], "name": "Load", "password": "a password for the load"}
        headers = {"X-CSRF-Token": client.post("/api/setup", json=setup).json()["csrf"]}
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        rss_idle = _rss(server.pid)
        if not arguments.no_job:
            _queue_jobs(client, headers, folder)
    load, over = Load(), threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(server.pid, load, over))
    watcher.start()
    started, cpu_s, busy = time.monotonic(), _cpu_s(server.pid), os.getloadavg()[0]
    try:
        asyncio.run(_load(url, headers, arguments, load))
    finally:
        over.set()
        watcher.join()
    return {
        "load_average_before": round(busy, 1),
        "server_cpu_s": round(_cpu_s(server.pid) - cpu_s, 1),
        "browsers": arguments.browsers,
        "uploads": arguments.uploads,
        "upload_mb": arguments.upload_mb,
        "ready_s": round(ready_s, 2),
        "idle_cpu_share": idle,
        "lasted_s": round(time.monotonic() - started, 1),
        "page_requests": len(load.page_s),
        "page_p95_ms": _percentile_ms(load.page_s, 0.95),
        "list_requests": len(load.list_s),
        "list_p50_ms": _percentile_ms(load.list_s, 0.5),
        "list_p95_ms": _percentile_ms(load.list_s, 0.95),
        "events": load.events,
        "uploaded": load.uploaded,
        "lost_uploads": load.lost,
        "errors": load.errors[:5],
        "rss_idle_mb": round(rss_idle / 1e6, 1),
        "rss_peak_mb": round(load.peak_rss_bytes / 1e6, 1),
    }


async def _load(url: str, headers: dict[str, str], arguments: argparse.Namespace, load: Load) -> None:
    totals = multiprocessing.get_context("spawn").SimpleQueue()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    over = asyncio.Event()
    async with httpx.AsyncClient(base_url=url, verify=False, headers=headers, timeout=120, limits=limits) as client:
        browsers = [
            asyncio.create_task(coroutine)
            for number in range(arguments.browsers)
            for coroutine in (
                _browse(client, arguments.poll_s, load, over),
                _listen(client, load, over, after_s=arguments.warm_up_s * number / arguments.browsers / 2),
            )
        ]
        # The browsers connect first, one after the other; their measurements count from the first upload.
        await asyncio.sleep(arguments.warm_up_s)
        load.page_s.clear()
        load.list_s.clear()
        sender = multiprocessing.get_context("spawn").Process(target=_send_all, args=(url, headers, arguments, totals))
        sender.start()
        await asyncio.sleep(arguments.seconds)
        while sender.is_alive():
            await asyncio.sleep(0.1)
        over.set()
        await asyncio.wait(browsers, timeout=30)
        for task in browsers:
            task.cancel()
        await asyncio.gather(*browsers, return_exceptions=True)
    load.uploaded, load.lost, errors = totals.get()
    load.errors += errors


def _send_all(url: str, headers: dict[str, str], arguments: argparse.Namespace, totals: Any) -> None:
    """Send all uploads at once; the body of the other process."""

    async def send() -> Load:
        load = Load()
        async with httpx.AsyncClient(base_url=url, verify=False, headers=headers, timeout=120) as client:
            size = int(arguments.upload_mb * 1e6)
            await asyncio.gather(*(_upload(client, number, size, load) for number in range(arguments.uploads)))
        return load

    load = asyncio.run(send())
    totals.put((load.uploaded, load.lost, load.errors))


async def _browse(client: httpx.AsyncClient, poll_s: float, load: Load, over: asyncio.Event) -> None:
    """Open the page, then request the list from time to time, as a browser without live updates does."""
    opens = random.randrange(5)
    while not over.is_set():
        await asyncio.sleep(poll_s * (0.5 + random.random()))
        try:
            if opens % 5 == 0:
                for address in _PAGE:
                    load.page_s.append(await _timed(client, address))
            load.list_s.append(await _timed(client, _LIST))
        except (httpx.HTTPError, ValueError) as error:
            load.errors.append(repr(error))
        opens += 1


async def _timed(client: httpx.AsyncClient, address: str) -> float:
    begun = time.perf_counter()
    answer = await client.get(address)
    if answer.status_code not in (200, 304):
        raise ValueError(f"{address} answered {answer.status_code}")
    return time.perf_counter() - begun


async def _listen(client: httpx.AsyncClient, load: Load, over: asyncio.Event, *, after_s: float) -> None:
    await asyncio.sleep(after_s)
    try:
        async with client.stream("GET", "/api/events") as answer:
            async for line in answer.aiter_lines():
                load.events += line.startswith("event:")
                if over.is_set():
                    return
    except httpx.HTTPError as error:
        load.errors.append(f"events: {error!r}")


async def _upload(client: httpx.AsyncClient, number: int, size: int, load: Load) -> None:
    """Send a file in chunks, and check that the server has every byte."""
    seed = hashlib.sha256(str(number).encode()).digest()
    piece = (seed * (_PIECE // len(seed) + 1))[:_PIECE]
    name = base64.b64encode(f"load {number}.mp4".encode()).decode()
    begun = {"Upload-Length": str(size), "Upload-Metadata": f"filename {name}", "Tus-Resumable": "1.0.0"}
    try:
        place = (await client.post("/api/uploads", headers=begun)).headers["location"]
        offset = 0
        while offset < size:
            headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            content = piece[: min(_PIECE, size - offset)]
            answer = await client.patch(place, headers={**headers, "Tus-Resumable": "1.0.0"}, content=content)
            if answer.status_code != 204:
                raise ValueError(f"the upload answered {answer.status_code}: {answer.text}")
            offset = int(answer.headers["upload-offset"])
        answer = await client.head(place, headers={"Tus-Resumable": "1.0.0"})
        if answer.headers["upload-offset"] != str(size):
            raise ValueError(f"the server has {answer.headers['upload-offset']} of {size} bytes")
        load.uploaded += 1
    except (httpx.HTTPError, ValueError, KeyError) as error:
        load.lost += 1
        load.errors.append(f"upload: {error!r}")


def _queue_jobs(client: httpx.Client, headers: dict[str, str], folder: Path) -> None:
    """Queue a job that runs as long as the load, and some more to fill the list."""
    clip = folder / "clip.mp4"
    _write_clip(clip)
    content = clip.read_bytes()
    for _ in range(20):
        name = {"Upload-Length": str(len(content)), "Upload-Metadata": "filename Y2xpcC5tcDQ="}
        place = client.post("/api/uploads", headers={**headers, **name}).headers["location"]
        sent = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        client.patch(place, headers={**headers, **sent}, content=content).raise_for_status()
        options = {"file": place.rpartition("/")[2], "preset": "upscale", "scale": 2}
        client.post("/api/jobs", headers=headers, json=options).raise_for_status()


def _write_clip(path: Path) -> None:
    """Write a minute of moving noise, which takes a processor long to enhance."""
    import av
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(25 * 60):
            shift = number % 240
            frame = np.ascontiguousarray(noise[shift : shift + 240, shift : shift + 320] // 4 + 96)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _wait_ready(client: httpx.Client, begun: float) -> float:
    while True:
        try:
            client.get("/health").raise_for_status()
            return time.monotonic() - begun
        except httpx.TransportError:
            time.sleep(0.02)


def _idle_share(pid: int) -> float:
    """Return the share of one processor that the idle server uses."""
    time.sleep(3)
    before = _cpu_s(pid)
    time.sleep(10)
    return round((_cpu_s(pid) - before) / 10, 4)


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _watch_memory(pid: int, load: Load, over: threading.Event) -> None:
    while not over.wait(0.2):
        try:
            load.peak_rss_bytes = max(load.peak_rss_bytes, _rss(pid))
        except OSError:
            return


def _percentile_ms(times: list[float], share: float) -> float | None:
    return round(1000 * sorted(times)[int(share * (len(times) - 1))], 1) if times else None


if __name__ == "__main__":
    main()
