import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.watch import job_tracker
from appliance.watch.job_tracker import move_original
from runtime.errors import OutputError


@dataclass
class Place:
    """An original and its folder for processed originals."""

    root: Path
    done: Path

    @property
    def original(self) -> Path:
        return self.root / "in/deep/a.mp4"

    def move(self) -> Path:
        return move_original(self.original, "deep/a.mp4", self.done)


@pytest.fixture(params=["one disk", "two disks", "no hard links"])
def place(request, tmp_path, monkeypatch):
    """Yield an original; the done folder is beside it, on another disk, or on one without hard links."""
    place = Place(tmp_path, tmp_path / "done")
    place.original.parent.mkdir(parents=True)
    place.original.write_bytes(b"original")
    os.utime(place.original, ns=(1, 2_000_000_003))
    if request.param == "two disks":
        other = Path("/dev/shm")
        if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system")
        with tempfile.TemporaryDirectory(dir=other) as folder:
            place.done = Path(folder) / "done"
            yield place
        return
    if request.param == "no hard links":

        def refuse(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(job_tracker.os, "link", refuse)
    yield place


def test_an_original_keeps_its_place_content_and_time(place):
    moved = place.move()

    assert moved == place.done / "deep/a.mp4"
    assert (moved.read_bytes(), moved.lstat().st_mtime_ns) == (b"original", 2_000_000_003)
    assert not place.original.exists()
    assert [path.name for path in (place.done / "deep").iterdir()] == ["a.mp4"]


def test_nothing_is_replaced(place):
    (place.done / "deep").mkdir(parents=True)
    (place.done / "deep/a.mp4").write_bytes(b"another")

    assert place.move().name == "a.2.mp4"
    assert (place.done / "deep/a.mp4").read_bytes() == b"another"


def test_a_move_that_was_stopped_before_its_last_step_is_ended(place):
    (place.done / "deep").mkdir(parents=True)
    shutil.copy2(place.original, place.done / "deep/a.mp4")

    assert place.move().name == "a.mp4"
    assert [path.name for path in (place.done / "deep").iterdir()] == ["a.mp4"]
    assert not place.original.exists()


def test_an_original_that_cannot_be_removed_stays_alone(place, monkeypatch):
    unlink = os.unlink

    def refuse(path, **options):
        if str(path).endswith("in/deep/a.mp4"):
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(job_tracker.os, "unlink", refuse)
    with pytest.raises(OutputError, match=r"the original cannot be (moved|removed)"):
        place.move()

    assert place.original.read_bytes() == b"original"
    assert not list((place.done / "deep").iterdir())


def test_a_full_disk_leaves_the_original_and_nothing_else(place, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_tracker.shutil, "copy2", refuse)
    monkeypatch.setattr(job_tracker.os, "link", refuse)
    with pytest.raises(OutputError, match="No space left on device"):
        place.move()

    assert place.original.read_bytes() == b"original"
    assert not list((place.done / "deep").iterdir())


def test_a_link_in_the_done_folder_is_not_followed(tmp_path):
    (tmp_path / "in/day").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "done/day").symlink_to(tmp_path / "elsewhere")
    path = tmp_path / "in/day/clip.mp4"
    path.write_bytes(b"film")

    with pytest.raises(OutputError, match=r"done/day is a link, expected a folder"):
        move_original(path, "day/clip.mp4", tmp_path / "done")

    assert path.read_bytes() == b"film"
    assert list((tmp_path / "elsewhere").iterdir()) == []
