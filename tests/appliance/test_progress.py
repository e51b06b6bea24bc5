import io

import pytest

from appliance.console import describe_duration
from appliance.enhance_command import LineDisplay, describe_progress, open_display
from runtime.progress import Progress


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0:00"), (59.6, "1:00"), (61, "1:01"), (3725, "1:02:05"), (-3, "0:00")]
)
def test_durations_are_minutes_and_seconds(seconds, words):
    assert describe_duration(seconds) == words


def test_progress_shows_frames_rate_and_time_left():
    progress = Progress("enhance", frames_done=30, frames_total=150, fps=15.04, eta_s=8.0)

    assert describe_progress(progress) == "30/150 frames, 15.0 fps, 0:08 left"


def test_progress_without_a_total_shows_what_is_done():
    assert describe_progress(Progress("enhance", frames_done=7)) == "7 frames"


def test_progress_of_audio_only_counts_samples():
    progress = Progress("enhance", samples_done=480, samples_total=96000)

    assert describe_progress(progress) == "480/96000 samples"


def test_outside_a_terminal_lines_come_with_stages_and_not_with_every_frame():
    stream = io.StringIO()

    with open_display(stream) as show:
        show(Progress("open"))
        for done in range(1, 100):
            show(Progress("enhance", frames_done=done, frames_total=99))
        show(Progress("finish", frames_done=99, frames_total=99))

    assert stream.getvalue().splitlines() == ["open", "enhance: 1/99 frames", "finish: 99/99 frames"]


def test_lines_come_again_when_they_are_due():
    stream = io.StringIO()
    show = LineDisplay(stream, every_s=0.0)

    for done in (1, 2):
        show(Progress("enhance", frames_done=done))

    assert stream.getvalue().splitlines() == ["enhance: 1 frames", "enhance: 2 frames"]


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    with open_display() as show:
        show(Progress("enhance", frames_done=5, frames_total=10, fps=12.0))

    assert "5/10 frames, 12.0 fps" in terminal.getvalue()
