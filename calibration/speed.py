"""How long sessions take beside each other: turn by turn, so that whatever else the machine does meets them all."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.engine.session import Array, Session


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one run: processor time of all threads, and time on the clock; medians.

    Processor time is what can be compared on a machine that is busy with other work.
    """

    processor_ms: float
    clock_ms: float


def time_in_turn(sessions: Mapping[str, Session], tensors: Mapping[str, Array], *, repeats: int) -> dict[str, Timing]:
    """Run every session once a round, `repeats` rounds after one that does not count.

    Args:
        sessions: By the name that they have in the result.
        tensors: What each of them takes.
        repeats: Rounds.
    """
    processor: dict[str, list[float]] = {name: [] for name in sessions}
    clock: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(repeats + 1):
        for name, session in sessions.items():
            processor_s, clock_s = time.process_time(), time.perf_counter()
            session.run(tensors)
            if turn:
                processor[name].append(time.process_time() - processor_s)
                clock[name].append(time.perf_counter() - clock_s)
    return {
        name: Timing(1e3 * statistics.median(processor[name]), 1e3 * statistics.median(clock[name]))
        for name in sessions
    }
