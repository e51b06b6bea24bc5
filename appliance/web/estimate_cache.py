"""Cached test runs: each file is measured once per set of options, and other files are estimated from it."""

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, TypeVar

from appliance.jobs.estimate_process import Measured
from appliance.jobs.job import options_to_json
from appliance.store.database import Database
from runtime.options import EnhanceOptions
from runtime.plan import JobPlan, expected_frames

_MAX_ENTRIES: Final = 500

Key = TypeVar("Key")
Value = TypeVar("Value")


class EstimateCache:
    """The test runs since the server started; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._measured: _LruCache[tuple[Path, str], Measured] = _LruCache()
        self._rates: _LruCache[tuple[object, ...], _Rate] = _LruCache()

    def get(self, source: Path, options: EnhanceOptions) -> Measured | None:
        """Return the test run of a file with these options; start and end make no difference."""
        return self._measured.get(_key(source, options))

    def put(self, source: Path, options: EnhanceOptions, plan: JobPlan, measured: Measured) -> None:
        """Store a test run."""
        self._measured.put(_key(source, options), measured)
        self._rates.put(_kind(plan), _Rate(measured, _load(plan)))

    def scale(self, plan: JobPlan) -> Measured | None:
        """Estimate a test run from the latest one of the same kind of work; None if there is none."""
        rate = self._rates.get(_kind(plan))
        if rate is None:
            return None
        share = _load(plan) / rate.load
        measured = rate.measured
        return replace(
            measured,
            run_s=measured.run_s * share,
            compare_s=measured.compare_s * share,
            result_bytes=round(measured.result_bytes * share),
            memory_bytes=round(measured.memory_bytes * max(1.0, share)),
        )

    def time_from_history(self, plan: JobPlan) -> float | None:
        """Estimate the time from the latest finished job with the same options; None if there is none.

        This also works right after a start, before any test run.
        """
        frames = expected_frames(plan)
        if plan.video is None or frames is None:
            return None
        wanted = _relevant_options(options_to_json(plan.options))
        with self._database.read() as connection:
            rows = connection.execute(_FINISHED).fetchall()
        for row in rows:
            probe = json.loads(row["probe"])
            if _relevant_options(row["options"]) == wanted and probe["width"] and probe["height"]:
                pixels = row["frames_done"] * probe["width"] * probe["height"]
                return float(row["worked_s"] * frames * plan.video.stream.width * plan.video.stream.height / pixels)
        return None


# Newest first; only uploads, whose frame size is known.
_FINISHED: Final = (
    "SELECT jobs.options, worked_s, frames_done, probe FROM jobs JOIN uploads ON uploads.job = jobs.id "
    "WHERE state = 'done' AND frames_done > 0 AND worked_s > 0 AND probe IS NOT NULL "
    "ORDER BY jobs.created_at DESC LIMIT 50"
)
_RELEVANT_OPTIONS: Final = ("preset", "scale", "audio", "codec", "crf", "model")


def _relevant_options(options: str) -> tuple[object, ...]:
    """Return the options that determine the time per pixel."""
    values = json.loads(options)
    return tuple(values.get(name) for name in _RELEVANT_OPTIONS)


@dataclass(frozen=True, slots=True)
class _Rate:
    """A test run, and the load of one second of its source."""

    measured: Measured
    load: float


class _LruCache(Generic[Key, Value]):
    """A thread-safe cache of the most recent values."""

    def __init__(self) -> None:
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        with self._lock:
            return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > _MAX_ENTRIES:
                self._values.popitem(last=False)


def _key(source: Path, options: EnhanceOptions) -> tuple[Path, str]:
    return source, options_to_json(replace(options, start=None, end=None))


def _kind(plan: JobPlan) -> tuple[object, ...]:
    """Return what determines the time per pixel."""
    model = None if plan.video is None else plan.video.model.manifest.name
    preset, options = plan.preset, plan.options
    return (
        model,
        preset.codec,
        preset.crf,
        plan.preset.audio,
        plan.preset.loudness,
        options.backend,
        options.precision,
    )


def _load(plan: JobPlan) -> float:
    """Return the pixels, or without video the samples, in one second of the source."""
    if plan.video is not None:
        stream = plan.video.stream
        return float(stream.width * stream.height * (stream.average_rate or 25))
    return float(sum(track.sample_rate for track in plan.tracks))
