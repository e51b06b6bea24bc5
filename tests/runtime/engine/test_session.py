import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from runtime.engine.session import Array, SharedSessions
from runtime.manifest import find_model

MODEL = find_model("speech-mask")


class Network:
    """A session that notes whether two threads are in it at once, and how often it was closed."""

    backend, precision, inputs, outputs = "test", "fp32", (), ()

    def __init__(self) -> None:
        self.inside = self.most_inside = self.closed = 0

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        threading.Event().wait(0.001)
        self.inside -= 1
        return dict(tensors)

    def close(self) -> None:
        self.closed += 1


def make() -> tuple[SharedSessions, list[Any]]:
    opened: list[Any] = []

    class Opener:
        def open(self, *_: object) -> Any:
            opened.append(Network())
            return opened[-1]

    return SharedSessions(Opener()), opened


def test_a_network_is_opened_once_and_used_by_one_at_a_time() -> None:
    sessions, opened = make()
    shares = [sessions.open(MODEL, "step", {"samples": 4}) for _ in range(4)]

    def use(number: int) -> None:
        for _ in range(10):
            assert shares[number].run({"x": np.full(1, number)})["x"][0] == number

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(opened) == 1
    assert opened[0].most_inside == 1


def test_the_last_to_close_closes_it_and_the_next_opens_it_again() -> None:
    sessions, opened = make()
    one, other = (sessions.open(MODEL, "step", {}) for _ in range(2))

    one.close()
    one.close()
    assert opened[0].closed == 0
    other.close()
    assert opened[0].closed == 1
    sessions.open(MODEL, "step", {})
    assert len(opened) == 2


def test_other_shapes_are_another_network() -> None:
    sessions, opened = make()

    for samples in (1, 2):
        sessions.open(MODEL, "step", {"samples": samples})

    assert len(opened) == 2
