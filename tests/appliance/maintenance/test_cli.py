"""`relume backup` and `relume restore`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.exit_codes import ExitCode
from appliance.store.data_dir import database_path, open_data_directory
from appliance.store.database import Database

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with open_data_directory(tmp_path / "data") as place, Database(database_path(place)):
        (place / "secrets/key").write_text("k")
    return tmp_path / "data"


def relume(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from appliance.cli import main; main()", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_backup_is_written_and_restored(data, tmp_path):
    written = relume("backup", tmp_path / "b.tar", "--data", data)
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout.startswith(f"{tmp_path / 'b.tar'}: 2 files, ")

    restored = relume("restore", tmp_path / "b.tar", "--data", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
    assert "note: the backup is from" in restored.stdout
    assert (tmp_path / "new/secrets/key").read_text() == "k"


def test_refusals_are_one_line_with_their_exit_code(data, tmp_path):
    relume("backup", tmp_path / "b.tar", "--data", data)
    (tmp_path / "letter").write_text("dear sir")
    with open_data_directory(tmp_path / "live"):
        for arguments, code, words in (
            (("backup", tmp_path / "b.tar", "--data", data), 4, "already exists"),
            (("restore", tmp_path / "b.tar", "--data", data), 4, "--replace"),
            (("restore", tmp_path / "letter", "--data", tmp_path / "new"), 3, "not a Relume backup"),
            (
                ("restore", tmp_path / "b.tar", "--data", tmp_path / "live"),
                ExitCode.DATA,
                "in use by another Relume server",
            ),
        ):
            found = relume(*arguments)
            assert (found.returncode, found.stdout) == (code, ""), found.stderr
            assert found.stderr.count("\n") == 1
            assert words in found.stderr
