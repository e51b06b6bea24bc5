import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.watch.errors import FolderError
from appliance.watch.folder import FolderConfig, Schedule
from appliance.watch.path_rules import check_folder, read_mounts
from runtime.options import EnhanceOptions

MOUNTS = read_mounts("27 1 254:0 / / rw - ext4 /dev/vda rw\n")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("in/sub", "out", "other", "data"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def check(config: FolderConfig, *others: FolderConfig, data: Path | None = None, mounts=MOUNTS) -> None:
    check_folder(config, others, data=data, mounts=mounts)


def test_folders_side_by_side_are_accepted(folders):
    config = FolderConfig(folders / "in", folders / "out", schedule=Schedule.parse("22:00", "06:00"))
    other = FolderConfig(folders / "other", folders / "out")

    check(config, other, data=folders / "data")


@pytest.mark.parametrize("name", ["in", "in/results", "in/sub/deep/er", "in/../in/sub"])
def test_a_destination_in_the_watch_folder_is_refused(folders, name):
    with pytest.raises(FolderError, match=r"results would be found as new files"):
        check(FolderConfig(folders / "in", folders / name))


def test_a_destination_in_the_watch_folder_is_accepted_where_it_is_excluded(folders):
    check(FolderConfig(folders / "in", folders / "in/results", exclude=("results",)))
    with pytest.raises(FolderError, match=r"is inside the watch folder"):
        check(FolderConfig(folders / "in", folders / "in/results", exclude=("result",)))


def test_a_destination_behind_a_link_is_refused(folders):
    (folders / "way").symlink_to(folders / "in/sub")

    with pytest.raises(FolderError, match=r"results would be found as new files"):
        check(FolderConfig(folders / "in", folders / "way"))


def test_a_destination_behind_a_bind_mount_is_refused(folders):
    text = f"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 254:0 {folders}/in/sub {folders}/other rw - ext4 /dev/vda rw\n"

    with pytest.raises(FolderError, match=r"results would be found as new files"):
        check(FolderConfig(folders / "in", folders / "other/deep"), mounts=read_mounts(text))


def test_a_real_bind_mount_is_refused(folders):
    mounted = subprocess.run(
        ["mount", "--bind", folders / "in/sub", folders / "other"], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        for mounts in (None, ()):  # reported by the kernel, or found by the inode where it does not report it
            with pytest.raises(FolderError, match=r"results would be found as new files"):
                check_folder(FolderConfig(folders / "in/sub", folders / "other"), [], data=None, mounts=mounts)
        with pytest.raises(FolderError, match=r"results would be found as new files"):
            check_folder(FolderConfig(folders / "in", folders / "other"), [], data=None)
    finally:
        subprocess.run(["umount", folders / "other"], check=True)


def test_a_watch_folder_in_the_destination_is_refused(folders):
    with pytest.raises(FolderError, match=r"is inside the destination"):
        check(FolderConfig(folders / "in/sub", folders / "in"))


def test_what_one_folder_writes_is_not_watched_by_another(folders):
    first = FolderConfig(folders / "in", folders / "out")

    with pytest.raises(FolderError, match=r"is inside the watch folder"):
        check(FolderConfig(folders / "other", folders / "in/sub"), first)
    with pytest.raises(FolderError, match=r"results would be found as new files"):
        check(FolderConfig(folders / "out", folders / "other"), first)
    (folders / "out/deep").mkdir()
    with pytest.raises(FolderError, match=r"is inside the destination"):
        check(FolderConfig(folders / "out/deep", folders / "other"), first)


def test_the_done_folder_is_held_to_the_same_rules(folders):
    with pytest.raises(FolderError, match=r"done folder .* is inside the watch folder"):
        check(FolderConfig(folders / "in", folders / "out", done_folder=folders / "in/done"))
    with pytest.raises(FolderError, match=r"both the destination and the done folder"):
        check(FolderConfig(folders / "in", folders / "out", done_folder=folders / "out"))
    check(FolderConfig(folders / "in", folders / "out", done_folder=folders / "in/done", exclude=("done",)))


def test_nested_watch_folders_are_refused_unless_the_outer_one_excludes_the_inner(folders):
    outer = FolderConfig(folders / "in", folders / "out")
    inner = FolderConfig(folders / "in/sub", folders / "other")

    with pytest.raises(FolderError, match=r"would be processed twice"):
        check(inner, outer)
    with pytest.raises(FolderError, match=r"would be processed twice"):
        check(outer, inner)
    check(inner, replace(outer, exclude=("sub",)))
    with pytest.raises(FolderError, match=r"is already watched"):
        check(replace(outer, destination=folders / "other"), outer)


def test_the_data_directory_is_neither_watched_nor_written_to(folders):
    data = folders / "in/sub"
    with pytest.raises(FolderError, match=r"contains Relume's own data"):
        check(FolderConfig(folders / "in", folders / "out"), data=data)
    (data / "results").mkdir()
    with pytest.raises(FolderError, match=r"is inside Relume's own data"):
        check(FolderConfig(data / "results", folders / "out"), data=data)
    with pytest.raises(FolderError, match=r"is inside Relume's own data"):
        check(FolderConfig(folders / "other", data / "results"), data=data)


def test_values_out_of_their_range_are_refused(folders):
    good = FolderConfig(folders / "in", folders / "out")
    (folders / "file").write_text("x")
    surrogate = Path(os.fsdecode(b"/srv/\xff"))
    for config, words in (
        (replace(good, path=folders / "missing"), "does not exist"),
        (replace(good, path=Path("in")), "type the full path, beginning with /"),
        (replace(good, destination=folders / "file"), "is a file; choose a folder"),
        (replace(good, destination=surrogate), "not valid Unicode"),
        (replace(good, hold_s=-1.0), "waiting time is -1 s"),
        (replace(good, hold_s=float("nan")), "waiting time is nan"),
        (replace(good, include=("",)), "include or exclude is empty"),
        (replace(good, options=EnhanceOptions(overwrite=True)), "never overwrites"),
    ):
        with pytest.raises(FolderError, match=words):
            check(config)
