import os
import re
import socket
from pathlib import Path

import pytest

from runtime.safe_open import NotPlainError, make_plain_folder, open_plain


def read(handle: int) -> bytes:
    with open(handle, "rb") as file:
        return file.read()


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_below_a_folder_is_opened_for_reading(tmp_path: Path) -> None:
    path = tmp_path / "a/b/clip.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"film")

    before = open_handles()
    assert read(open_plain(path, below=tmp_path)) == b"film"
    assert read(open_plain(path)) == b"film"
    assert open_handles() == before


def test_the_folder_itself_may_be_reached_over_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/clip.mp4").write_bytes(b"film")
    (tmp_path / "in").symlink_to(tmp_path / "disk")

    assert read(open_plain(tmp_path / "in/clip.mp4", below=tmp_path / "in")) == b"film"


@pytest.mark.parametrize("place", ["secret", "in/other.mp4"])
def test_a_link_below_the_folder_is_never_followed(tmp_path: Path, place: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / place).write_bytes(b"key")
    (tmp_path / "in/clip.mp4").symlink_to(tmp_path / place)

    before = open_handles()
    with pytest.raises(NotPlainError, match="it is a link, expected a file"):
        open_plain(tmp_path / "in/clip.mp4", below=tmp_path / "in")
    assert open_handles() == before
    assert read(open_plain(tmp_path / "in/clip.mp4")) == b"key"  # as typed by the user


def test_a_folder_on_the_way_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/clip.mp4").write_bytes(b"key")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/day").symlink_to(tmp_path / "secret")

    before = open_handles()
    with pytest.raises(NotPlainError, match=re.escape(f"{tmp_path}/in/day is a link, expected a folder")):
        open_plain(tmp_path / "in/day/clip.mp4", below=tmp_path / "in")
    assert open_handles() == before


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a folder"])
@pytest.mark.parametrize("bounded", [True, False])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, kind: str, bounded: bool) -> None:
    path = tmp_path / "clip.mp4"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "a folder":
        path.mkdir()
    else:
        path = Path("/dev/null")

    before = open_handles()
    with pytest.raises(NotPlainError, match=f"it is {kind}, expected a file"):
        open_plain(path, below=path.parent if bounded else None)
    assert open_handles() == before


@pytest.mark.parametrize("name", ["../clip.mp4", "in/../../clip.mp4"])
def test_a_file_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "clip.mp4").write_bytes(b"film")

    with pytest.raises(NotPlainError, match="it is not below"):
        open_plain(tmp_path / "in" / name, below=tmp_path / "in")
    with pytest.raises(NotPlainError, match="it is not below"):
        open_plain(tmp_path / "clip.mp4", below=tmp_path / "in")


def test_a_missing_file_is_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "a/none.mp4", below=tmp_path)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "none.mp4")


def test_a_file_stays_the_same_after_its_name_was_given_to_another(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"film")
    handle = open_plain(path, below=tmp_path)
    path.unlink()
    path.write_bytes(b"other")

    assert read(handle) == b"film"


def test_folders_are_made_without_following_links(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_plain_folder(out / "a/b", below=out)
    make_plain_folder(out / "a/b", below=out)
    assert (out / "a/b").is_dir()

    (tmp_path / "elsewhere").mkdir()
    (out / "c").symlink_to(tmp_path / "elsewhere")
    (out / "d").write_bytes(b"")
    before = open_handles()
    with pytest.raises(NotPlainError, match=r"out/c is a link, expected a folder"):
        make_plain_folder(out / "c/day", below=out)
    with pytest.raises(NotPlainError, match=r"out/d is a file, expected a folder"):
        make_plain_folder(out / "d/day", below=out)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert open_handles() == before
