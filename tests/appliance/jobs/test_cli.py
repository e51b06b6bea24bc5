"""`relume jobs`: the queue from the command line, with or without a server."""

import json
import string
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.jobs.cli import app
from appliance.jobs.errors import JobNotFoundError, JobStateError
from appliance.jobs.job import JobState
from appliance.store.errors import StoreError
from runtime.errors import OptionError
from runtime.progress import Progress


@pytest.fixture
def jobs(data):
    """Run a subcommand; its exceptions are raised here."""

    def run(*words):
        return CliRunner().invoke(app, [*words, "--data", str(data)], catch_exceptions=False).output.rstrip("\n")

    return run


def test_the_list_shows_state_and_progress(add, queue, jobs):
    add("second.mp4")
    job = add("first.mp4", priority=1)
    queue.lease("cpu").claim()
    queue.lease("cpu").progress(job.id, Progress("enhancing", 50, 200, 12.5, 12.0))
    queue.pause(job.id)

    shown = jobs("list")

    first, second = (line.split() for line in shown.splitlines()[1:])
    assert " ".join(first[:9]) == f"{job.id} running (pause requested) enhancing, 25%, 12.5 fps, 0:12"
    assert first[-2:] == ["command", "first.mp4"]
    assert second[-1] == "second.mp4", "what runs comes first, then what is queued"
    assert [row["title"] for row in json.loads(jobs("list", "--state", "queued,paused", "--json"))] == ["second.mp4"]
    assert jobs("list", "--text", "nothing such") == "no jobs"


def test_a_job_is_controlled_by_the_beginning_of_its_id(add, queue, jobs):
    job = add("a.mp4")

    assert jobs("pause", job.id[:6]) == f"a.mp4 ({job.id}) is paused"
    assert jobs("resume", job.id) == f"a.mp4 ({job.id}) is queued"
    assert jobs("cancel", job.id) == f"a.mp4 ({job.id}) is cancelled"
    assert jobs("retry", job.id) == f"a.mp4 ({job.id}) is queued"
    queue.lease("cpu").claim()
    assert jobs("cancel", job.id).endswith("is running; cancel requested")
    queue.lease("cpu").fail(job.id, "no space is left")
    assert "no space is left" in jobs("show", job.id)
    assert json.loads(jobs("show", job.id, "--json"))["message"] == "no space is left"
    assert jobs("remove", job.id) == f"deleted a.mp4 ({job.id})"
    assert queue.list() == []


def test_a_name_that_is_no_text_is_shown_as_well_as_it_can_be(add, jobs):
    job = add("caf\udce9.mp4", source=Path("/films/caf\udce9.mp4"))

    assert "/films/caf?.mp4" in jobs("show", job.id)
    assert json.loads(jobs("list", "--json"))[0]["source"] == "/films/caf?.mp4"


def test_errors_are_reported(add, queue, jobs, data, tmp_path):
    job = add("a.mp4")

    with pytest.raises(JobStateError, match="is queued; cancel it before removing it"):
        jobs("remove", job.id)
    with pytest.raises(JobNotFoundError, match="no job matches 'nowhere'"):
        jobs("show", "nowhere")
    with pytest.raises(OptionError, match="unknown state 'dnoe'; there are: queued, running"):
        jobs("list", "--state", "dnoe")
    for _ in range(70):
        add("more")
    first = next(letter for letter in string.ascii_letters + string.digits if len(queue.with_id_like(letter)) > 1)
    with pytest.raises(JobNotFoundError, match=f"jobs match {first!r}; type more characters of the id"):
        jobs("show", first)
    with pytest.raises(StoreError, match=r"there is no queue in .*; set the data directory with --data"):
        CliRunner().invoke(app, ["list", "--data", str(tmp_path / "mistyped")], catch_exceptions=False)
    assert not (tmp_path / "mistyped").exists()
    assert queue.get(job.id).state is JobState.QUEUED
    assert (data / "relume.db").exists()


def test_help_is_there_without_anything_heavy():
    import subprocess
    import sys

    program = (
        "import sys, appliance.jobs.cli\n"
        "heavy = {'numpy', 'av', 'pydantic', 'sqlite3', 'fastapi', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[3], check=True)
