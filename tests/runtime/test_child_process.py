"""What a child process requests from the kernel."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's")


def test_a_process_lowers_its_priority_and_is_the_first_to_go():
    program = (
        "import os; from runtime.child_process import lower_priority; before = os.nice(0); lower_priority()\n"
        "print(os.nice(0) - before, open('/proc/self/oom_score_adj').read())"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    niceness, score = done.stdout.split()
    assert int(niceness) > 0
    assert int(score) >= 500


def test_a_process_ends_with_a_parent_that_was_killed(tmp_path):
    child = (
        "import os, sys, time; from runtime.child_process import end_with_parent; end_with_parent(os.getppid())\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT) as process:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.send_signal(signal.SIGKILL)
    pid = int((tmp_path / "pid").read_text())

    wait_for(lambda: not is_alive(pid))


def wait_for(condition, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
