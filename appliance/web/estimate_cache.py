"""What trials told, kept: a file is tried once for the same choices, and other files are guessed from it."""

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
    """The trials of a running server; for any number of threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._measured: _Recent[tuple[Path, str], Measured] = _Recent()
        self._rates: _Recent[tuple[object, ...], _Rate] = _Recent()

    def get(self, source: Path, options: EnhanceOptions) -> Measured | None:
        """Return what a trial of this file with these choices told; where it is trimmed makes no difference."""
        return self._measured.get(_key(source, options))

    def put(self, source: Path, options: EnhanceOptions, plan: JobPlan, measured: Measured) -> None:
        """Keep what a trial told."""
        self._measured.put(_key(source, options), measured)
        self._rates.put(_kind(plan), _Rate(measured, _load(plan)))

    def scale(self, plan: JobPlan) -> Measured | None:
        """Guess what a trial would tell, from the last one of the same kind of work; None where there was none."""
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
        """Guess the time from the last finished job that asked for the same; None where there was none.

        Also right after a start, when nothing was tried yet.
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


# Newest first; what uploads were is known, and so how large their frames are.
_FINISHED: Final = (
    "SELECT jobs.options, worked_s, frames_done, probe FROM jobs JOIN uploads ON uploads.job = jobs.id "
    "WHERE state = 'done' AND frames_done > 0 AND worked_s > 0 AND probe IS NOT NULL "
    "ORDER BY jobs.created_at DESC LIMIT 50"
)
_RELEVANT_OPTIONS: Final = ("preset", "scale", "audio", "codec", "crf", "model")


def _relevant_options(options: str) -> tuple[object, ...]:
    """Return the wishes that make the time of a pixel."""
    values = json.loads(options)
    return tuple(values.get(name) for name in _RELEVANT_OPTIONS)


@dataclass(frozen=True, slots=True)
class _Rate:
    """What a trial told, and how much there was to do in a second of its source."""

    measured: Measured
    load: float


class _Recent(Generic[Key, Value]):
    """The values that were put last."""

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
    """Name the kind of work: what makes the time of a pixel."""
    model = None if plan.video is None else plan.video.model.manifest.name
    preset, options = plan.preset, plan.options
    return (model, preset.codec, preset.crf, plan.speech is not None, options.backend, options.precision)


def _load(plan: JobPlan) -> float:
    """Return what there is to do in a second of the source: pixels, or samples where there is no video."""
    if plan.video is not None:
        stream = plan.video.stream
        return float(stream.width * stream.height * (stream.average_rate or 25))
    return 0.0 if plan.speech is None else float(sum(track.sample_rate for track in plan.speech.tracks))
