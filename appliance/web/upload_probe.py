"""Checks uploaded files, each in a subprocess with limits on time, memory and file size.

A malicious file can harm that process at most. `open_source` of the runtime opens one local file in one of a fixed list
of containers, so playlists and reference movies cannot open other files. The subprocess also writes the thumbnail, so
that a job has one before it starts.
"""

import json
import os
import resource
import subprocess
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runtime.media.media_info import MediaInfo

_THREADS: Final = 3
_THREADS_PER_USER: Final = 2
_MEMORY_BYTES: Final = 4 * 1024**3
_THUMBNAIL_BYTES: Final = 1_000_000
_MAX_ANSWER: Final = 100_000
_ADVISE: Final = "--advise"
_NICE: Final = 10
_MOST_ADVICE: Final = 500
_SPARE_S: Final = 5.0
_UNCHECKED: Final = "the end of the file could not be checked; it may be damaged"

Probe = dict[str, Any]


class ProbeQueue:
    """Checks a few files at once; users take turns, and none occupies every thread.

    However long the files of one user take, the next file of another user does not wait for them.
    """

    def __init__(self, check: Callable[[str], None]) -> None:
        self._check = check
        self._lock = Lock()
        self._waiting: dict[str, deque[str]] = {}
        self._running: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="probe")
        self._closed = False

    def add(self, owner: str, upload_id: str) -> None:
        """Queue an upload."""
        with self._lock:
            self._waiting.setdefault(owner, deque()).append(upload_id)
            self._start()

    def close(self) -> None:
        """Wait for the running checks and discard the others."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        for owner, files in list(self._waiting.items()):
            if self._closed or self._running.total() >= _THREADS:
                return
            if self._running[owner] >= _THREADS_PER_USER:
                continue
            self._running[owner] += 1
            self._threads.submit(self._run, owner, files.popleft())
            del self._waiting[owner]
            if files:
                self._waiting[owner] = files  # behind the others

    def _run(self, owner: str, upload_id: str) -> None:
        try:
            self._check(upload_id)
        finally:
            with self._lock:
                self._running[owner] -= 1
                self._start()


def probe_upload(
    path: Path, name: str, *, timeout_s: float, thumbnail: Path | None = None
) -> tuple[Probe | None, str | None]:
    """Check a file in a subprocess.

    Args:
        path: The file.
        name: Its displayed name, which replaces the path in messages.
        timeout_s: The time limit.
        thumbnail: The path of the thumbnail to write; a file without video gets none.

    Returns:
        Its properties and None, or None and why it cannot be enhanced.
    """
    command = [sys.executable, "-P", "-m", "appliance.web.upload_probe", str(path), str(int(timeout_s) + 1)]
    command += [] if thumbnail is None else [str(thumbnail)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s + _SPARE_S, check=False, text=True
        )
        # An answer is valid even if the process failed later, on the thumbnail.
        answer = _read_answer(done.stdout)
    except subprocess.TimeoutExpired as expired:
        answer = _read_answer(expired.stdout or "")
        answer = answer or {"error": f"{path} could not be checked within {timeout_s:g} s; it may be damaged"}
    except OSError:
        answer = {}
    error = answer.get("error")
    if error is None and "probe" not in answer:
        error = f"{path} is damaged or not a media file: the process that checked it crashed"
    if error is not None:
        return None, str(error).replace(str(path), name)
    damage = answer.get("damage", _UNCHECKED)
    return answer["probe"] | {"damage": None if damage is None else str(damage).replace(str(path), name)}, None


class UploadAdviser:
    """Measures uploads one after the other, each once, and keeps the latest results; thread-safe."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._found: OrderedDict[Path, dict[str, Any]] = OrderedDict()

    def get(self, path: Path) -> dict[str, Any]:
        """Return the faults of a checked file and a preset as `AdviceOut` has them; {} if it cannot be measured."""
        with self._lock:
            if path not in self._found:
                self._found[path] = _advise_upload(path, timeout_s=self._timeout_s)
            self._found.move_to_end(path)
            while len(self._found) > _MOST_ADVICE:
                self._found.popitem(last=False)
            return self._found[path]


def _advise_upload(path: Path, *, timeout_s: float) -> dict[str, Any]:
    """Measure a file in a subprocess of low priority."""
    command = [sys.executable, "-P", "-m", "appliance.web.upload_probe", str(path), str(int(timeout_s) + 1), _ADVISE]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s + _SPARE_S, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return _read_answer(done.stdout)


def _read_answer(output: str | bytes) -> dict[str, Any]:
    """Parse the two lines of the subprocess, properties and damage, up to one that is incomplete."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output
    found: dict[str, Any] = {}
    for line in text[:_MAX_ANSWER].splitlines()[:2]:
        try:
            answer = json.loads(line)
        except ValueError:
            break
        found |= answer if isinstance(answer, dict) else {}
    return found


def check(path: Path) -> dict[str, Any]:
    """Check a file in this process; return `probe` with its properties, or `error` with why it cannot be enhanced."""
    return _check(path)[0]


def _check(path: Path) -> "tuple[dict[str, Any], MediaInfo | None]":
    from appliance.probe import probe_whole
    from runtime.errors import RelumeError

    try:
        info = probe_whole(path)
    except RelumeError as error:
        return {"error": str(error)}, None
    except MemoryError:
        reason = f"{path} needs too much memory to open; reduce its resolution first"
        return {"error": reason}, None
    return _describe(path, info), info


def _describe(path: Path, info: "MediaInfo") -> dict[str, Any]:
    from runtime.media.demux import is_too_large

    video = next((stream for stream in info.videos if not stream.is_attached_picture), None)
    audio = next(iter(info.audios), None)
    is_known = video is not None and video.codec != "unknown"
    if video is not None and is_known and audio is None and is_too_large(video.width, video.height):
        return {"error": f"{path} has more pixels than 8192x8192 per frame, or none; reduce its resolution first"}
    rate = None if video is None or video.average_rate is None else float(video.average_rate)
    duration_s = None if info.duration is None else float(info.duration)
    frames = None if video is None else video.frames
    if video is not None and frames is None and rate and duration_s:
        frames = round(rate * duration_s)
    return {
        "probe": {
            "container": info.container,
            "duration_s": duration_s,
            "has_picture": video is not None,
            "has_sound": audio is not None,
            "width": None if video is None else video.width,
            "height": None if video is None else video.height,
            "fps": rate,
            "frames": frames,
            "codec": video.codec if video is not None else audio.codec if audio is not None else None,
        }
    }


def _find_damage(info: "MediaInfo") -> str | None:
    from appliance.watch.integrity import find_damage
    from runtime.errors import RelumeError

    try:
        return find_damage(info)
    except RelumeError as error:
        return str(error)
    except (OSError, MemoryError):
        return _UNCHECKED


def _advise(path: Path) -> dict[str, Any]:
    from runtime.advice import advise
    from runtime.errors import RelumeError
    from runtime.media.probe import probe

    try:
        found = advise(probe(path))
    except (RelumeError, OSError, MemoryError):
        return {}
    findings = [{"code": one.code, "text": one.text} for one in found.findings]
    return {"findings": findings, "preset": found.preset, "reason": found.reason}


def _limit_self(path: Path, seconds: int) -> None:
    from runtime.child_process import forbid_network
    from runtime.errors import RelumeError
    from runtime.media.demux import find_webp_size
    from runtime.media.webp import MOST_CONVERTED_BYTES

    most = _THUMBNAIL_BYTES
    with suppress(RelumeError):
        if find_webp_size(path) is not None:
            most = MOST_CONVERTED_BYTES  # it is converted into an unnamed file
    forbid_network()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _make_thumbnail(path: Path, target: Path) -> None:
    from appliance.jobs.previews import write_thumbnail
    from runtime.errors import RelumeError

    with suppress(RelumeError, OSError, ValueError, MemoryError):
        write_thumbnail(path, target)


def _main(path: Path, seconds: int, thumbnail: Path | None, *, advises: bool = False) -> None:
    _limit_self(path, seconds)
    if advises:
        os.nice(_NICE)
        print(json.dumps(_advise(path)), flush=True)
        return
    found, info = _check(path)
    print(json.dumps(found), flush=True)
    # After the answer, which stays valid if the rest fails.
    if "probe" in found and info is not None:
        print(json.dumps({"damage": _find_damage(info)}), flush=True)
    if "probe" in found and found["probe"]["has_picture"] and thumbnail is not None:
        _make_thumbnail(path, thumbnail)


if __name__ == "__main__":
    _third = sys.argv[3] if len(sys.argv) > 3 else None
    _advises = _third == _ADVISE
    _main(Path(sys.argv[1]), int(sys.argv[2]), None if _third is None or _advises else Path(_third), advises=_advises)
