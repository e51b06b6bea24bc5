"""Processes are killed at random moments, and every job ends complete, once, and as if uninterrupted."""

import pytest

from benchmarks.survive import read_packets
from tests.killing import KillTest, kill_at_random


def test_kills_at_random_moments_harm_no_job(tmp_path):
    outcome = kill_at_random(tmp_path / "run", repeats=1, kills_each=1, seed=4)

    assert outcome.faults == []
    assert outcome.hits >= 1
    assert outcome.jobs >= 1


@pytest.mark.slow
def test_many_kills_at_random_moments_harm_no_job(tmp_path):
    outcome = kill_at_random(tmp_path / "run", repeats=6, kills_each=1, seed=1)
    several = kill_at_random(tmp_path / "several", repeats=6, kills_each=4, seed=2)

    assert outcome.faults == several.faults == []
    assert outcome.hits + several.hits >= 12


def test_the_check_sees_what_went_wrong(tmp_path):
    test = KillTest(tmp_path / "run", seed=0)
    try:
        job = test.add("job")
        result = test.finish(job)
        packets = read_packets(result)
        result.with_name(".left.partial.mp4").write_bytes(b"half")
        (test.queue.files(job.id).workspace).mkdir()
        test.check(job, packets[:-1])
    finally:
        test.close()

    assert test.outcome.faults == [
        "job: the packets are not those of an uninterrupted run",
        "job: the folder of the result holds ['.left.partial.mp4', 'result.mp4']",
        "job: the workspace is still there",
    ]
