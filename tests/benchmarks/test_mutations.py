"""A job on a damaged file ends in one of two ways, and the command that checks this notices any other."""

from pathlib import Path

import pytest

from benchmarks import mutations
from benchmarks.mutations import CONTAINERS, Limits, make_clip, mutate, run_all, try_file


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    made = [folder / f"made{suffix}" for suffix in CONTAINERS]
    for path in made:
        make_clip(path, frames=5)
    return made


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_mutated_clips_are_enhanced_or_refused(clips: list[Path], count: int) -> None:
    summary = run_all(clips, count=count, seed=3, limits=Limits())

    assert summary.problems == []
    assert summary.runs == count
    assert set(summary.exit_codes) == {0, 3}


def test_the_same_seed_gives_the_same_files(clips: list[Path]) -> None:
    files = [mutate(clips, number, seed=1) for number in range(20)]

    assert files == [mutate(clips, number, seed=1) for number in range(20)]
    assert len({name for _, name, _ in files}) == 8
    unchanged = {clip.read_bytes() for clip in clips}
    assert sum(data not in unchanged for _, _, data in files) >= 18


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("import os; os.abort()", "ended by signal 6"),
        ("import sys; sys.exit(1)", "exit code 1"),
        ("import time; time.sleep(60)", "ended by signal 9"),
        ("print('Traceback (most recent call last):')", "printed a traceback"),
        ("import sys; open(sys.argv[4] + '.part', 'w'); sys.exit(3)", "left result.mkv.part"),
        ("import sys; open(sys.argv[4], 'w'); sys.exit(3)", "refused the source, but wrote a result"),
        ("pass", "exit code 0 without a result"),
        ("import sys; open(sys.argv[4], 'w').write('no media')", "the result does not decode"),
    ],
)
def test_a_wrong_end_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, problem: str) -> None:
    monkeypatch.setattr(mutations, "_RELUME", program)
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"anything")

    run = try_file(source, "none", tmp_path / "run", conceal=False, limits=Limits(timeout_s=2.0))

    assert run.problem.startswith(problem), run.problem


def test_memory_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        mutations, "_RELUME", "kept = bytearray(200_000_000); import sys, time; time.sleep(0.5); sys.exit(3)"
    )
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"anything")

    run = try_file(source, "none", tmp_path / "run", conceal=False, limits=Limits(memory_bytes=100 << 20))

    assert run.problem.startswith("used 2")
