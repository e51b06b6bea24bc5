"""Names of results: safe for any title, and never an existing one."""

from itertools import islice

import pytest

from appliance.jobs.job_files import free_names, remove_unfinished, result_name, safe_stem, staged_path


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("holiday.mp4", "holiday"),
        ("Größe 4 – ä.mov", "Größe 4 – ä"),
        ("../../etc/passwd", "passwd"),
        ("C:\\films\\a.avi", "a"),
        ("<script>alert(1)</script>.mp4", "script_"),
        ('a:b|c?d*e"f.mp4', "a_b_c_d_e_f"),
        ("line\nbreak\x00\x1b[31m.mp4", "linebreak[31m"),
        (".hidden.mp4", "hidden"),
        ("...", "result"),
        ("", "result"),
        (" . ", "result"),
        ("/", "result"),
        ("x" * 400 + ".mp4", "x" * 150),
        ("ä" * 200, "ä" * 75),
    ],
)
def test_a_title_becomes_a_safe_name(title, stem):
    assert safe_stem(title) == stem


def test_names_count_up_from_two_and_leave_out_what_exists(tmp_path):
    (tmp_path / "a.mp4").write_text("")
    (tmp_path / "a (3).mp4").symlink_to(tmp_path / "nowhere")

    names = [path.name for path in islice(free_names(tmp_path / "a.mp4"), 3)]

    assert names == ["a (2).mp4", "a (4).mp4", "a (5).mp4"]


def test_a_preview_and_a_target_are_named_as_such(add, tmp_path):
    assert result_name(add("a.mp4"), ".mkv") == "a.relume.mkv"
    assert result_name(add("a.mp4", preview_of="x"), ".mp4") == "a.preview.mp4"
    assert result_name(add("a.mp4", target=tmp_path / "b.mov"), ".mov") == "b.mov"


def test_only_what_this_job_left_is_removed(add, queue, tmp_path):
    job, other = add("a", target=tmp_path / "a.mp4"), add("b", target=tmp_path / "b.mp4")
    mine, others = (staged_path(one, queue.files(one.id), ".mp4") for one in (job, other))
    partial = mine.with_name(f".{mine.stem}.1234abcd.partial.mp4")
    for path in (mine, others, partial, tmp_path / "a.mp4"):
        path.write_text("")

    remove_unfinished(job, queue.files(job.id))

    assert sorted(tmp_path.glob("*.mp4")) == [others, tmp_path / "a.mp4"]
