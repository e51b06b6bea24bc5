import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.cli import app
from runtime.presets import PRESETS

HEAVY = (
    "numba",
    "av",
    "onnxruntime",
    "torch",
    "numpy",
    "rich",
    "PIL",
    "fastapi",
    "sqlite3",
    "cryptography",
)


def test_help_names_every_command_and_the_exit_codes(relume):
    done = relume("--help")

    assert done.returncode == 0
    commands = ("enhance", "probe", "presets", "doctor", "version", "serve", "watch", "backup", "restore")
    text = " ".join(done.stdout.split())
    for word in (*commands, "jobs", "folders", "users", "130 cancelled"):
        assert word in text


@pytest.mark.parametrize("arguments", [["--help"], ["enhance", "--help"], ["presets"], ["jobs", "--help"]])
def test_light_commands_import_nothing_heavy(arguments):
    program = (
        "import sys\n"
        "from appliance.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )

    assert done.stderr.strip() == "[]"


def test_importing_the_runtime_imports_nothing_heavy():
    program = f"import sys, runtime; print([n for n in {HEAVY!r} if n in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_is_one_line(relume, arguments):
    done = relume(*arguments)

    assert done.returncode == 0
    assert done.stdout.startswith("relume ")
    assert done.stdout.count("\n") == 1


def test_presets_as_json_tell_every_preset():
    done = CliRunner().invoke(app, ["presets", "--json"])

    printed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert printed.keys() == PRESETS.keys()
    assert printed["upscale"]["video_models"] == {
        "1": "light-restore",
        "2": "light-x2",
        "4": "light-x4",
    }
    assert printed["sound-only"]["codec"] is None


def test_presets_as_text_are_a_line_each():
    done = CliRunner().invoke(app, ["presets"])

    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(PRESETS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "3"], "scale is 3, expected auto, 1, 2 or 4"),
        (["--strength", "1.5"], "strength is 1.5, expected 0"),
        (["--strength", "nan"], "strength is nan"),
        (["--start", "soon"], "time 'soon' is not readable"),
        (["--start", "0:75"], "60 or more"),
        (["--start", "3", "--end", "2"], "end is 2 s, expected later than the start"),
        (["--codec", "prores", "--crf", "20"], "codec prores has no crf"),
        (["--crf", "99"], "crf is 99, expected 0 to 51"),
        (["--preset", "best"], "no preset named 'best'; there are: upscale"),
        (["--preset", "sound-only", "--audio", "off"], "nothing is left to enhance"),
        (["--preset", "sound-only", "--scale", "2"], "--scale cannot be used"),
        (["--backend", "abacus"], "no backend named 'abacus'"),
        (["--precision", "fp8"], "no precision named 'fp8'; there are: auto, fp32, fp16, int8"),
        (["--preset", "sound-only", "--precision", "fp16"], "model speech-mask has no fp16 file; it offers fp32"),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(relume, clip, arguments, words):
    pytest.importorskip("runtime.enhance")

    done = relume("enhance", clip, "-o", clip.with_name("out.mp4"), *arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("relume: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not clip.with_name("out.mp4").exists()


@pytest.mark.parametrize("arguments", [[], ["a.mp4", "--codec", "gif"], ["a.mp4", "--audio", "loud"]])
def test_typers_own_refusals_exit_2_without_a_traceback(relume, arguments):
    done = relume("enhance", *arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_unexpected_exception_is_kept_in_a_file_that_is_named(tmp_path):
    program = (
        "import appliance.console\n"
        "def broken(**_): raise ZeroDivisionError('of all things')\n"
        "appliance.console.show_presets = broken\n"
        "from appliance.cli import main\n"
        "main()\n"
    )
    place = {"cwd": Path(__file__).parents[2], "env": {"TMPDIR": str(tmp_path)}}

    done = subprocess.run(
        [sys.executable, "-c", program, "presets"], capture_output=True, text=True, check=False, **place
    )

    (log,) = tmp_path.glob("relume-*.log")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "ZeroDivisionError: of all things" in done.stderr
    assert str(log) in done.stderr
    assert "Traceback" in log.read_text()


def test_debug_shows_the_traceback(relume, tmp_path):
    done = relume("--debug", "probe", tmp_path / "none.mp4")

    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_doctor_shows_what_a_job_will_use_and_writes_nothing_when_quick(relume, tmp_path):
    done = relume("doctor", "--quick", "--json", "--data", tmp_path / "data")

    printed = json.loads(done.stdout)
    assert done.returncode == 0
    assert printed["speeds"] == []
    assert {(choice["backend"], choice["precision"]) for choice in printed["choices"]} == {("cpu", "fp32")}
    assert not (tmp_path / "data").exists()
