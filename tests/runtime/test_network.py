"""Nothing connects to the network: neither libraries with telemetry nor processes that open untrusted files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("kernels", "runtime", "appliance", "models", "training", "export", "calibration", "benchmarks", "tests")


def run(program: str, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {
        name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    }
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=clean | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def kept(home: Path) -> list[str]:
    """Return what libraries left in the home folder: ids and queues of events."""
    return sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if "Microsoft" in path.parts)


def test_a_job_opens_no_socket_and_leaves_no_telemetry_behind(tmp_path):
    home, clip = tmp_path / "home", tmp_path / "clip.mkv"
    home.mkdir()
    job = (
        "import sys; from pathlib import Path; import av; from fractions import Fraction; import numpy as np\n"
        "from runtime.child_process import forbid_network\n"
        "print(forbid_network(kill=True))\n"
        "with av.open(sys.argv[1], 'w') as container:\n"
        "    stream = container.add_stream('ffv1', rate=25); stream.width, stream.height = 64, 48\n"
        "    for index in range(2):\n"
        "        grey = np.full((48, 64, 3), 40 * index, np.uint8)\n"
        "        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format='rgb24')))\n"
        "    container.mux(stream.encode(None))\n"
        "from runtime.enhance import enhance; from runtime.options import EnhanceOptions\n"
        "enhance(Path(sys.argv[1]), Path(sys.argv[2]), EnhanceOptions(preset='upscale'))\n"
        "print('onnxruntime' in sys.modules)\n"
    )

    done = run(job, home, str(clip), str(tmp_path / "out.mkv"))

    assert (done.returncode, done.stdout.split()[1:]) == (0, ["True"]), done.stderr
    assert kept(home) == []


@pytest.mark.slow
def test_the_doctor_leaves_no_telemetry_behind(tmp_path):
    done = run("from appliance.cli import main; main()", tmp_path, "doctor", "--json")

    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert kept(tmp_path) == []


def test_a_process_without_network_keeps_local_sockets_and_its_children_have_none_either(tmp_path):
    program = (
        "import socket, subprocess, sys; from runtime.child_process import forbid_network\n"
        "if not forbid_network(): sys.exit('no filter')\n"
        "socket.socketpair(); socket.socket(socket.AF_UNIX).close(); print(open('/proc/self/stat').read()[:0])\n"
        "def ask(family):\n"
        "    try: socket.socket(family, socket.SOCK_DGRAM)\n"
        "    except OSError as error: print(error.errno)\n"
        "ask(socket.AF_INET); ask(socket.AF_INET6)\n"
        "subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'])\n"
    )

    done = run(program, tmp_path)

    if "no filter" in done.stderr:
        pytest.skip("the kernel takes no seccomp filter here")
    assert done.stdout.split() == ["13", "13"]
    assert "PermissionError" in done.stderr


def test_a_process_that_is_to_end_over_a_socket_does(tmp_path):
    done = run(
        "import socket, sys; from runtime.child_process import forbid_network\n"
        "if not forbid_network(kill=True): sys.exit('no filter')\n"
        "socket.socket()",
        tmp_path,
    )

    if "no filter" in done.stderr:
        pytest.skip("the kernel takes no seccomp filter here")
    assert done.returncode == -31  # SIGSYS


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_the_linter_finds_an_import_that_would_report(library):
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    for line in (f"import {library}", f"from {library} import Core"):
        for place in CODE:
            done = subprocess.run(
                [ruff, "check", "--select", "TID251", "--stdin-filename", f"{place}/made_up.py", "-"],
                cwd=ROOT,
                input=f"def load():\n    {line}\n",
                capture_output=True,
                text=True,
                check=False,
            )
            assert "it reports to its maker" in done.stdout, (place, line)
