"""The content of a workspace is trusted only where it is complete and belongs to the same job."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.atomic_files import read_signature
from runtime.enhance import enhance
from runtime.errors import CancelledError, DecodeError, OutputError
from runtime.media.video_encoder import VideoEncoder
from runtime.options import AudioMode, EnhanceOptions
from runtime.resume.workspace import Manifest, Workspace, manifest_from_json
from runtime.resume.writer import SegmentRule

RULE = SegmentRule(5, 10)
OPTIONS = EnhanceOptions(preset="restore", threads=2, audio=AudioMode.OFF)


@pytest.fixture
def stopped(clip: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Stop a job after 25 of its frames, when two segments of ten are durable; return the source."""

    def make(scenes: tuple[int, ...] = (32,), **fields: Any) -> Path:
        source = clip(scenes=scenes, **{"audio": False, **fields})
        stop_job(source, tmp_path)
        return source

    return make


def stop_job(source: Path, folder: Path, *, at: int = 25, options: EnhanceOptions = OPTIONS) -> None:
    cancel = threading.Event()

    def watch(progress: Any) -> None:
        if progress.frames_done >= at:
            cancel.set()

    with pytest.raises(CancelledError):
        enhance(
            source, folder / "out.mp4", options, workspace=folder / "work", rule=RULE, cancel=cancel, on_progress=watch
        )


def go_on(source: Path, folder: Path, options: EnhanceOptions = OPTIONS, **arguments: Any) -> tuple[Any, list[int]]:
    """Run the job to its end; return the report and the frame counts that were reported."""
    counts: list[int] = []
    report = enhance(
        source, folder / "out.mp4", options, workspace=folder / "work",
        **{"rule": RULE, "on_progress": lambda progress: counts.append(progress.frames_done), **arguments},
    )  # fmt: skip
    return report, [count for count in counts if count]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "work" / "segments").iterdir())


def test_a_stopped_job_keeps_its_segments_and_the_newest_state_alone(
    stopped: Callable[..., Path], tmp_path: Path
) -> None:
    stopped()

    assert names(tmp_path)[:4] == [
        "manifest.json", "segment-00000.packets", "segment-00001.packets", "state-00020.npz",
    ]  # fmt: skip
    manifest = json.loads((tmp_path / "work/segments/manifest.json").read_text())
    assert [segment["frames"] for segment in manifest["segments"]] == [10, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "work"]


def test_where_a_scene_begins_no_state_is_kept(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped((9, 9, 14))

    assert not [name for name in names(tmp_path) if name.startswith("state")]
    report, counts = go_on(source, tmp_path)
    assert counts[0] == 18
    assert report.picture.scene_cuts == (9, 18)


@pytest.mark.parametrize(
    ("name", "begin"),
    [("segment-00000.packets", 0), ("segment-00001.packets", 9), ("segment-00002.packets", 9), ("state-00029.npz", 9)],
)
@pytest.mark.parametrize("damage", ["cut", "bit", "gone"])
def test_what_is_damaged_and_all_after_it_is_recreated(
    clip: Callable[..., Path], tmp_path: Path, packets: Callable[[Path], Any], name: str, begin: int, damage: str
) -> None:
    source = clip(scenes=(9, 31), audio=False)
    enhance(source, tmp_path / "alone.mp4", OPTIONS, workspace=tmp_path / "alone", rule=RULE)
    stop_job(source, tmp_path, at=34)
    path = tmp_path / "work/segments" / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= damage == "bit"
        path.write_bytes(content[: len(content) - (damage == "cut")])

    report, counts = go_on(source, tmp_path)

    assert counts[0] in (begin, begin + 1)
    again = (29 - begin) // 10 + (begin == 0)
    assert report.warnings == (f"{again} of the stored segments were processed again because a file was damaged",)
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "alone.mp4")
    assert names(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize("content", [b"", b'{"facts": {', b"null", b'{"schema": 99}', b"\x00" * 4096])
def test_a_list_that_is_not_readable_is_not_relied_on(
    stopped: Callable[..., Path], tmp_path: Path, content: bytes
) -> None:
    source = stopped()
    (tmp_path / "work/segments/manifest.json").write_bytes(content)

    report, counts = go_on(source, tmp_path)

    assert counts[0] == 1
    assert report.warnings == ("the manifest of the stored progress was not readable; started over",)
    assert report.picture.pts_equal


def test_a_half_written_manifest_beside_the_real_one_is_ignored(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped()
    (tmp_path / "work/segments/manifest.json.part").write_bytes(b'{"facts"')
    (tmp_path / "work/segments/segment-00002.packets").write_bytes(b"RLPK0001 half")

    report, counts = go_on(source, tmp_path)

    assert counts[0] == 20
    assert report.warnings == ()


@pytest.mark.parametrize("change", ["source", "touched", "options", "segments"])
def test_the_work_of_another_job_is_not_continued(stopped: Callable[..., Path], tmp_path: Path, change: str) -> None:
    source = stopped()
    options, rule = OPTIONS, RULE
    if change == "source":
        source.write_bytes(source.read_bytes() + b"\0" * 8)
    elif change == "touched":
        os.utime(source, ns=(1, 1))
    elif change == "options":
        options = EnhanceOptions(preset="restore", threads=2, audio=AudioMode.OFF, strength=0.5)
    else:
        rule = SegmentRule(5, 12)

    report, counts = go_on(source, tmp_path, options, rule=rule)

    what = "source" if change == "touched" else change
    assert report.warnings == (f"the stored progress was made with a different {what}; started over",)
    assert counts[0] == 1
    assert report.resumes == 0
    assert names(tmp_path) == ["manifest.json"]


def test_a_source_that_decodes_differently_starts_the_job_over(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped()
    path = tmp_path / "work/segments/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["segments"][-1]["tail"][-1]["crc32"] ^= 1
    path.write_text(json.dumps(manifest))

    report, counts = go_on(source, tmp_path)

    assert report.warnings == ("the source decodes to different frames than before the interruption; started over",)
    assert counts[0] == 1
    assert report.picture.frames_out == 32


def test_leave_to_replace_the_target_changes_nothing_of_the_work(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped()
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(OutputError, match="already exists"):
        go_on(source, tmp_path)

    options = EnhanceOptions(preset="restore", threads=2, audio=AudioMode.OFF, overwrite=True)
    report, counts = go_on(source, tmp_path, options)

    assert counts[0] == 20
    assert report.warnings == ()
    assert read_signature(tmp_path / "out.mp4").size_bytes == report.result.size_bytes


def test_two_processes_do_not_work_in_one_folder(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped()
    script = "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(fd, fcntl.LOCK_EX)"
    hold = f"{script}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "work/segments")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        before = names(tmp_path)

        with pytest.raises(OutputError, match="is in use by another process"):
            go_on(source, tmp_path)

        assert names(tmp_path) == before
        other.communicate()
    assert go_on(source, tmp_path)[1][0] == 20


def test_the_temporary_result_of_a_killed_attempt_is_removed(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped()
    token = json.loads((tmp_path / "work/segments/manifest.json").read_text())["token"]
    (tmp_path / f".out.{token}.partial.mp4").write_bytes(b"half")
    (tmp_path / ".out.deadbeef.partial.mp4").write_bytes(b"of another job")

    go_on(source, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".out.deadbeef.partial.mp4",
        "in.mp4",
        "out.mp4",
        "work",
    ]


def test_another_place_for_the_result_keeps_the_work_and_leaves_nothing_at_the_first(
    stopped: Callable[..., Path], tmp_path: Path
) -> None:
    source = stopped()
    token = json.loads((tmp_path / "work/segments/manifest.json").read_text())["token"]
    (tmp_path / f".out.{token}.partial.mp4").write_bytes(b"half")
    counts: list[int] = []

    enhance(
        source, tmp_path / "other.mp4", OPTIONS, workspace=tmp_path / "work", rule=RULE,
        on_progress=lambda progress: counts.append(progress.frames_done),
    )  # fmt: skip

    assert next(count for count in counts if count) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "other.mp4", "work"]


def test_the_threads_of_the_first_attempt_are_kept(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packets: Callable[[Path], Any]
) -> None:
    source = clip(scenes=(32,), audio=False)
    options = EnhanceOptions(preset="restore", audio=AudioMode.OFF)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    enhance(source, tmp_path / "alone.mp4", options, workspace=tmp_path / "alone", rule=RULE)
    stop_job(source, tmp_path, options=options)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    used: list[int] = []
    original = VideoEncoder.__init__

    def note(encoder: VideoEncoder, container: Any, settings: Any) -> None:
        used.append(settings.threads)
        original(encoder, container, settings)

    monkeypatch.setattr(VideoEncoder, "__init__", note)

    go_on(source, tmp_path, options)

    assert set(used) == {3}
    assert packets(tmp_path / "out.mp4") == packets(tmp_path / "alone.mp4")


def test_whatever_a_manifest_names_is_on_the_disk_before_it(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = clip(scenes=(9, 23)), tmp_path / "work" / "segments"
    synced: dict[int, int] = {}
    listed: set[str] = set()
    named: list[set[str]] = []
    sync, rename, link = os.fsync, os.replace, os.link

    def note_sync(handle: int) -> None:
        sync(handle)
        facts = os.fstat(handle)
        synced[facts.st_ino] = facts.st_size
        if folder.exists() and facts.st_ino == folder.stat().st_ino:
            listed.clear()
            listed.update(path.name for path in folder.iterdir())

    def check_rename(old: Any, new: Any) -> None:
        names = Manifest.files(manifest_from_json(Path(old).read_bytes()))  # type: ignore[arg-type]
        for path in (Path(old), *(folder / name for name in names)):
            assert synced.get(path.stat().st_ino) == path.stat().st_size, f"{path.name} is not synced"
        assert names <= listed, "the folder is not synced"
        named.append(names)
        rename(old, new)

    def check_link(old: Any, new: Any) -> None:
        assert synced.get(os.stat(old).st_ino) == os.stat(old).st_size
        assert json.loads((folder / "manifest.json").read_text())["result"]
        link(old, new)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", check_rename)
    monkeypatch.setattr(os, "link", check_link)

    go_on(source, tmp_path, EnhanceOptions(preset="restore", threads=2))

    assert {name for names in named for name in names} == {
        "sound-1.packets", "segment-00000.packets", "segment-00001.packets", "segment-00002.packets",
        "segment-00003.packets", "state-00019.npz", "state-00029.npz",
    }  # fmt: skip


def test_a_result_that_was_published_before_the_crash_is_known_again(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(audio=False)

    def crash(_: Workspace) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "clear", crash)
        with pytest.raises(KeyboardInterrupt):
            go_on(source, tmp_path)
    assert len(names(tmp_path)) > 2
    inode = (tmp_path / "out.mp4").stat().st_ino

    report, counts = go_on(source, tmp_path)

    assert counts == []
    assert report.picture.frames_out == 32
    assert (tmp_path / "out.mp4").stat().st_ino == inode
    assert names(tmp_path) == ["manifest.json"]


def test_a_result_that_was_removed_is_recreated(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip(audio=False)
    go_on(source, tmp_path)
    (tmp_path / "out.mp4").unlink()

    report, counts = go_on(source, tmp_path)

    assert counts[0] == 1
    assert report.picture.frames_out == 32
    assert (tmp_path / "out.mp4").exists()


def test_an_empty_file_left_where_there_are_no_hard_links_is_not_in_the_way(
    clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(audio=False)

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "no hard links here")

    def crash(old: Any, new: Any) -> None:
        if str(new).endswith("out.mp4"):
            raise KeyboardInterrupt
        rename(old, new)

    rename = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            go_on(source, tmp_path)
    assert (tmp_path / "out.mp4").stat().st_size == 0

    report, _ = go_on(source, tmp_path)

    assert report.picture.frames_out == 32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "work"]


def test_a_source_that_is_gone_is_reported_and_the_work_is_kept(stopped: Callable[..., Path], tmp_path: Path) -> None:
    source = stopped()
    before = names(tmp_path)
    source.rename(tmp_path / "elsewhere.mp4")

    with pytest.raises(DecodeError, match="does not exist"):
        go_on(source, tmp_path)

    assert names(tmp_path) == before
    (tmp_path / "elsewhere.mp4").rename(source)
    assert go_on(source, tmp_path)[1][0] == 20


def test_a_place_that_cannot_be_written_is_reported_before_any_work(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip(audio=False)
    (tmp_path / "work").write_bytes(b"a file")

    with pytest.raises(OutputError, match="cannot be used"):
        go_on(source, tmp_path)
    with pytest.raises(OutputError, match="create it first"):
        enhance(source, tmp_path / "none/out.mp4", OPTIONS, workspace=tmp_path / "other", rule=RULE)


@pytest.mark.parametrize("copies", [False, True])
def test_a_source_that_is_removed_while_it_is_read(clip: Callable[..., Path], tmp_path: Path, copies: bool) -> None:
    source = clip(audio=copies)
    content, times = source.read_bytes(), source.stat()

    def remove(progress: Any) -> None:
        if progress.frames_done == 25:
            source.unlink(missing_ok=True)

    if copies:
        with pytest.raises(DecodeError, match="does not exist"):
            go_on(source, tmp_path, on_progress=remove)
        assert not (tmp_path / "out.mp4").exists()
        source.write_bytes(content)
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        _, counts = go_on(source, tmp_path)
        assert counts[0] == 32, "nothing of the picture is made again"
    else:
        report, _ = go_on(source, tmp_path, on_progress=remove)
        assert report.picture.frames_out == 32


def test_a_source_that_is_written_to_while_it_is_read_is_refused(clip: Callable[..., Path], tmp_path: Path) -> None:
    source = clip(audio=False)

    def write(progress: Any) -> None:
        if progress.frames_done == 25:
            with source.open("ab") as file:
                file.write(b"more")

    with pytest.raises(DecodeError, match="changed while it was being read; start the job again when it is complete"):
        go_on(source, tmp_path, on_progress=write)

    assert not (tmp_path / "out.mp4").exists()
    report, counts = go_on(source, tmp_path)
    assert report.warnings == ("the stored progress was made with a different source; started over",)
    assert counts[0] == 1
