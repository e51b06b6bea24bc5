import os
import socket
from pathlib import Path

import pytest

from appliance.watch.folder import FolderConfig
from appliance.watch.path_rules import identity
from appliance.watch.scan import scan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def look(folder: Path, **changes):
    excluded = changes.pop("excluded", ())
    return scan(FolderConfig(folder, folder.parent / "out", **changes), excluded=excluded)


def test_files_are_found_at_any_depth_with_their_size_and_time(folder):
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/b/clip.mp4").write_bytes(b"12345")
    os.utime(folder / "a/b/clip.mp4", ns=(1, 2_000_000_001))

    found = look(folder).files

    assert set(found) == {"a/b/clip.mp4"}
    assert (found["a/b/clip.mp4"].size, found["a/b/clip.mp4"].mtime_ns) == (5, 2_000_000_001)


def test_a_folder_named_like_a_video_is_entered(folder):
    (folder / "film.mp4").mkdir()
    (folder / "film.mp4/clip.mov").touch()

    assert set(look(folder).files) == {"film.mp4/clip.mov"}


def test_hidden_and_excluded_folders_are_not_entered(folder):
    for name in (".trash", "proxy", "camera"):
        (folder / name).mkdir()
        (folder / name / "clip.mp4").touch()

    assert set(look(folder, exclude=("proxy",)).files) == {"camera/clip.mp4"}


def test_a_folder_that_is_a_destination_under_another_path_is_not_entered(folder):
    (folder / "mounted").mkdir()
    (folder / "mounted/clip.mp4").touch()

    assert not look(folder, excluded={identity(folder / "mounted")}).files


def test_what_is_no_file_is_named_with_its_reason(folder):
    os.mkfifo(folder / "pipe.mp4")
    # A socket's path is at most 108 bytes, so it is bound by a short one.
    handle = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{handle}/socket.mp4")
        os.close(handle)
        faults = look(folder).faults

    assert faults == {"pipe.mp4": "it is a pipe, expected a file", "socket.mp4": "it is a socket, expected a file"}


def test_links_are_not_followed_and_those_that_leave_the_folder_are_named(folder):
    (folder.parent / "secret").mkdir()
    (folder.parent / "secret/film.mp4").touch()
    (folder / "real.mp4").touch()
    (folder / "inside.mp4").symlink_to(folder / "real.mp4")
    (folder / "outside.mp4").symlink_to(folder.parent / "secret/film.mp4")
    (folder / "way").symlink_to(folder.parent / "secret")
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.mp4").symlink_to(folder / "missing.mp4")

    found = look(folder)

    assert set(found.files) == {"real.mp4"}
    assert set(found.faults) == {"outside.mp4", "way"}


def test_a_name_that_is_no_text_is_named_in_escapes(folder):
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb"):
        pass
    (folder / "line\nbreak.mp4").touch()

    found = look(folder)

    assert set(found.files) == {"line\nbreak.mp4"}
    assert found.faults == {r"caf\xe9.mp4": "its name is not valid Unicode; rename it"}


def test_temporary_names_and_sidecars_are_no_files(folder):
    for name in ("a.mp4.part", ".b.mp4", "c.mp4", "c.mp4.ready", "d.mp4", "d.mp4.done", "e.mp4"):
        (folder / name).touch()

    found = look(folder, include=("*",))

    assert {name: file.sidecar for name, file in found.files.items()} == {
        "c.mp4": "c.mp4.ready", "d.mp4": "d.mp4.done", "e.mp4": None,
    }  # fmt: skip
    assert len(found.unfinished) == 2


def test_a_sidecar_older_than_its_file_is_ignored(folder):
    (folder / "a.mp4.ready").touch()
    os.utime(folder / "a.mp4.ready", ns=(5, 5))
    (folder / "a.mp4").touch()

    assert look(folder).files["a.mp4"].sidecar is None


def test_a_missing_folder_and_a_file_in_its_place_are_reported(folder):
    folder.rmdir()
    assert "No such file" in look(folder).missing
    folder.touch()
    assert "Not a directory" in look(folder).missing


def test_folders_that_may_not_be_read_are_named(folder, monkeypatch):
    (folder / "closed").mkdir()
    (folder / "clip.mp4").touch()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):  # root may read everything, so the refusal is simulated
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = look(folder)

    assert set(found.files) == {"clip.mp4"}
    assert found.faults == {"closed": "the folder cannot be read: Permission denied; check its permissions"}


def test_very_deep_folders_end_the_descent_and_are_named(folder):
    path = folder
    for _ in range(70):
        path = path / "d"
    path.mkdir(parents=True)

    found = look(folder)

    assert len(found.folders) == 61
    assert any("folders deep" in reason for reason in found.faults.values())


def test_files_that_are_skipped_for_their_names_are_named(folder):
    for name in ("clip.wma", "notes.txt", "a.bin", ".hidden.txt", "copy.part", "clip.wma.ready", "trash/x.doc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"1")

    found = look(folder, exclude=("trash",))

    assert set(found.files) == {"clip.wma"}
    assert sorted(found.passed_over) == ["a.bin", "notes.txt"]
    # An include pattern already determines what counts.
    assert look(folder, include=("*.wma",)).passed_over == []


@pytest.mark.parametrize(
    "suffixes",
    [
        ".wma .m4b .m2t .mod .tod .f4v .m2v .vro .dat .divx .qt .aifc .spx .dts .dav",
        ".mjpeg .gif .apng .voc .sph .gsm .g722 .latm .thd .tak .dss .mp2 .bwf .trp",
        ".mp4 .MP4 .mkv .webm .mov .avi .ts .m2ts .mts .mpg .vob .flv .wmv .asf .mxf .gxf .dv .nut .3gp .rmvb .y4m",
        ".ogg .oga .ogv .opus .wav .w64 .aif .au .caf .flac .mp3 .aac .m4a .mka .ac3 .eac3 .amr .ape .tta .wv .mpc",
    ],
)
def test_every_suffix_of_what_can_be_read_is_taken(folder, suffixes):
    for suffix in suffixes.split():
        (folder / f"a{suffix}").write_bytes(b"1")

    assert sorted(look(folder).files) == sorted(f"a{suffix}" for suffix in suffixes.split())
