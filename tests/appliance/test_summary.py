from dataclasses import replace
from pathlib import Path

from appliance.console import summarise
from appliance.web.report_views import describe_report
from runtime.report import (
    Action,
    AudioReport,
    AvOffset,
    MediaFile,
    PartOutcome,
    Report,
    Speed,
    StateReset,
    StreamOutcome,
    VideoFacts,
    VideoReport,
)

FACTS = VideoFacts(320, 180, "yuv420p", 8, "bt709", "bt709", "bt709", "limited", "25", "1/12800", "1/1")
PICTURE = VideoReport(
    source=FACTS,
    result=replace(FACTS, width=1280, height=720),
    frames_in=150,
    frames_out=150,
    pts_equal=True,
    scale=4,
    scale_reason="x4 fits",
    strength=1.0,
)
REPORT = Report(
    relume="0.1.0",
    preset="upscale",
    source=MediaFile("in.mp4", "mp4", 1000, 6.0),
    result=MediaFile("out.mp4", "mp4", 1_500_000, 6.0),
    streams=(
        StreamOutcome(0, "video", "h264", Action.ENHANCED, 0, "h264"),
        StreamOutcome(2, "data", "tmcd", Action.NOT_CARRIED, reason="mp4 has no place for it"),
    ),
    speed=Speed(wall_s=65.0, first_frame_s=1.0, fps=15.25, peak_memory_bytes=500_000_000),
    picture=PICTURE,
)


def test_the_summary_shows_where_the_result_is_and_what_was_done():
    text = summarise(REPORT, Path("report.json"))

    assert "out.mp4 (1.5 MB)" in text
    assert "report.json" in text
    assert "320x180 8-bit -> 1280x720 8-bit; x4 fits" in text
    assert "150 in, 150 out, timing unchanged" in text
    assert "1:05, 15.2 fps, peak memory 500 MB" in text


def test_the_check_of_the_finished_file_has_a_line_of_its_own():
    failed = replace(REPORT, check_failures=("24 frames were written, 23 are in the file",))

    assert "passed: all frames and samples" in summarise(REPORT)
    assert "FAILED: 24 frames were written, 23 are in the file" in summarise(failed)
    assert not any("Verification" in sentence for sentence in describe_report(REPORT))
    assert "Verification of the result failed: 24 frames were written, 23 are in the file." in describe_report(failed)


def test_what_was_not_carried_is_reported_with_the_reason():
    report = replace(REPORT, parts=(PartOutcome("attachments", 2, Action.NOT_CARRIED, "mp4"),))

    lines = summarise(report).splitlines()

    assert any("tmcd" in line and "not carried: mp4 has no place for it" in line for line in lines)
    assert any("attachments" in line and "not carried: mp4" in line for line in lines)


def test_changed_times_warnings_and_repairs_stand_out():
    frame = replace(PICTURE, pts_equal=False, state_resets=(StateReset(1, 0, True), StateReset(2, 0, False)))

    text = summarise(replace(REPORT, picture=frame, warnings=("look here",)))

    assert "TIMING CHANGED" in text
    assert "1 of 2 tiles" in text
    assert text.endswith("warning: look here")


def test_audio_only_has_no_video_lines():
    report = replace(
        REPORT,
        picture=None,
        sound=(AudioReport(0, "speech", 48000, 1, 100, 100, 1.0, 0.25, 0.9),),
        av_offsets=(AvOffset(1, 48000, -5, 0),),
        speed=replace(REPORT.speed, fps=None),
    )

    text = summarise(report)

    assert not any(line.startswith("picture") for line in text.splitlines())
    assert "speech: 100 samples in, 100 out; noise reduction lowered for 25% of the time" in text
    assert "audio starts 5 samples before the video in the source, with the video in the result" in text


def test_a_job_that_was_interrupted_is_reported():
    assert "resumed" not in summarise(REPORT)
    assert "after 2 interruptions" in summarise(replace(REPORT, resumes=2))
