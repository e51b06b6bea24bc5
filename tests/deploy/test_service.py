"""The systemd unit, checked by systemd's own tools where available."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "deploy/relume.service"


def entries() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_the_server_gets_time_to_end_its_workers_in_order():
    unit = entries()
    # The web server's five seconds, the workers' twenty, and a margin.
    assert int(unit["TimeoutStopSec"][0]) >= 45
    assert unit["KillMode"] == ["mixed"]
    assert unit["Restart"] == ["on-failure"]


def test_a_worker_out_of_memory_does_not_end_the_service():
    assert entries()["OOMPolicy"] == ["continue"]
    assert "MemoryMax" in entries()


def test_it_is_not_root_and_writes_to_its_own_folders_alone():
    unit = entries()
    assert unit["User"] == ["relume"]
    assert unit["NoNewPrivileges"] == ["true"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["StateDirectory"] == ["relume"]
    data = unit["ExecStart"][0].split("--data ")[1]
    assert data == "/var/lib/" + unit["StateDirectory"][0]
    assert unit["Environment"] == [f"NUMBA_CACHE_DIR=/var/cache/{unit['CacheDirectory'][0]} ORT_DISABLE_TELEMETRY=1"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit as it is once its program exists."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    path = tmp_path / "relume.service"
    path.write_text(UNIT.read_text().replace("/opt/relume/bin/relume", sys.executable))
    return path


def test_systemd_finds_no_fault_in_it(installed):
    found = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_a_fault_would_be_found(installed):
    installed.write_text(installed.read_text().replace("ProtectSystem=strict", "ProtectSystem=very"))
    found = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)

    assert "protect system value" in found.stderr


def test_systemd_rates_it_as_well_shut_in(installed):
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", installed],
        capture_output=True,
        text=True,
        check=False,
    )
    if "offline" in found.stderr:
        pytest.skip("this systemd-analyze cannot rate a file")
    (rating,) = re.findall(r"Overall exposure level for .*: ([\d.]+)", found.stdout)

    assert float(rating) < 2.5
