"""A worker knows how close it is to its memory limit."""

import subprocess
import sys

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's")


def run(program):
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_limit_on_memory_ends_in_an_error_and_the_gauge_sees_it_coming():
    program = """
from appliance.jobs.progress_reporter import MemoryGauge, limit_memory
limit_memory(300_000_000)
gauge = MemoryGauge()
gauge.sample()
print(gauge.was_near())
held = [bytes(50_000_000) for _ in range(5)]
gauge.sample()
print(gauge.was_near())
try:
    bytes(100_000_000)
except MemoryError:
    print("refused")
del held
gauge.sample()
print(gauge.was_near())
"""
    assert run(program) == ["False", "True", "refused", "True"]


def test_without_a_limit_nothing_is_near():
    program = (
        "from appliance.jobs.progress_reporter import MemoryGauge; gauge = MemoryGauge(); "
        "gauge.sample(); print(gauge.was_near())"
    )
    assert run(program) == ["False"]
