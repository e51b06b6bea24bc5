"""Sessions are timed in turn, and the plot shows each."""

import time

import numpy as np
import pytest
from PIL import Image

from calibration.speed import Point, time_in_turn, write_plot


class Sleeper:
    """Waits, or computes, for so long."""

    def __init__(self, log, name, *, wait_s=0.0, work_s=0.0):
        self.log, self.name, self.wait_s, self.work_s = log, name, wait_s, work_s

    def run(self, tensors):
        self.log.append(self.name)
        time.sleep(self.wait_s)
        started = time.process_time()
        while time.process_time() - started < self.work_s:
            pass
        return tensors


def test_every_session_has_its_turn_and_the_first_round_does_not_count():
    log = []
    sessions = {
        "waits": Sleeper(log, "waits", wait_s=0.02),
        "works": Sleeper(log, "works", work_s=0.02),
    }

    timings = time_in_turn(sessions, {}, repeats=3)

    assert log == ["waits", "works"] * 4
    assert timings["waits"].clock_ms >= 20
    assert timings["waits"].processor_ms < 10
    assert timings["works"].processor_ms == pytest.approx(20, abs=8)


@pytest.mark.slow
def test_the_plot_is_an_image_with_every_point(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib: pip install 'relume[build]'")
    points = [Point("float32", 40.0, 36.3), Point("int8", 20.0, 36.26)]

    write_plot(tmp_path / "plot.png", "light-x4", points, gate_db=0.15)

    with Image.open(tmp_path / "plot.png") as frame:
        pixels = np.asarray(frame.convert("RGB")).astype(int)
    blue = (abs(pixels - np.array([31, 119, 180])).sum(axis=2) < 30).any(axis=0)
    runs = np.flatnonzero(np.diff(np.concatenate(([0], blue.astype(int)))) == 1)
    assert len(runs) == 2
