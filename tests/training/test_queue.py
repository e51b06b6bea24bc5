"""The training queue resumes stopped trainings, skips failures, and plots the results."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training.__main__ import main
from training.loop import Recipe
from training.queue import QueueError, load_queue, read_state, run_queue, write_curves

ROOT = Path(__file__).parents[2]
RECIPE = """
name = "{name}"
iterations = {iterations}
batch = 1
learning_rate = 1e-3
checkpoint_every = 1000
validate_every = 1000
[task]
scale = 2
channels = 4
blocks = 1
frames = 2
crop = 16
photo_share = 0.0
clip_side = 200
photo_side = 200
clip_frames = 8
held_out_side = 64
held_out = ["a.mp4"]
"""


def write_queue(folder, **iterations):
    for name, count in iterations.items():
        (folder / f"{name}.toml").write_text(RECIPE.format(name=name, iterations=count))
    queue = folder / "queue.toml"
    queue.write_text(f"recipes = {json.dumps([f'{name}.toml' for name in iterations])}\n")
    return queue


def test_the_shipped_queue_lists_recipes_that_exist():
    assert load_queue(ROOT / "training" / "recipes" / "queue.toml")


def test_a_missing_recipe_is_named(tmp_path):
    queue = tmp_path / "queue.toml"
    queue.write_text('recipes = ["none.toml"]\n')

    with pytest.raises(QueueError, match=r"recipes that do not exist: none\.toml"):
        load_queue(queue)


def test_recipes_are_trained_in_order_and_a_failure_does_not_stop_the_queue(tmp_path, media, caplog):
    queue = write_queue(tmp_path, first=3, second=2)
    (tmp_path / "first.toml").write_text(RECIPE.format(name="first", iterations=3).replace("scale = 2", "scale = 0"))
    runs = tmp_path / "runs"

    code = run_queue(load_queue(queue), runs, ["--media", str(media), "--threads", "1"])

    assert code == 1
    assert "first failed" in caplog.text
    assert not (runs / "first" / "last.pt").exists()
    assert torch.load(runs / "second" / "last.pt", weights_only=True)["iteration"] == 2
    page = (runs / "curves.html").read_text()
    assert "second" in page
    assert "<svg" in page


def test_a_stopped_queue_keeps_its_iterations_and_resumes(tmp_path, media):
    queue = write_queue(tmp_path, long=100_000)
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "training", "queue", str(queue), "--media", str(media), "--runs", str(runs)]
    log = runs / "long" / "log.jsonl"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

    kept = torch.load(runs / "long" / "last.pt", weights_only=True)
    assert process.returncode == 128 + signal.SIGTERM
    assert kept["iteration"] >= 50
    state = read_state(Recipe(name="long", iterations=100_000, batch=1, learning_rate=1.0), runs)
    assert not state.is_complete
    assert state.iteration in range(50, kept["iteration"] + 1)


def test_two_queues_do_not_share_a_folder(tmp_path, media, capsys):
    import fcntl

    queue, runs = write_queue(tmp_path, one=1), tmp_path / "runs"
    runs.mkdir()
    with (runs / "queue.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code = main(["queue", str(queue), "--media", str(media), "--runs", str(runs)])

    assert code == 2
    assert "another training queue uses" in capsys.readouterr().err


def test_hours_are_counted_over_restarts(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [
        {"iteration": 50, "seconds": 1800.0, "loss": 1.0},
        {"iteration": 100, "seconds": 3600.0, "loss": 0.9},
        {"iteration": 100, "valid_score": 0.2},
        {"iteration": 150, "seconds": 1800.0, "loss": 0.8},
        {"iteration": 150, "valid_score": 0.1},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = tmp_path / "run.toml"
    recipe.write_text(RECIPE.format(name="run", iterations=150))

    state = read_state(Recipe(name="run", iterations=150, batch=1, learning_rate=1.0), tmp_path)

    assert (state.hours, state.score, state.iteration, state.is_complete) == (1.5, 0.2, 150, True)
    assert write_curves([recipe], tmp_path).read_text().count("<svg") == 1
