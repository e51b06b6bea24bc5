"""Messages of the command line: usage, suggestions, several files, and refused options."""

import io
import os
import subprocess
import sys
import threading
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from appliance.cli import app
from appliance.enhance_command import describe_share, find_sources, open_display, run_jobs
from runtime.errors import DecodeError, OptionError
from runtime.options import EnhanceOptions
from runtime.progress import Progress

ROOT = Path(__file__).parents[2]


def relume(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from appliance.cli import main; main()", *(str(word) for word in words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RELUME_DATA": str(cwd or "/nonexistent")}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enhance", "x.mp4", "--codec", "vp9"], "'vp9' is not one of 'h264', 'hevc', 'av1', 'prores', 'ffv1'"),
        (["enhance", "x.mp4", "--preset", "upscal"], "no preset named 'upscal'; did you mean upscale?"),
        (["enhance", "x.mp4", "--preset", "survailance"], "did you mean surveillance?"),
        (["users", "add", "Anna", "--role", "king"], "'king' is not one of"),
        (["enhnce", "x.mp4"], "Did you mean 'enhance'"),
    ],
)
def test_a_typo_is_reported_with_the_alternatives(words: list[str], said: str):
    done = relume(*words)

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Value error" not in done.stderr


@pytest.mark.parametrize(
    "words", [["enhance"], ["probe"], ["jobs", "add"], ["jobs", "show"], ["folders", "add"], ["watch"]]
)
def test_the_usage_has_no_braces_and_no_python_types(words: list[str]):
    text = CliRunner().invoke(app, [*words, "--help"]).output

    usage = text.splitlines()[0]
    assert usage.startswith(f"Usage: relume {' '.join(words)} [OPTIONS] ")
    for mark in ("{", "<path>", "<str>", "list[", "<h264"):
        assert mark not in text


def test_the_help_shows_examples():
    text = CliRunner().invoke(app, ["enhance", "--help"]).output

    assert "Examples:" in text
    assert "    relume enhance *.mp4 -o enhanced/\n" in text


def test_patterns_that_no_shell_expanded_stand_for_files(tmp_path: Path):
    for name in ("b.mp4", "a.mp4", "c.txt", "[x].mp4"):
        (tmp_path / name).touch()

    assert find_sources([tmp_path / "*.mp4"]) == [tmp_path / "[x].mp4", tmp_path / "a.mp4", tmp_path / "b.mp4"]
    assert find_sources([tmp_path / "[x].mp4"]) == [tmp_path / "[x].mp4"], "a file of that very name is meant"
    assert find_sources([tmp_path / "a.mp4", tmp_path / "?.mp4"]) == [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    with pytest.raises(DecodeError, match=r"no file matches .*\*\.mov"):
        find_sources([tmp_path / "*.mov"])


def run_all(sources: list[Path], output: Path | None, preset: str = "sound-only", **options: object) -> list[str]:
    said: list[str] = []
    run_jobs(
        sources,
        output,
        EnhanceOptions(preset=preset, **options),  # type: ignore[arg-type]
        report_path=None,
        workspace=None,
        engines=None,
        as_json=False,
        cancel=threading.Event(),
        say=said.append,
    )
    return said


def test_several_files_are_enhanced_and_one_that_fails_holds_up_none(
    write_clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sources = [write_clip(tmp_path / f"{name}.mp4", frames=10, size=(64, 48)) for name in ("a", "c")]
    (tmp_path / "b.mp4").write_bytes(b"not a film")
    (tmp_path / "better").mkdir()

    with pytest.raises(DecodeError, match="not all of the 3 files could be enhanced"):
        run_all([sources[0], tmp_path / "b.mp4", sources[1]], tmp_path / "better")

    assert sorted(path.name for path in (tmp_path / "better").iterdir()) == ["a.mp4", "c.mp4"]
    assert "b.mp4" in capsys.readouterr().err


def test_what_is_for_one_file_is_refused_for_several(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    both = [tmp_path / "a.mp4", tmp_path / "b.mp4"]

    with pytest.raises(OptionError, match="--compare is for a single file, but there are 2"):
        run_all(both, None, compare=tmp_path / "x.png")
    with pytest.raises(OptionError, match="is not a folder, but there are 2 files"):
        run_all(both, tmp_path / "out.mp4")


def test_a_comparison_of_audio_only_is_skipped_with_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "a.wav"
    with wave.open(str(source), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000))

    run_all([source], tmp_path / "b.wav", "upscale", compare=tmp_path / "x.png")

    assert "--compare needs video" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_jobs_are_added_from_the_command_line_and_listed_in_their_turn(write_clip: Callable[..., Path], tmp_path: Path):
    data = tmp_path / "data"
    CliRunner().invoke(
        app, ["users", "add", "Anna", "--role", "viewer", "--data", str(data)], input="three green lamps\n"
    )
    for name in ("first", "second"):
        write_clip(tmp_path / f"{name}.mp4", frames=10, size=(64, 48))

    added = CliRunner().invoke(app, ["jobs", "add", str(tmp_path / "*.mp4"), "--data", str(data)])
    assert added.exit_code == 0, added.output
    urgent = CliRunner().invoke(
        app, ["jobs", "add", str(tmp_path / "second.mp4"), "--priority", "5", "-o", str(tmp_path), "--data", str(data)]
    )
    assert urgent.exit_code == 0, urgent.output

    lines = CliRunner().invoke(app, ["jobs", "list", "--data", str(data)]).output.splitlines()
    assert lines[0].split() == ["id", "state", "progress", "preset", "added", "took", "owner", "title"]
    assert [line.split()[-1] for line in lines[1:]] == ["second.mp4", "first.mp4", "second.mp4"]
    assert all("command" in line for line in lines[1:])

    wrong = CliRunner().invoke(app, ["jobs", "show", "nope", "--data", str(data)])
    assert "no job matches 'nope'" in str(wrong.exception)


def test_progress_has_a_percentage_and_nothing_before_the_first_frame():
    assert describe_share(0, None) == ""
    assert describe_share(99, 100) == "99%"
    assert describe_share(1999, 2000) == "99%"
    stream = io.StringIO()
    with open_display(stream) as display:
        display(Progress("opening", 0, 1))
    assert stream.getvalue() == "opening\n"
