"""A result is published exactly once, wherever its worker is killed."""

import os
from pathlib import Path

import pytest

from appliance.jobs.job_files import remove_unfinished, staged_path
from appliance.jobs.lease import JobLease
from appliance.jobs.run_job import find_published, publish_once
from runtime.errors import OutputError


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it."""


@pytest.fixture
def strike(monkeypatch):
    """Kill before or after the n-th durable change on disk."""

    def arm(step, *, links):
        count = [0]

        def wrap(owner, name):
            real = getattr(owner, name)

            def wrapped(*arguments, **options):
                count[0] += 1
                if count[0] == step:
                    raise Killed
                if name == "link" and not links:
                    raise PermissionError(1, "Operation not permitted")
                answer = real(*arguments, **options)
                count[0] += 1
                if count[0] == step:
                    raise Killed
                return answer

            monkeypatch.setattr(owner, name, wrapped)

        for owner, name in ((os, "link"), (os, "replace"), (os, "unlink"), (os, "open"), (JobLease, "set_publication")):
            wrap(owner, name)

    yield arm
    monkeypatch.undo()


def attempt(queue, job, folder):
    """Perform a worker's steps once the result is complete."""
    result = find_published(queue.lease("cpu"), job.id)
    if result is None:
        result = publish_once(
            queue.lease("cpu"), job.id, staged_path(job, queue.files(job.id), ".mp4"), folder / "out.mp4"
        )
    remove_unfinished(job, queue.files(job.id))
    return result


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("step", range(1, 20))
def test_a_kill_at_any_step_leads_to_one_result(add, queue, tmp_path, monkeypatch, strike, step, links, taken):
    folder = tmp_path / "out"
    folder.mkdir()
    if taken:
        (folder / "out.mp4").write_text("someone else's")
    job = add(target=folder / "out.mp4")
    queue.lease("cpu").claim()
    staged_path(job, queue.files(job.id), ".mp4").write_text("the result")
    strike(step, links=links)

    try:
        attempt(queue, job, folder)
        killed = False
    except Killed:
        killed = True
    monkeypatch.undo()
    if killed:
        queue.lease("cpu").release()
        queue.lease("cpu").claim()
    result = attempt(queue, job, folder)

    name = "out (2).mp4" if taken else "out.mp4"
    assert result == folder / name
    assert result.read_text() == "the result"
    assert sorted(path.name for path in folder.iterdir()) == sorted({"out.mp4", name})
    assert killed or step > 6


def test_a_result_that_its_user_has_moved_away_is_not_recreated(add, queue, tmp_path):
    job = add(target=tmp_path / "out.mp4")
    queue.lease("cpu").claim()
    staged_path(job, queue.files(job.id), ".mp4").write_text("the result")
    result = attempt(queue, job, tmp_path)
    result.rename(tmp_path / "elsewhere.mp4")

    assert find_published(queue.lease("cpu"), job.id) == tmp_path / "out.mp4"


def test_another_file_under_the_noted_name_is_not_treated_as_the_result(add, queue, tmp_path, monkeypatch):
    job = add(target=tmp_path / "out.mp4")
    queue.lease("cpu").claim()
    staged = staged_path(job, queue.files(job.id), ".mp4")
    staged.write_text("the result")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        attempt(queue, job, tmp_path)
    monkeypatch.undo()
    (tmp_path / "out.mp4").write_text("not the result")

    result = attempt(queue, job, tmp_path)

    assert result.name == "out (2).mp4"
    assert (tmp_path / "out.mp4").read_text() == "not the result"


def test_a_folder_that_takes_no_file_is_reported(add, queue, tmp_path, monkeypatch):
    job = add(target=tmp_path / "out.mp4")
    queue.lease("cpu").claim()
    staged_path(job, queue.files(job.id), ".mp4").write_text("the result")

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(OutputError, match="cannot be written: Read-only file system"):
        attempt(queue, job, tmp_path)

    assert not Path(tmp_path / "out.mp4").exists()
