import json

import av
import pytest

from benchmarks import result_digests
from benchmarks.result_digests import SOURCES, digest_results, list_differences, write_source


@pytest.mark.slow
def test_two_runs_of_one_preset_have_equal_digests(tmp_path):
    names = ["chapters_subtitles.mkv", "surround.opus"]
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    first, second = (digest_results(folder, names, ["sound-only"]) for folder in folders)

    assert first == second
    assert set(first) == {*names, *(f"{name}/sound-only" for name in names)}
    assert all(len(value.split()[0]) == 64 for value in first.values())


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_written_alike_twice(tmp_path, name):
    once, twice = tmp_path / name, tmp_path / f"again_{name}"

    write_source(once, SOURCES[name])
    write_source(twice, SOURCES[name])

    assert result_digests._digest(once).split()[0] == result_digests._digest(twice).split()[0]
    with av.open(str(once)) as container:
        assert list(container.demux())


def test_a_job_that_is_refused_is_recorded_with_its_error(tmp_path):
    digests = digest_results(tmp_path, ["anamorphic.mp4"], ["sound-only"])

    assert digests["anamorphic.mp4/sound-only"].startswith("OptionError: ")


def test_other_words_of_an_error_are_no_difference_of_results():
    old = {"a/x": "OptionError: no sound", "b/x": "1" * 64 + " b.mp4", "c/x": "3" * 64 + " c.mp4"}
    new = {"a/x": "OptionError: no audio", "b/x": "2" * 64 + " b.mp4", "c/x": "3" * 64 + " c.mp4", "d/x": "d"}

    changed, reworded = list_differences(old, new)

    assert [entry.split("\n")[0] for entry in changed] == ["b/x", "d/x"]
    assert [entry.split("\n")[0] for entry in reworded] == ["a/x"]


def test_a_difference_ends_the_command_with_1(tmp_path, monkeypatch, capsys):
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"stereo.mp3/sound-only": "0" * 64 + " stereo.relume.mp3"}))
    monkeypatch.setattr(
        "sys.argv", ["digests", "--sources", "stereo.mp3", "--presets", "sound-only", "--compare", str(old)]
    )

    with pytest.raises(SystemExit) as stop:
        result_digests.main()

    assert stop.value.code == 1
    assert "DIFFERENT: stereo.mp3/sound-only" in capsys.readouterr().out
