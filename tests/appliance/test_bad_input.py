"""Every bad input: one clear line, its exit code, nothing left behind, the source untouched."""

import ctypes
import hashlib
import os
import resource
import shutil

import av
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("runtime.enhance")


def _state(folder):
    """Everything under a folder: names, and the content of files."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def _refuse(relume, folder, *arguments, code, words, **options):
    before = _state(folder)

    done = relume("enhance", *arguments, **options)

    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("relume: ")
    for word in words:
        assert word in last
    assert _state(folder) == before


@pytest.fixture
def bad(tmp_path, clip_bytes, write_clip):
    """Return a function that creates a bad source of a kind."""

    def picture(path):
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path, format="PNG")

    def no_packets(path):
        with av.open(str(path), "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()

    def one_pixel(path):
        write_clip(path.with_suffix(".mkv"), size=(1, 1), codec="ffv1", pixel_format="yuv444p")
        path.with_suffix(".mkv").rename(path)

    makers = {
        "empty": lambda path: path.write_bytes(b""),
        "text": lambda path: path.write_text("Not a film at all.\n" * 40),
        "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(4096)),
        "truncated": lambda path: path.write_bytes(clip_bytes[: len(clip_bytes) // 2]),
        "picture": picture,
        "folder": lambda path: path.mkdir(),
        "unknown codec": lambda path: path.write_bytes(clip_bytes.replace(b"avc1", b"zzz9")),
        "no packets": no_packets,
        "one pixel": one_pixel,
        "missing": lambda _: None,
        "playlist": lambda path: path.write_text("#EXTM3U\nhttp://127.0.0.1/a.ts\n"),
    }

    def make(kind):
        path = tmp_path / "bad.mp4"
        makers[kind](path)
        return path

    return make


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", ["is empty"]),
        ("text", ["is a text file"]),
        ("noise", ["not a media file"]),
        ("truncated", ["truncated"]),
        ("picture", ["is a still image (PNG)"]),
        ("folder", ["is a folder"]),
        ("unknown codec", ["unknown codec"]),
        ("no packets", []),
        ("one pixel", ["1x1"]),
        ("missing", ["does not exist"]),
        ("playlist", ["is a playlist"]),
    ],
)
def test_a_source_that_is_not_media_is_refused(relume, tmp_path, bad, kind, words):
    source = bad(kind)

    _refuse(relume, tmp_path, source, "-o", tmp_path / "out.mp4", code=3, words=["bad.mp4", *words])


def _without_roots_rights():
    """Drop root's right to ignore permissions: containers run tests as root."""
    drop, rights = 24, (1, 2)  # PR_CAPBSET_DROP; CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    for right in rights:
        ctypes.CDLL(None).prctl(drop, right, 0, 0, 0)


@pytest.mark.parametrize(
    ("forbidden", "code", "words"),
    [
        ("clip.mp4", 3, "clip.mp4 cannot be read: Permission denied"),
        ("source folder", 3, "clip.mp4"),
        ("target folder", 4, "target folder"),
    ],
)
def test_without_permission_it_is_reported(relume, clip, tmp_path, forbidden, code, words):
    for name in ("source folder", "target folder"):
        (tmp_path / name).mkdir()
    source = clip.rename(tmp_path / "source folder" / "clip.mp4") if "source" in forbidden else clip
    (tmp_path / forbidden).chmod(0)

    arguments = [source, "-o", tmp_path / "target folder" / "out.mp4"]
    done = relume("enhance", *arguments, preexec_fn=_without_roots_rights)
    (tmp_path / forbidden).chmod(0o700)

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1 or "opening" in done.stderr
    assert list((tmp_path / "target folder").iterdir()) == []


@pytest.mark.parametrize("form", ["same path", "symbolic link", "hard link", "dotted path"])
def test_the_source_is_never_the_result(relume, clip, tmp_path, form):
    target = tmp_path / "other.mp4"
    if form == "same path":
        target = clip
    elif form == "symbolic link":
        target.symlink_to(clip)
    elif form == "hard link":
        target.hardlink_to(clip)
    else:
        (tmp_path / "folder").mkdir()
        target = tmp_path / "folder" / ".." / clip.name

    _refuse(relume, tmp_path, clip, "-o", target, "--overwrite", code=4, words=["source"])


@pytest.mark.parametrize("option", ["--report", "--compare"])
@pytest.mark.parametrize("linked", [False, True])
def test_the_source_is_never_a_side_file(relume, clip, tmp_path, option, linked):
    path = clip
    if linked:
        path = tmp_path / "link"
        path.symlink_to(clip)
    arguments = [clip, "-o", tmp_path / "out.mp4", option, path, "--overwrite"]

    _refuse(relume, tmp_path, *arguments, code=2, words=["is the source itself"])


@pytest.mark.parametrize("other", ["result", "report"])
def test_no_two_results_have_one_name(relume, clip, tmp_path, other):
    result, report = tmp_path / "out.mp4", tmp_path / "out.json"
    look = result if other == "result" else report
    arguments = [clip, "-o", result, "--report", report, "--compare", look, "--overwrite"]

    _refuse(relume, tmp_path, *arguments, code=2, words=[f"is the {other} itself"])


def test_a_result_that_exists_is_kept(relume, clip, tmp_path):
    (tmp_path / "out.mp4").write_text("precious")

    _refuse(relume, tmp_path, clip, "-o", tmp_path / "out.mp4", code=4, words=["out.mp4 already exists", "overwrit"])


def test_an_existing_report_is_kept_and_reported_before_the_work(relume, clip, tmp_path):
    (tmp_path / "a.json").write_text("precious")
    arguments = [clip, "-o", tmp_path / "out.mp4", "--report", tmp_path / "a.json"]

    _refuse(relume, tmp_path, *arguments, code=4, words=["a.json already exists", "--overwrite"])


def test_a_folder_that_does_not_exist_is_refused(relume, clip, tmp_path):
    target = tmp_path / "none" / "out.mp4"

    _refuse(relume, tmp_path, clip, "-o", target, code=4, words=[str(tmp_path / "none")])


def test_a_result_whose_name_is_taken_by_a_folder_is_refused(relume, clip, tmp_path):
    (tmp_path / "out" / clip.name).mkdir(parents=True)

    _refuse(relume, tmp_path, clip, "-o", tmp_path / "out", "--overwrite", code=4, words=["out", "folder"])


def test_a_full_disk_leaves_nothing(relume, tmp_path, write_clip):
    source = write_clip(tmp_path / "clip.mp4", frames=24, size=(96, 64))
    # Once without a limit: it compiles the kernels, whose files would hit the limit too.
    assert relume("enhance", source, "-o", tmp_path / "first.mp4").returncode == 0
    limit = (tmp_path / "first.mp4").stat().st_size // 2
    (tmp_path / "first.mp4").unlink()

    _refuse(
        relume,
        tmp_path,
        source,
        "-o",
        tmp_path / "out.mp4",
        code=4,
        words=["out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="cannot mount")
def test_a_disk_that_is_too_small_leaves_nothing(relume, tmp_path, write_clip):
    import subprocess

    source = write_clip(tmp_path / "clip.mp4", frames=24, size=(96, 64))
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount")
    try:
        _refuse(relume, tmp_path, source, "-o", place / "out.mp4", code=4, words=["out"])
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def damaged(tmp_path, write_clip):
    source = write_clip(tmp_path / "clip.mp4", frames=50, size=(96, 64), audio=False)
    content = bytearray(source.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    source.write_bytes(content)
    return source


def test_damage_in_the_middle_is_refused(relume, tmp_path, damaged):
    _refuse(
        relume,
        tmp_path,
        damaged,
        "-o",
        tmp_path / "out.mp4",
        code=3,
        words=["is damaged in stream 0 at ", "--allow-damaged"],
    )


def test_damage_is_concealed_on_request_and_reported(relume, tmp_path, damaged):
    before = damaged.read_bytes()

    done = relume("enhance", damaged, "-o", tmp_path / "out.mp4", "--allow-damaged")

    assert "Traceback" not in done.stderr
    assert damaged.read_bytes() == before
    assert done.returncode == 0
    assert "the video is damaged at" in done.stdout
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 30


def test_a_file_truncated_behind_its_index_is_refused(relume, tmp_path, write_clip):
    whole = write_clip(tmp_path / "whole.mp4", frames=60, size=(64, 48), audio=False)
    source = tmp_path / "clip.mp4"
    options = {"movflags": "faststart"}
    with av.open(str(whole)) as reader, av.open(str(source), "w", container_options=options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    whole.unlink()
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 2 // 3])

    _refuse(relume, tmp_path, source, "-o", tmp_path / "out.mp4", code=3, words=["clip.mp4", "truncated"])
