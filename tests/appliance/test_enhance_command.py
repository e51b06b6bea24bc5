"""`relume enhance` when it succeeds, and when it is stopped."""

import json
import shutil
import signal
import time
from fractions import Fraction

import av
import pytest
from PIL import Image

from runtime.manifest import zoo_folder
from runtime.report import report_from_json

pytest.importorskip("runtime.enhance")


def _sizes(path):
    with av.open(str(path)) as container:
        return [(frame.width, frame.height) for frame in container.decode(video=0)]


def test_a_clip_is_upscaled_with_a_report_and_an_image(relume, clip, tmp_path):
    out, report, look = (tmp_path / name for name in ("out.mp4", "out.json", "out.png"))

    done = relume("enhance", clip, "-o", out, "--report", report, "--compare", look)

    assert done.returncode == 0, done.stderr
    assert _sizes(out) == [(256, 192)] * 12
    facts = report_from_json(report.read_text("utf-8"))
    assert facts.picture is not None
    assert (facts.picture.frames_in, facts.picture.frames_out) == (12, 12)
    assert facts.picture.pts_equal
    with Image.open(look) as frame:
        assert frame.format == "PNG"
    for path in (out, report, look):
        assert str(path) in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "clip.mp4",
        "out.mp4",
        "out.json",
        "out.png",
    }


def test_with_json_the_report_is_all_there_is_on_standard_output(relume, clip, tmp_path):
    done = relume("enhance", clip, "-o", tmp_path / "out.mp4", "--scale", "1", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["schema"] == 1
    assert _sizes(tmp_path / "out.mp4") == [(64, 48)] * 12


def test_an_own_model_is_used_and_its_licence_reported(relume, clip, tmp_path):
    shutil.copytree(zoo_folder() / "light-x2", tmp_path / "own" / "mine")

    done = relume("enhance", clip, "-o", tmp_path / "out.mp4", "--model", "mine", "--zoo", tmp_path / "own")

    assert done.returncode == 0, done.stderr
    assert _sizes(tmp_path / "out.mp4") == [(128, 96)] * 12
    assert "is your own model; its licence is Apache-2.0" in done.stdout


def test_the_name_of_the_result_can_be_left_out(relume, clip, tmp_path):
    done = relume("enhance", clip)

    assert done.returncode == 0, done.stderr
    (result,) = [path for path in tmp_path.iterdir() if path != clip]
    assert str(result) in done.stdout


def test_start_and_end_cut_the_clip(relume, clip, tmp_path):
    arguments = ["--start", "0.12", "--end", "00:00.32"]

    done = relume("enhance", clip, "-o", tmp_path / "out.mp4", *arguments)

    assert done.returncode == 0, done.stderr
    assert len(_sizes(tmp_path / "out.mp4")) == 5


def test_overwrite_replaces_a_result(relume, clip, tmp_path):
    (tmp_path / "out.mp4").write_text("old")

    done = relume("enhance", clip, "-o", tmp_path / "out.mp4", "--overwrite")

    assert done.returncode == 0, done.stderr
    assert len(_sizes(tmp_path / "out.mp4")) == 12


@pytest.mark.parametrize("kind", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_stops_the_job_and_leaves_no_half_file(start_relume, write_clip, tmp_path, kind):
    source = write_clip(tmp_path / "clip.mp4", frames=400, size=(320, 180), audio=False)
    before = source.read_bytes()

    with start_relume("enhance", source, "-o", tmp_path / "out.mp4") as process:
        while "frames" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(kind)
        asked = time.monotonic()
        _, rest = process.communicate(timeout=60)
        waited_s = time.monotonic() - asked

    assert process.returncode == 130
    assert waited_s < 20
    assert "Traceback" not in rest
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_an_animated_webp_becomes_a_video_with_its_times(relume, tmp_path):
    frames = [Image.new("RGB", (48, 32), (60 * number, 0, 0)) for number in range(4)]
    durations = [40, 17, 333, 100]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:], duration=durations, lossless=True)

    done = relume("enhance", tmp_path / "film.webp", "--preset", "restore", "--scale", "1")

    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "film.relume.mp4")) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(0), Fraction(40, 1000), Fraction(57, 1000), Fraction(390, 1000)]
