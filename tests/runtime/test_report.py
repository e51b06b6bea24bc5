import json
from dataclasses import replace

import pytest

from runtime.errors import OutputError
from runtime.report import (
    Action,
    AudioReport,
    AvOffset,
    EngineFacts,
    MediaFile,
    PartOutcome,
    Report,
    ReportError,
    Speed,
    StageTime,
    StateReset,
    StreamOutcome,
    Tiling,
    VideoFacts,
    VideoReport,
    report_from_json,
    report_to_json,
    write_report,
)

FACTS = VideoFacts(320, 180, "yuv420p", 8, "bt601", "bt709", "bt709", "limited", "30000/1001", "1/30000", "1/1")
REPORT = Report(
    relume="0.1.0",
    preset="upscale",
    source=MediaFile("in.mp4", "mp4", 1000, 6.0),
    result=MediaFile("out.mp4", "mp4", 5000, 6.0),
    streams=(
        StreamOutcome(0, "video", "h264", Action.ENHANCED, 0, "h264"),
        StreamOutcome(1, "data", "tmcd", Action.NOT_CARRIED, reason="no place in mp4"),
    ),
    speed=Speed(10.0, 1.5, 15.0, 500_000_000, (StageTime("engine", 8.0),)),
    parts=(PartOutcome("chapters", 2, Action.COPIED),),
    picture=VideoReport(
        FACTS,
        replace(FACTS, width=1280, height=720),
        frames_in=150,
        frames_out=150,
        pts_equal=True,
        scale=4,
        scale_reason="it fits",
        strength=1.0,
        tiling=Tiling(192, 336, 8, 1),
        scene_cuts=(75,),
        state_resets=(StateReset(3, 0, True),),
    ),
    sound=(AudioReport(1, "speech", 48000, 2, 288000, 288000, 1.0, 0.05, 0.9),),
    av_offsets=(AvOffset(1, 48000, -3, -3),),
    engines=(EngineFacts("light-x4", "ab" * 32, "fp32", "cpu", "the only one"),),
    warnings=("é is kept",),
)


def test_a_report_comes_back_from_json_as_it_was():
    assert report_from_json(report_to_json(REPORT)) == REPORT


def test_the_schema_number_comes_first():
    assert next(iter(json.loads(report_to_json(REPORT)).items())) == ("schema", 1)


def test_another_schema_is_refused():
    text = report_to_json(replace(REPORT, schema=2))

    with pytest.raises(ReportError, match="report has schema 2, expected 1"):
        report_from_json(text)


@pytest.mark.parametrize("place", [(), ("source",), ("picture", "tiling")])
def test_an_unknown_field_is_refused(place):
    fields = json.loads(report_to_json(REPORT))
    inner = fields
    for name in place:
        inner = inner[name]
    inner["surprise"] = 1

    with pytest.raises(ReportError, match="surprise"):
        report_from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{}", "no"])
def test_other_text_is_no_report(text):
    with pytest.raises(ReportError, match="not a report of schema 1"):
        report_from_json(text)


def test_a_written_report_can_be_read_and_leaves_nothing_else(tmp_path):
    write_report(REPORT, tmp_path / "report.json")

    assert report_from_json((tmp_path / "report.json").read_text("utf-8")) == REPORT
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path):
    place = tmp_path / "folder"
    place.mkdir()

    with pytest.raises(OutputError, match="the report cannot be written to"):
        write_report(REPORT, place)

    assert list(tmp_path.rglob("*")) == [place]


def test_a_link_with_the_name_of_the_unfinished_report_leads_nowhere(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".report.json.part").symlink_to(tmp_path / "precious")

    write_report(REPORT, tmp_path / "report.json")

    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "report.json"]
