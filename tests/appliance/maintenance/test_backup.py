import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from appliance.jobs.job import NewJob
from appliance.jobs.queue import JobQueue
from appliance.maintenance import backup as backup_module
from appliance.maintenance.backup import MANIFEST, back_up
from appliance.maintenance.errors import ArchiveError, BackupError
from appliance.maintenance.restore import restore
from appliance.store.data_dir import open_data_directory
from appliance.store.database import Database
from appliance.store.errors import DirectoryInUseError
from runtime.options import EnhanceOptions


def add_job(data: Path, title: str) -> str:
    with Database(data / "relume.db") as database:
        return JobQueue(database).add(NewJob(Path("/in") / title, title, EnhanceOptions())).id


def titles(data: Path) -> set[str]:
    with Database(data / "relume.db", check=True) as database:
        return {job.title for job in JobQueue(database).list(limit=100_000)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    with open_data_directory(place):
        job = add_job(place, "clip.mp4")
        (place / "relume.toml").write_text("port = 9000\n")
        (place / "secrets/tls.key").write_text("secret")
        (place / "uploads/abc").write_bytes(b"upload")
        (place / "logs/relume.log").write_text("noise")
        (place / "jobs" / job / "work").mkdir(parents=True)
        (place / "jobs" / job / "work/000.mkv").write_bytes(b"segment")
        (place / "jobs" / job / "report.json").write_text("{}")
        (place / "jobs" / job / "after.mp4").write_bytes(b"film")
        (place / "results" / job).mkdir()
        (place / "results" / job / "clip ü\n.mp4").write_bytes(b"result")
    return place


def test_a_backup_holds_what_cannot_be_recreated(data, tmp_path):
    back_up(data, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")

    job = next((data / "jobs").iterdir()).name
    found = contents(tmp_path / "new")
    assert titles(tmp_path / "new") == {"clip.mp4"}
    assert set(found) == {"relume.db", "relume.toml", "relume.lock", "secrets/tls.key", f"jobs/{job}/report.json"}
    assert found["secrets/tls.key"] == b"secret"


def test_a_full_backup_holds_videos_too_but_no_workspace(data, tmp_path):
    back_up(data, tmp_path / "b.tar", full=True)
    restore(tmp_path / "b.tar", tmp_path / "new")

    left_out = {"logs/relume.log", "relume.db", "relume.lock"} | {n for n in contents(data) if "/work/" in n}
    same = {name: value for name, value in contents(data).items() if name not in left_out}
    assert {name: value for name, value in contents(tmp_path / "new").items() if name in same} == same
    assert not any("/work/" in name for name in contents(tmp_path / "new"))


def test_only_the_owner_can_read_a_backup_and_what_comes_out_of_it(data, tmp_path):
    back_up(data, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")

    assert os.stat(tmp_path / "b.tar").st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "new/secrets").st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "new/secrets/tls.key").st_mode & 0o777 == 0o600


def test_a_backup_of_a_running_server_is_consistent(data, tmp_path):
    stop = threading.Event()
    added, before = [], []

    def write() -> None:
        with Database(data / "relume.db") as database:
            queue = JobQueue(database)
            while not stop.is_set():
                added.append(queue.add(NewJob(Path("/x"), f"job {len(added)}", EnhanceOptions())).title)

    with open_data_directory(data):
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(3):
                before.append(len(added))
                back_up(data, tmp_path / f"{number}.tar")
        finally:
            stop.set()
            thread.join()

    for number in range(3):
        restore(tmp_path / f"{number}.tar", tmp_path / str(number))
        found = titles(tmp_path / str(number)) - {"clip.mp4"}
        assert found == set(added[: len(found)])
        assert len(found) >= before[number]


def test_an_existing_file_and_a_directory_without_a_database_are_refused(data, tmp_path):
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(BackupError, match=r"already exists"):
        back_up(data, tmp_path / "b.tar")
    with pytest.raises(BackupError, match=r"is not a data directory"):
        back_up(tmp_path / "nowhere", tmp_path / "c.tar")
    with pytest.raises(BackupError, match=r"cannot write the backup"):
        back_up(data, tmp_path / "missing/c.tar")
    assert (tmp_path / "b.tar").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]


def test_a_live_directory_is_never_restored_into(data, tmp_path):
    back_up(data, tmp_path / "b.tar")
    before = contents(data)
    with pytest.raises(BackupError, match=r"already has a database.*--replace"):
        restore(tmp_path / "b.tar", data)
    with open_data_directory(data), pytest.raises(DirectoryInUseError, match=r"in use by another Relume server"):
        restore(tmp_path / "b.tar", data, replace=True)

    assert {name: value for name, value in contents(data).items() if name != "relume.lock"} == {
        name: value for name, value in before.items() if name != "relume.lock"
    }


def test_replacing_keeps_the_old_state_next_to_the_new(data, tmp_path):
    back_up(data, tmp_path / "b.tar")
    add_job(data, "later.mp4")
    (data / "relume.toml").write_text("port = 9999\n")

    restore(tmp_path / "b.tar", data, replace=True)

    assert titles(data) == {"clip.mp4"}
    assert (data / "relume.toml").read_text() == "port = 9000\n"
    (kept,) = (data / "backups").iterdir()
    assert titles(kept) == {"clip.mp4", "later.mp4"}
    assert (kept / "relume.toml").read_text() == "port = 9999\n"
    assert (kept / "secrets/tls.key").read_text() == "secret"


def rewrite(path: Path, change) -> None:
    """Rewrite an archive, as an attacker would."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in change(members):
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))


def with_file(name: str, **fields):
    """Add a file to the archive and its manifest."""

    def change(members):
        manifest = backup_module.Manifest.model_validate_json(members[-1][1])
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        data = b"harm" if member.isreg() else b""
        entry = backup_module.Entry(name=name, size=len(data), sha256="0" * 64)
        text = manifest.model_copy(update={"files": (*manifest.files, entry)}).model_dump_json().encode()
        return [*members[:-1], (member, data), (members[-1][0], text)]

    return change


@pytest.mark.parametrize(
    "name",
    [
        "../escaped", "/etc/cron.d/escaped", "secrets/../../escaped", "secrets/./x", "jobs//x", "workers/x", "secrets",
        "relume.db/x", "relume.db-wal", "logs/x", "jobs/../relume.toml", ".", "secrets/..",
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused_before_anything_is_written(data, tmp_path, name):
    back_up(data, tmp_path / "b.tar")
    rewrite(tmp_path / "b.tar", with_file(name))

    with pytest.raises(
        ArchiveError, match=r"unsafe name|is not a Relume backup|not a regular file|contains a name twice"
    ):
        restore(tmp_path / "b.tar", tmp_path / "new")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "data"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_what_is_no_plain_file_is_refused(data, tmp_path, kind):
    back_up(data, tmp_path / "b.tar")
    rewrite(tmp_path / "b.tar", with_file("secrets/x", type=kind, linkname="/etc/passwd"))

    with pytest.raises(ArchiveError, match=r"not a regular file"):
        restore(tmp_path / "b.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_changed_byte_is_found_and_nothing_is_changed(data, tmp_path):
    back_up(data, tmp_path / "b.tar")
    content = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(content.replace(b"secret\0", b"secreT\0", 1))
    add_job(data, "later.mp4")

    with pytest.raises(ArchiveError, match=r"tls\.key in .* is damaged"):
        restore(tmp_path / "b.tar", data, replace=True)

    assert titles(data) == {"clip.mp4", "later.mp4"}
    assert not [path for path in data.iterdir() if path.name.startswith(".restore")]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_backup_that_is_truncated_is_refused(data, tmp_path, share):
    back_up(data, tmp_path / "b.tar")
    content = (tmp_path / "b.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(content[: int(len(content) * share)])

    with pytest.raises(ArchiveError, match=r"not a Relume backup|truncated|cannot be read"):
        restore(tmp_path / "b.tar", tmp_path / "new")


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, bytes(10240)])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"is not a Relume backup"):
        restore(tmp_path / "b.tar", tmp_path / "new")


def test_a_missing_archive_is_reported(tmp_path):
    with pytest.raises(BackupError, match=r"No such file"):
        restore(tmp_path / "b.tar", tmp_path / "new")


def test_a_newer_database_is_refused_whatever_the_manifest_says(data, tmp_path):
    with closing(sqlite3.connect(data / "relume.db")) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    back_up(data, tmp_path / "b.tar")

    def as_newer(members):
        manifest = backup_module.Manifest.model_validate_json(members[-1][1])
        text = manifest.model_copy(update={"schema_version": 999}).model_dump_json().encode()
        return [*members[:-1], (members[-1][0], text)]

    rewrite(tmp_path / "b.tar", as_newer)
    with pytest.raises(ArchiveError, match=f"newer Relume .database version 999, supported up to {version}"):
        restore(tmp_path / "b.tar", tmp_path / "new")

    copy = tmp_path / "copy.db"
    with Database(data / "relume.db") as database:
        database.backup(copy)
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA user_version = 999")

    def with_newer(members):
        import hashlib

        manifest = backup_module.Manifest.model_validate_json(members[-1][1])
        newer = copy.read_bytes()
        files = tuple(
            e.model_copy(update={"size": len(newer), "sha256": hashlib.sha256(newer).hexdigest()})
            if e.name == "relume.db"
            else e
            for e in manifest.files
        )
        text = manifest.model_copy(update={"schema_version": version, "files": files}).model_dump_json().encode()
        return [(m, newer if m.name == "relume.db" else d) for m, d in members[:-1]] + [(members[-1][0], text)]

    rewrite(tmp_path / "b.tar", with_newer)
    with pytest.raises(ArchiveError, match=r"database version 999"):
        restore(tmp_path / "b.tar", tmp_path / "new")
    assert not (tmp_path / "new/relume.db").exists()


def test_links_in_the_data_directory_are_not_followed_into_a_backup(data, tmp_path):
    (tmp_path / "private").write_text("private")
    (data / "secrets/link").symlink_to(tmp_path / "private")
    os.mkfifo(data / "secrets/pipe")
    back_up(data, tmp_path / "b.tar", full=True)

    with tarfile.open(tmp_path / "b.tar") as tar:
        names = tar.getnames()
    assert not {"secrets/link", "secrets/pipe"} & set(names)
    assert names[-1] == MANIFEST


@pytest.mark.parametrize("kind", ["file", "link"])
def test_who_was_in_the_folder_first_can_neither_read_a_backup_nor_have_it_written_elsewhere(data, tmp_path, kind):
    shared, other = tmp_path / "shared", tmp_path / "other"
    shared.mkdir()
    other.write_text("precious")
    planted = shared / ".b.tar.part"
    if kind == "link":
        planted.symlink_to(other)
    else:
        planted.touch()
        planted.chmod(0o666)
    held = os.open(planted, os.O_RDONLY)
    try:
        back_up(data, shared / "b.tar")
        assert os.read(held, 10) == (b"precious" if kind == "link" else b"")
    finally:
        os.close(held)

    assert other.read_text() == "precious"
    assert (shared / "b.tar").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in shared.iterdir()) == [".b.tar.part", "b.tar"]


def test_a_full_disk_is_reported_as_the_backups_own(data, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    program = (
        "import subprocess, sys; from pathlib import Path\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', sys.argv[2]], check=True)\n"
        "from appliance.maintenance.backup import back_up; from appliance.maintenance.errors import BackupError\n"
        "try: back_up(Path(sys.argv[1]), Path(sys.argv[2]) / 'b.tar')\n"
        "except BackupError as error: print(error, [p.name for p in Path(sys.argv[2]).iterdir()])\n"
    )
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", program, data, small], capture_output=True, text=True, check=False
    )

    assert (
        done.stdout == f"cannot write the backup to {small / 'b.tar'}: no space left on the disk; free some space []\n"
    )
