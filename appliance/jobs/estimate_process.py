"""Enhances two seconds of a source and prints time, memory and disk use as JSON.

A process of its own (`python -m appliance.jobs.estimate_process`), so that its peak memory is the job's.
"""

import argparse
import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from appliance.jobs.job import options_from_json
from appliance.jobs.job_files import JobFiles
from runtime.child_process import end_with_parent, forbid_network, lower_priority
from runtime.errors import RelumeError
from runtime.options import EnhanceOptions
from runtime.progress import Progress

SPAN_S: Final = Fraction(2)
_FIRST_FRAMES: Final = 4
_MIN_FRAMES: Final = 2


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of a test run.

    `span_s` are seconds of the source; `start_s` is needed once a job, `run_s`, `compare_s` (preview proxies) and
    `result_bytes` for that span. `memory_bytes` is the peak of the whole process.
    """

    span_s: float
    start_s: float
    run_s: float
    compare_s: float
    result_bytes: int
    memory_bytes: int


def measure(
    source: Path, options: EnhanceOptions, folder: Path, *, budget_s: float, engines: Path | None = None
) -> Measured:
    """Enhance a part from the middle: two seconds, or fewer where they take longer than `budget_s`.

    `engines` is that of `runtime.enhance.enhance`, so that the backend is the job's.

    Raises:
        RelumeError: The source cannot be enhanced.
    """
    from appliance.jobs.previews import Pair, write_video_proxies
    from runtime.enhance import enhance
    from runtime.plan import plan_job

    plan = plan_job(source, None, options)
    suffix = plan.target.suffix
    rate = None if plan.video is None else plan.video.stream.average_rate or Fraction(25)
    span, start_s = SPAN_S, 0.0
    if rate is not None:
        # A few frames first: they show how many fit into the budget, and include the start-up time.
        watch = _Watch()
        first = _middle(plan.info.duration, options, _FIRST_FRAMES / rate)
        enhance(source, folder / f"first{suffix}", first, on_progress=watch, engines=engines)
        start_s = watch.first_s
        span = min(SPAN_S, max(_MIN_FRAMES / rate, Fraction(int(budget_s * watch.fps)) / rate))
    part = _middle(plan.info.duration, options, span)
    result = folder / f"trial{suffix}"
    report = enhance(source, result, part, engines=engines)
    speed = report.speed
    begun = time.monotonic()
    if report.picture is not None:
        pair = Pair(source, result, part.start, part.end)
        files = JobFiles(folder, "trial")
        files.folder.mkdir(parents=True)
        threads = options.threads or len(os.sched_getaffinity(0))
        write_video_proxies(pair, report, files, threads=threads, stop=threading.Event())
    length = span if part.end is None else part.end - (part.start or 0)
    return Measured(
        span_s=float(length),
        start_s=start_s,
        run_s=speed.wall_s,
        compare_s=time.monotonic() - begun,
        result_bytes=result.stat().st_size,
        memory_bytes=speed.peak_memory_bytes,
    )


class _Watch:
    """Measures the time of the first frame, and the speed of the others."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.first_s = 0.0
        self.fps = 1.0

    def __call__(self, progress: Progress) -> None:
        since = time.monotonic() - self._begun
        if progress.frames_done == 1:
            self.first_s = since
        elif progress.frames_done > 1:
            self.fps = (progress.frames_done - 1) / max(1e-3, since - self.first_s)


def _middle(duration: Fraction | None, options: EnhanceOptions, span: Fraction) -> EnhanceOptions:
    """Limit the options to a part in the middle of what they select."""
    begin = options.start or Fraction(0)
    ends = [end for end in (duration, options.end) if end is not None]
    end = min(ends) if ends else begin + span
    start = begin + max(Fraction(0), end - begin - span) / 2
    end = min(end, start + span)
    return replace(options, start=start or None, end=end, compare=None, overwrite=False, keep_unverified=True)


def main() -> int:
    """Run the test run."""
    parser = argparse.ArgumentParser(prog="python -m appliance.jobs.estimate_process", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--budget-s", type=float, required=True)
    parser.add_argument("--engines", type=Path)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    end_with_parent(arguments.parent)
    lower_priority()
    forbid_network()
    # On standard input, because the name of the source may not be valid Unicode.
    asked = json.loads(sys.stdin.buffer.read().decode("utf-8", "surrogateescape"))
    try:
        source, options = Path(asked["source"]), options_from_json(json.dumps(asked["options"]))
        found = asdict(
            measure(source, options, arguments.folder, budget_s=arguments.budget_s, engines=arguments.engines)
        )
    except MemoryError:
        found = {"error": "there is not enough memory"}
    except RelumeError as error:
        found = {"error": str(error)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
