"""Looks into an uploaded file in a process of its own, with limits on time, memory and what it may write.

It also makes the thumbnail there, so that a job has one before it runs.

Whatever a crafted file does to a demuxer, it does it there. `open_source` of the runtime opens one local file with a
fixed list of containers, so that a playlist or a reference film leads nowhere.
"""

import json
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runtime.media.media_info import MediaInfo


_MEMORY_BYTES: Final = 4 * 1024**3
_THUMBNAIL_BYTES: Final = 1_000_000
_MAX_ANSWER: Final = 100_000
_SPARE_S: Final = 5.0
_UNCHECKED: Final = "its end could not be checked; it may be damaged"

Probe = dict[str, Any]


def probe_upload(
    path: Path, name: str, *, timeout_s: float, thumbnail: Path | None = None
) -> tuple[Probe | None, str | None]:
    """Look into a file.

    Args:
        path: The file.
        name: What people know it as; it replaces the path in messages.
        timeout_s: The longest time it may take.
        thumbnail: Where a small picture of it is to be; a file without one is no error.

    Returns:
        What it holds and None, or None and why it is nothing to enhance.
    """
    command = [sys.executable, "-P", "-m", "appliance.web.upload_probe", str(path), str(int(timeout_s) + 1)]
    command += [] if thumbnail is None else [str(thumbnail)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s + _SPARE_S, check=False, text=True
        )
        # What was answered counts, whatever became of the process over the thumbnail.
        answer = _read_answer(done.stdout)
    except subprocess.TimeoutExpired as error:
        answer = _read_answer(error.stdout or "")
        answer = answer or {"error": f"{path} took longer than {timeout_s:g} s to look into; is it damaged?"}
    except OSError:
        answer = {}
    refusal = answer.get("error")
    if refusal is None and "probe" not in answer:
        refusal = f"{path} could not be looked into: the reader ended over it; it is damaged or not a media file"
    if refusal is not None:
        return None, str(refusal).replace(str(path), name)
    damage = answer.get("damage", _UNCHECKED)
    return answer["probe"] | {"damage": None if damage is None else str(damage).replace(str(path), name)}, None


def _read_answer(output: str | bytes) -> dict[str, Any]:
    """Read the lines that the process wrote, what it holds and then its damage, up to one that is not whole."""
    text = output.decode(errors="replace") if isinstance(output, bytes) else output
    found: dict[str, Any] = {}
    for line in text[:_MAX_ANSWER].splitlines()[:2]:
        try:
            answer = json.loads(line)
        except ValueError:
            break
        found |= answer if isinstance(answer, dict) else {}
    return found


def look(path: Path) -> dict[str, Any]:
    """Look into a file, in this process: `probe` is what it holds, or `error` why it is nothing to enhance."""
    return _look(path)[0]


def _look(path: Path) -> "tuple[dict[str, Any], MediaInfo | None]":
    from appliance.probe import probe_whole
    from runtime.errors import RelumeError

    try:
        info = probe_whole(path)
    except RelumeError as error:
        return {"error": str(error)}, None
    except MemoryError:
        reason = f"{path} takes more memory to look into than any film should; make its pictures smaller first"
        return {"error": reason}, None
    return _describe(path, info), info


def _describe(path: Path, info: "MediaInfo") -> dict[str, Any]:
    from runtime.media.demux import is_too_large

    video = next((stream for stream in info.videos if not stream.is_attached_picture), None)
    audio = next(iter(info.audios), None)
    is_known = video is not None and video.codec != "unknown"
    if video is not None and is_known and audio is None and is_too_large(video.width, video.height):
        return {"error": f"{path} shows pictures of more pixels than 8192x8192, or of no size; make them smaller first"}
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


def _limit_self(path: Path, seconds: int) -> None:
    from runtime.child_process import forbid_network
    from runtime.errors import RelumeError
    from runtime.media.demux import find_webp_size
    from runtime.media.webp import MOST_CONVERTED_BYTES

    most = _THUMBNAIL_BYTES
    with suppress(RelumeError):
        if find_webp_size(path) is not None:
            most = MOST_CONVERTED_BYTES  # it is unpacked into a nameless file
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


def _main(path: Path, seconds: int, thumbnail: Path | None) -> None:
    _limit_self(path, seconds)
    found, info = _look(path)
    print(json.dumps(found), flush=True)
    # After the answer: whatever becomes of the rest, the file is known.
    if "probe" in found and info is not None:
        print(json.dumps({"damage": _find_damage(info)}), flush=True)
    if "probe" in found and found["probe"]["has_picture"] and thumbnail is not None:
        _make_thumbnail(path, thumbnail)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
