"""Benchmarks time tasks in turn, and write the same rows as text and as JSON."""

import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks.host_path import run_pipeline
from benchmarks.measure import Row, format_rows, time_interleaved, write_rows
from benchmarks.pipeline import write_clip
from runtime.manifest import find_model


def test_works_run_in_turn_and_the_first_round_does_not_count():
    calls = []
    ticks = iter([0, 100, 100, 200, 200, 203, 203, 208, 208, 210, 210, 219])

    times = time_interleaved(
        [lambda: calls.append("a"), lambda: calls.append("b")], rounds=2, clock=lambda: next(ticks) / 1000
    )

    assert calls == ["a", "b"] * 3
    assert times == pytest.approx([2, 5])


def test_rows_show_the_share_of_the_floor_and_the_ratio_to_the_peer(tmp_path, monkeypatch):
    row = Row("copy", 4.0, 3.0, "peer", 10.0, "a note")
    monkeypatch.setattr(command, "_MEASURES", {"kernels": lambda: iter([row])})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "kernels", "--json", str(tmp_path / "rows.json")])

    command.main()

    assert json.loads((tmp_path / "rows.json").read_text()) == [
        {"name": "copy", "ms": 4.0, "floor_ms": 3.0, "peer": "peer", "peer_ms": 10.0, "note": "a note"}
    ]
    line = format_rows([row]).splitlines()[1].split()
    assert line == ["copy", "4.00", "75%", "peer", "10.0", "2.50", "a", "note"]
    write_rows(tmp_path / "none.json", [])
    assert (tmp_path / "none.json").read_text() == "[]\n"


def test_the_pipeline_runs_around_a_network_that_takes_no_time(tmp_path):
    write_clip(tmp_path / "in.mp4", width=96, height=64, frames=6)

    wall, processor, stages = run_pipeline(tmp_path / "in.mp4", find_model("light-restore").manifest.video, threads=2)

    assert wall > 0
    assert processor > 0
    assert {"decode", "colour", "flow", "engine", "encode"} <= stages.keys()
