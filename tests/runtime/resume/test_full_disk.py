"""A full disk stops a job with a clear message; once there is space it resumes."""

import errno
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.enhance import enhance
from runtime.errors import OutputError
from runtime.options import EnhanceOptions
from runtime.resume.writer import SegmentRule

RULE = SegmentRule(5, 10)
OPTIONS = EnhanceOptions(preset="restore", threads=2)


class FullDisk:
    """Refuses to sync a file once a number of bytes have been synced, as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        sync = os.fsync

        def count(handle: int) -> None:
            self.room -= os.fstat(handle).st_size
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            sync(handle)

        monkeypatch.setattr(os, "fsync", count)


@pytest.mark.parametrize("room", [10_000, 30_000, 45_000, 60_000, 80_000, 120_000])
def test_a_full_disk_is_reported_and_nothing_is_lost(
    clip: Callable[..., Path], tmp_path: Path, packets: Callable[[Path], Any], room: int
) -> None:
    source = clip()
    enhance(source, tmp_path / "alone.mp4", OPTIONS, workspace=tmp_path / "alone", rule=RULE)
    arguments = {"workspace": tmp_path / "work", "rule": RULE}
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, room)
        with pytest.raises(
            OutputError, match=r"no space left for temporary files in .*; free some space and start the job again"
        ):
            enhance(source, tmp_path / "out.mp4", OPTIONS, **arguments)
    assert not (tmp_path / "out.mp4").exists()
    assert not list(tmp_path.rglob("*.part"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relume")]

    report = enhance(source, tmp_path / "out.mp4", OPTIONS, **arguments)

    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "alone.mp4")
    assert report.warnings == ()
    assert [path.name for path in (tmp_path / "work").rglob("*") if path.is_file()] == ["manifest.json"]


@pytest.mark.parametrize("most_bytes", [1500, 4000, 9000, 40_000])
def test_a_write_that_is_truncated_is_reported_and_nothing_is_lost(
    clip: Callable[..., Path], tmp_path: Path, packets: Callable[[Path], Any], most_bytes: int
) -> None:
    source = clip(scenes=(32,))
    enhance(source, tmp_path / "alone.mp4", OPTIONS, workspace=tmp_path / "alone", rule=RULE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        with pytest.raises(OutputError, match="no space left for temporary files in"):
            enhance(source, tmp_path / "out.mp4", OPTIONS, workspace=tmp_path / "work", rule=RULE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "alone.mp4", "in.mp4", "work"]

    enhance(source, tmp_path / "out.mp4", OPTIONS, workspace=tmp_path / "work", rule=RULE)

    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "alone.mp4")
    assert [path.name for path in (tmp_path / "work").rglob("*") if path.is_file()] == ["manifest.json"]
