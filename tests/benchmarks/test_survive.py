"""The command that kills jobs finds nothing lost, and would report a loss."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.survive import describe_moment


@pytest.mark.slow
def test_a_few_kills_at_random_moments_lose_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.survive", "--repeats", "4"],
        capture_output=True, text=True, timeout=900, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip

    summary = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert summary["problems"] == []
    assert summary["segments_and_packets_equal"]
    assert summary["kills"] >= 4


@pytest.mark.parametrize(
    ("manifest", "moment"),
    [
        (None, "nothing"),
        ({"sounds": []}, "sound"),
        ({"sounds": [1], "segments": [1, 2], "picture": None}, "2 segments"),
        ({"sounds": [1], "segments": [1], "picture": {"warnings": []}, "result": None}, "video complete"),
        ({"sounds": [1], "segments": [1], "picture": {}, "result": {"size_bytes": 1}}, "checked"),
    ],
)
def test_a_moment_is_described_by_the_workspace(tmp_path: Path, manifest: object, moment: str) -> None:
    folder = tmp_path / "work" / "segments"
    folder.mkdir(parents=True)
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps(manifest))

    assert describe_moment(tmp_path) == moment
