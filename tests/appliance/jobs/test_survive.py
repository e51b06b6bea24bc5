"""Processes are killed at random moments, and every job ends complete, once, and as if nothing had happened."""

import pytest

from appliance.jobs.survive import Survival, read_packets, survive


def test_kills_at_random_moments_harm_no_job(tmp_path):
    outcome = survive(tmp_path / "run", repeats=2, kills_each=2, seed=4)

    assert outcome.faults == []
    assert outcome.hits >= 2
    assert outcome.jobs >= 1


@pytest.mark.slow
def test_many_kills_at_random_moments_harm_no_job(tmp_path):
    outcome = survive(tmp_path / "run", repeats=6, kills_each=1, seed=1)
    several = survive(tmp_path / "several", repeats=6, kills_each=4, seed=2)

    assert outcome.faults == several.faults == []
    assert outcome.hits + several.hits >= 12


def test_the_check_sees_what_went_wrong(tmp_path):
    survival = Survival(tmp_path / "run", seed=0)
    try:
        job = survival._add("job")
        result = survival._finish(job)
        packets = read_packets(result)
        result.with_name(".left.partial.mp4").write_bytes(b"half")
        (survival.queue.files(job.id).workspace).mkdir()
        survival._check(job, packets[:-1])
    finally:
        survival.close()

    assert survival.outcome.faults == [
        "job: the packets are not those of an uninterrupted run",
        "job: the folder of the result holds ['.left.partial.mp4', 'result.mp4']",
        "job: the workspace is still there",
    ]
