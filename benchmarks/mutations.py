"""`python -m benchmarks.mutations`: enhance damaged copies of real clips, and check how each job ends.

Every mutation is drawn from a seed: flipped bytes, a cut, a missing, repeated or zeroed piece, two files joined, or a
header field with an extreme value. `relume enhance` runs on each in a process of its own, every second time with
`--allow-damaged`. A run is right if it ends in time, within the memory limit, with exit code 0 and a result that
decodes from start to end, or with exit code 3 and no result; if it prints no traceback; and if it leaves no other file
behind.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

EXIT_OK, EXIT_SOURCE = 0, 3
_RELUME: Final = "from appliance.cli import main; main()"
CONTAINERS: Final = (".mp4", ".mkv", ".ts", ".avi", ".flv", ".mov")
_EXTREMES: Final = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
# Names of boxes, chunks and elements whose fields are worth changing: MP4 and MOV, AVI and WAV, Matroska.
_HEADERS: Final = (
    *(b"mvhd", b"tkhd", b"mdhd", b"elst", b"stts", b"ctts", b"stsz", b"stsc", b"stco", b"stss", b"stsd", b"hdlr"),
    *(b"avc1", b"mp4a", b"esds", b"avcC", b"avih", b"strh", b"strf", b"idx1", b"fmt ", b"data"),
    *(b"\x2a\xd7\xb1", b"\x44\x89", b"\xb0", b"\xba", b"\xb5", b"\x9f", b"\xe7", b"\xa3", b"\x86", b"\x63\xa2"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a run."""

    timeout_s: float = 120.0
    memory_bytes: int = 2 << 30


@dataclass(frozen=True, slots=True)
class Run:
    """How one run ended; `problem` is empty if that was right."""

    name: str
    mutation: str
    exit_code: int
    seconds: float
    peak_bytes: int
    problem: str


@dataclass(slots=True)
class Summary:
    """Counts of all runs, and the runs that went wrong."""

    runs: int = 0
    exit_codes: Counter[int] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    peak_bytes: int = 0
    longest_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Count a run."""
        self.runs += 1
        self.exit_codes[run.exit_code] += 1
        self.mutations[run.mutation] += 1
        self.peak_bytes = max(self.peak_bytes, run.peak_bytes)
        self.longest_s = max(self.longest_s, run.seconds)
        if run.problem:
            self.problems.append(f"{run.name} ({run.mutation}): {run.problem}")


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change one byte in a thousand, at most 200."""
    changed = bytearray(data)
    for _ in range(min(200, 1 + len(data) // 1000)):
        changed[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return bytes(changed)


def flip_head(data: bytes, rng: random.Random) -> bytes:
    """Change eight bytes of the first four kilobytes."""
    changed = bytearray(data)
    for _ in range(8):
        changed[rng.randrange(min(4096, len(data)))] ^= rng.randrange(1, 256)
    return bytes(changed)


def cut_end(data: bytes, rng: random.Random) -> bytes:
    """Truncate the file."""
    return data[: rng.randrange(1, len(data))]


def remove_piece(data: bytes, rng: random.Random) -> bytes:
    """Remove up to a fifth somewhere."""
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randrange(1, len(data) // 5 + 2) :]


def repeat_piece(data: bytes, rng: random.Random) -> bytes:
    """Duplicate up to a fifth."""
    start = rng.randrange(len(data))
    end = start + rng.randrange(1, len(data) // 5 + 2)
    return data[:end] + data[start:]


def zero_piece(data: bytes, rng: random.Random) -> bytes:
    """Write zeros over up to 64 KiB, as a disk error does."""
    start = rng.randrange(len(data))
    length = min(len(data) - start, rng.randrange(1, 65_536))
    return data[:start] + bytes(length) + data[start + length :]


def change_header(data: bytes, rng: random.Random) -> bytes:
    """Write an extreme value into up to three fields of known headers."""
    changed = bytearray(data)
    names = [name for name in _HEADERS if name in data]
    for name in rng.sample(names, min(3, len(names))):
        places = [i for i in _find_all(data, name) if i + 64 < len(data)]
        if not places:
            continue
        place = rng.choice(places) + len(name) + rng.randrange(0, 48)
        width = rng.choice((1, 2, 4))
        value = rng.choice(_EXTREMES) & ((1 << 8 * width) - 1)
        changed[place : place + width] = value.to_bytes(width, rng.choice(("big", "little")))
    return bytes(changed)


MUTATIONS: Final[tuple[Callable[[bytes, random.Random], bytes], ...]] = (
    flip_bytes,
    flip_head,
    cut_end,
    remove_piece,
    repeat_piece,
    zero_piece,
    change_header,
    change_header,
)


def mutate(clips: Sequence[Path], number: int, *, seed: int) -> tuple[str, str, bytes]:
    """Return the suffix, the name of the mutation and the bytes of one mutated file.

    Args:
        clips: Source clips; the same clips, number and seed return the same bytes.
        number: Number of the file.
        seed: Seed of the series.
    """
    rng = random.Random(seed * 1_000_003 + number)
    clip = clips[number % len(clips)]
    data = clip.read_bytes()
    if number % (len(MUTATIONS) + 1) == len(MUTATIONS):
        return clip.suffix, "join", data + rng.choice(clips).read_bytes()
    change = MUTATIONS[number % (len(MUTATIONS) + 1)]
    return clip.suffix, change.__name__, change(data, rng)


def cut_clips(sources: Sequence[Path], folder: Path, *, frames: int) -> list[Path]:
    """Copy the first frames of real clips, with their audio, into containers of all kinds without encoding."""
    clips = []
    for number, source in enumerate(sources):
        suffix = CONTAINERS[number % len(CONTAINERS)]
        target = folder / f"{source.stem}{suffix}"
        with suppress(av.FFmpegError, ValueError):
            _copy_start(source, target, frames)
            clips.append(target)
    return clips


def make_clip(path: Path, *, frames: int = 12) -> None:
    """Write a small clip with a moving pattern and a tone."""
    codecs = {".avi": ("mpeg4", "mp3"), ".flv": ("flv1", "aac"), ".ts": ("mpeg2video", "mp2")}
    video_codec, audio_codec = codecs.get(path.suffix, ("libx264", "aac"))
    rng = np.random.default_rng(5)
    pattern = np.kron(rng.integers(0, 256, (12, 20, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream(video_codec, rate=25)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 25)
        audio = container.add_stream(audio_codec, rate=44_100, layout="mono")
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pattern[:, number : number + 128]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        time_s = np.arange(44_100 * frames // 25, dtype=np.float32) / 44_100
        samples = (0.3 * np.sin(2 * np.pi * 440 * time_s))[None]
        for start in range(0, samples.shape[1], 1152):
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, start : start + 1152]), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = 44_100, start, Fraction(1, 44_100)
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def try_file(path: Path, mutation: str, folder: Path, *, conceal: bool, limits: Limits) -> Run:
    """Enhance one file in its own process and check the outcome."""
    results, scratch = folder / "results", folder / "scratch"
    results.mkdir(parents=True)
    scratch.mkdir()
    target = results / "result.mkv"
    command = [sys.executable, "-c", _RELUME, "enhance", str(path), "--output", str(target)]
    command += ["--preset", "restore", "--codec", "h264", *(["--allow-damaged"] if conceal else [])]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    started = time.monotonic()
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True)
        code, peak_bytes = _wait(process, limits.timeout_s)
    text = (folder / "said.txt").read_text(errors="replace")
    problem = _judge(code, text, target, limits, peak_bytes, [*results.iterdir(), *scratch.iterdir()])
    return Run(path.name, mutation, code, time.monotonic() - started, peak_bytes, problem)


def run_all(clips: Sequence[Path], *, count: int, seed: int, limits: Limits, jobs: int = 2) -> Summary:
    """Enhance `count` mutated copies of the clips."""
    summary = Summary()
    with tempfile.TemporaryDirectory(prefix="mutations-") as name, ThreadPoolExecutor(jobs) as pool:
        folder = Path(name)

        def run(number: int) -> Run:
            suffix, mutation, data = mutate(clips, number, seed=seed)
            path = folder / f"{number:04}{suffix}"
            path.write_bytes(data)
            result = try_file(path, mutation, folder / f"{number:04}", conceal=number % 2 == 1, limits=limits)
            path.unlink()
            return result

        for result in pool.map(run, range(count)):
            summary.add(result)
    return summary


def _judge(code: int, text: str, target: Path, limits: Limits, peak_bytes: int, files: Sequence[Path]) -> str:
    """Return the problem of a run's outcome; "" if there is none."""
    others = sorted(path.name for path in files if path != target)
    last_line = (text.strip().splitlines() or ["nothing printed"])[-1]
    checks = (
        (code < 0, f"ended by signal {-code}: {last_line}"),
        (code not in (EXIT_OK, EXIT_SOURCE), f"exit code {code}: {last_line}"),
        ("Traceback" in text, "printed a traceback"),
        (peak_bytes > limits.memory_bytes, f"used {peak_bytes / 1e6:.0f} MB of memory"),
        (bool(others), f"left {', '.join(others)}"),
        (code == EXIT_SOURCE and target.exists(), "refused the source, but wrote a result"),
        (code == EXIT_OK and not target.exists(), "exit code 0 without a result"),
    )
    problem = next((words for is_wrong, words in checks if is_wrong), "")
    return problem or (_decode_whole(target) if code == EXIT_OK else "")


def _decode_whole(path: Path) -> str:
    try:
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(*container.streams.video, *container.streams.audio))
    except av.FFmpegError as error:
        return f"the result does not decode: {error}"
    return "" if count else "the result is empty"


def _wait(process: "subprocess.Popen[bytes]", timeout_s: float) -> tuple[int, int]:
    """Wait for a process; return its exit code (negative for a signal) and its peak memory in bytes.

    The peak is sampled while it runs: the system's figure at its end includes the memory of the parent process.
    """
    end = time.monotonic() + timeout_s
    peak_bytes = 0
    while process.poll() is None:
        peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
        if time.monotonic() > end:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            end = float("inf")
        time.sleep(0.01)
    return process.returncode, peak_bytes


def _peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


def _find_all(data: bytes, name: bytes) -> list[int]:
    places, place = [], data.find(name)
    while place >= 0 and len(places) < 64:
        places.append(place)
        place = data.find(name, place + 1)
    return places


def _copy_start(source: Path, target: Path, frames: int) -> None:
    with av.open(str(source)) as container, av.open(str(target), "w") as result:
        video = container.streams.video[0]
        kept = {video.index: result.add_stream_from_template(video)}
        for audio in container.streams.audio[:1]:
            kept[audio.index] = result.add_stream_from_template(audio)
        count = 0
        for packet in container.demux(*(container.streams[index] for index in kept)):
            if packet.dts is None:
                continue
            count += packet.stream_index == video.index
            if count > frames:
                break
            packet.stream = kept[packet.stream_index]
            result.mux(packet)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutations", description=__doc__)
    parser.add_argument("--clips", type=Path, help="a folder of real clips; small ones are generated by default")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=10, help="frames of each clip")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="clips-") as name:
        folder = Path(name)
        if given.clips is None:
            clips = [folder / f"made{suffix}" for suffix in CONTAINERS]
            for clip in clips:
                make_clip(clip)
        else:
            sources = sorted(path for path in given.clips.iterdir() if path.is_file())
            clips = cut_clips(sources, folder, frames=given.frames)
        summary = run_all(clips, count=given.count, seed=given.seed, limits=Limits(), jobs=given.jobs)
    print(
        json.dumps(
            {
                "runs": summary.runs,
                "exit_codes": dict(summary.exit_codes),
                "mutations": dict(summary.mutations),
                "peak_mb": round(summary.peak_bytes / 1e6),
                "longest_s": round(summary.longest_s, 1),
                "problems": summary.problems,
            },
            indent=1,
        )
    )
    return 1 if summary.problems else 0


if __name__ == "__main__":
    sys.exit(main())
