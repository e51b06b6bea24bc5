"""A job that is killed at any step resumes, and its result is that of an uninterrupted job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILES = ["digests.json", "done.json", "out.mp4", "work/segments/manifest.json"]


@pytest.fixture
def survive(
    clip: Callable[..., Path],
    tmp_path: Path,
    kill_points: Callable[..., list[dict[str, Any]]],
    packets: Callable[[Path], Any],
) -> Callable[..., tuple[int, list[dict[str, Any]]]]:
    """Run jobs that are killed at the steps of each plan, and compare each with an uninterrupted one."""
    source = clip()

    def run(name: str, *plans: str) -> tuple[int, list[dict[str, Any]]]:
        alone, *killed = kill_points(source, tmp_path / name, "count", *plans)
        expected = packets(tmp_path / name / "000" / "out.mp4")
        content = (tmp_path / name / "000" / "out.mp4").read_bytes()
        assert len(alone["digests"]) == 5, "four segments and a track of sound"
        for number, job in enumerate(killed, 1):
            target = tmp_path / name / f"{number:03d}" / "out.mp4"
            assert job["digests"] == alone["digests"], f"segments differ after {job['plan']}"
            assert packets(target) == expected, f"packets differ after {job['plan']}"
            assert target.read_bytes() == content
            assert job["files"] == FILES, f"left over after {job['plan']}"
            assert job["equal"]
        return alone["steps"], killed

    return run


def test_a_job_that_is_killed_again_and_again_ends_complete(
    survive: Callable[..., tuple[int, list[dict[str, Any]]]],
) -> None:
    steps = [str(step) for step in range(1, 40)]

    _, jobs = survive("chains", ",".join(steps[9::3]), ",".join(steps[22::7]))

    assert all(job["killed"] >= 2 for job in jobs)
    assert all(job["resumes"] >= 1 for job in jobs)


def test_a_kill_in_the_last_steps_loses_and_leaves_nothing(
    survive: Callable[..., tuple[int, list[dict[str, Any]]]],
) -> None:
    total, _ = survive("alone")

    _, jobs = survive("last", *(str(total - back) for back in range(0, 16, 4)))

    assert all(job["killed"] == 1 for job in jobs)


@pytest.mark.slow
def test_a_kill_before_any_durable_step_loses_and_leaves_nothing(
    survive: Callable[..., tuple[int, list[dict[str, Any]]]],
) -> None:
    total, _ = survive("alone")

    _, jobs = survive("each", *(str(step) for step in range(1, total + 1)))

    assert len(jobs) == total > 40
    assert all(job["killed"] == 1 for job in jobs)
