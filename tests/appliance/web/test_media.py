import html
import io
import json
import os
import re
import zipfile
from fractions import Fraction

import pytest

from appliance.jobs.job import NewJob
from appliance.watch.folder import FolderConfig
from appliance.web.report_views import describe_report
from runtime.options import EnhanceOptions
from runtime.report import (
    Action,
    AudioReport,
    MediaFile,
    Report,
    Speed,
    StreamOutcome,
    VideoFacts,
    VideoReport,
    report_to_json,
)

FACTS = VideoFacts(64, 48, "yuv420p", 8, "bt709", "bt709", "bt709", "limited", "25", "1/25", "1")
REPORT = Report(
    relume="1",
    preset="restore",
    source=MediaFile("/somewhere/secret/uploads/abc", "mov", 1000, 1.2),
    result=MediaFile("/somewhere/secret/results/x/clip.relume.mp4", "mov", 2000, 1.2),
    streams=(
        StreamOutcome(0, "video", "h264", Action.ENHANCED, 0, "h264"),
        StreamOutcome(1, "data", "tmcd", Action.NOT_CARRIED, reason="mp4 has no place for it"),
        StreamOutcome(2, "subtitle", "srt", Action.COPIED, 1, "srt"),
    ),
    speed=Speed(61.0, 0.5, 12.0, 1000),
    picture=VideoReport(FACTS, FACTS, 30, 30, True, 1, "", 0.5),
    sound=(AudioReport(1, "speech", 48000, 1, 1000, 1000, 1.0, 0.25, 0.9),),
    warnings=("something odd",),
)


@pytest.fixture
def done(services, add_job, operator):
    """A finished job with all its files."""
    job = add_job(operator.user, 'a "quoted" <name>\r\nX-Evil: 1 ü.mp4')
    files = services.queue.files(job.id)
    files.folder.mkdir(parents=True)
    files.results.mkdir(parents=True)
    result = files.results / "a ünïcode <b>;.mp4"
    result.write_bytes(bytes(range(256)) * 40)
    for path in (files.thumbnail, files.before, files.after, files.sound_before, files.sound_after):
        path.write_bytes(path.name.encode() * 100)
    files.report.write_text(report_to_json(REPORT))
    with services.database.transaction() as connection:
        connection.execute(
            "UPDATE jobs SET state = 'done', result = ?, finished_at = 5 WHERE id = ?", (str(result), job.id)
        )
    return services.queue.get(job.id)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("thumbnail", "image/jpeg"),
        ("before", "video/mp4"),
        ("after", "video/mp4"),
        ("sound-before", "audio/mp4"),
        ("sound-after", "audio/mp4"),
    ],
)
def test_the_parts_of_a_job_are_served_whole_and_in_pieces(viewer, done, part, kind):
    whole = viewer.get(f"/api/jobs/{done.id}/{part}")
    piece = viewer.get(f"/api/jobs/{done.id}/{part}", headers={"Range": "bytes=10-19"})
    beyond = viewer.get(f"/api/jobs/{done.id}/{part}", headers={"Range": "bytes=999999-"})

    assert (whole.status_code, whole.headers["content-type"]) == (200, kind)
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert (piece.status_code, piece.content) == (206, whole.content[10:20])
    assert piece.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    assert beyond.status_code == 416
    assert viewer.get(f"/api/jobs/{done.id}").json()["has"][part.replace("-", "_")] is True


def test_the_result_is_offered_under_a_safe_name(viewer, done):
    answer = viewer.get(f"/api/jobs/{done.id}/result")

    assert answer.content == bytes(range(256)) * 40
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"a unicode b _.mp4\"; filename*=UTF-8''a%20%C3%BCn%C3%AFcode%20b%20%3B.mp4"
    )
    assert "x-evil" not in answer.headers


def test_script_in_a_name_is_only_ever_text_in_json(viewer, done):
    answer = viewer.get(f"/api/jobs/{done.id}")

    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["title"] == 'a "quoted" <name>\r\nX-Evil: 1 ü.mp4'


def test_the_report_has_no_server_paths(viewer, done):
    report = viewer.get(f"/api/jobs/{done.id}/report").json()

    assert report["picture"]["frames_out"] == 30
    assert report["result"]["path"] == "clip.relume.mp4"
    assert "/somewhere" not in json.dumps(report)


def test_the_text_report_states_what_was_done_and_what_was_not(viewer, done):
    lines = viewer.get(f"/api/jobs/{done.id}/report/text").json()["lines"]
    page = viewer.get(f"/api/jobs/{done.id}/report/page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall("<script[^>]*>", page.text) == ['<script type="module" src="/page/js/report.js">']
    assert "still-before" not in page.text
    assert "/somewhere" not in page.text
    assert all(html.escape(line) in page.text for line in lines)
    assert ".report.json" in viewer.get(f"/api/jobs/{done.id}/report").headers["content-disposition"]

    assert lines == describe_report(REPORT)
    text = " ".join(lines)
    assert "Video cleaned at its original size, 64 × 48." in text
    assert "All 30 frames preserved" in text
    assert "Strength: 50%." in text
    assert "1 subtitle track kept." in text
    assert "(data) could not be kept: mp4 has no place for it" in text
    assert "Processed in 1 min 1 s" in text
    assert "Note: something odd." in text


def test_the_report_shows_the_stills_before_and_after(viewer, done, services):
    files = services.queue.files(done.id)
    for path in (files.still_before, files.still_after):
        path.write_bytes(b"\xff\xd8\xff")

    page = viewer.get(f"/api/jobs/{done.id}/report/page").text

    for side in ("before", "after"):
        assert f'<img src="/api/jobs/{done.id}/still-{side}"' in page
        image = viewer.get(f"/api/jobs/{done.id}/still-{side}")
        assert (image.headers["content-type"], image.content) == ("image/jpeg", b"\xff\xd8\xff")


@pytest.mark.parametrize(
    "part", ["thumbnail", "before", "after", "sound-before", "still-after", "report", "report/text", "result"]
)
def test_missing_items_are_reported(viewer, add_job, part):
    job = add_job()

    for job_id in (job.id, "A" * 16):
        answer = viewer.get(f"/api/jobs/{job_id}/{part}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("part", ["work", "log.txt", "../relume.db", "..%2f..%2frelume.db", "report.json", "%00"])
def test_no_other_file_of_a_job_is_served(viewer, done, part):
    assert viewer.get(f"/api/jobs/{done.id}/{part}").status_code in (404, 422)


def test_a_result_that_was_moved_away_is_an_answer_too(viewer, done):
    done.result.unlink()

    answer = viewer.get(f"/api/jobs/{done.id}/result")

    assert answer.status_code == 404
    assert "may have been moved" in answer.json()["error"]["message"]
    assert viewer.get(f"/api/jobs/{done.id}").json()["has"]["result"] is False


def test_frame_rates_in_the_report_stay_exact(viewer, done):
    assert Fraction(viewer.get(f"/api/jobs/{done.id}/report").json()["picture"]["source"]["frame_rate"]) == 25


def test_several_results_come_as_one_zip(viewer, services, tmp_path):
    ids, contents, results = [], [], []
    for number, name in enumerate(("a.mp4", "A.mp4", "b.mov")):
        services.queue.add(NewJob(tmp_path / name, name, EnhanceOptions()))
        job = services.queue.lease("w").claim()
        result = services.queue.files(job.id).results / name
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_bytes(bytes([number]) * (3_000_000 + number))
        contents.append(result.read_bytes())
        services.queue.lease("w").finish(job.id, result)
        ids.append(job.id)
        results.append(result)

    answer = viewer.get(f"/api/results.zip?jobs={','.join(ids)}")

    assert answer.status_code == 200
    assert "Relume%20results.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.mp4", "A (2).mp4", "b.mov"]
        assert [archive.read(name) for name in archive.namelist()] == contents
    results[2].unlink()
    gone = viewer.get(f"/api/results.zip?jobs={','.join(ids)}")
    assert (gone.status_code, gone.json()["error"]["message"]) == (
        404,
        "the file b.mov does not exist; it may have been moved",
    )
    waiting = services.queue.add(NewJob(tmp_path / "c.mp4", "c.mp4", EnhanceOptions()))
    assert viewer.get(f"/api/results.zip?jobs={waiting.id}").status_code == 404


@pytest.fixture
def watched(services, done, tmp_path):
    """A finished job of a watch folder, its result in a folder of the folder's destination."""
    source, destination = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (destination / "day").mkdir(parents=True)
    folder = services.folders.add(FolderConfig(source, destination))
    result = destination / "day/clip.mp4"
    result.write_bytes(b"film")
    facts = result.stat()
    publication = json.dumps({"size_bytes": 4, "mtime_ns": facts.st_mtime_ns, "is_done": True, "path": None})
    with services.database.transaction() as connection:
        connection.execute(
            "UPDATE jobs SET result = ?, target = ?, folder = ?, origin = 'watch', publication = ? WHERE id = ?",
            (str(result), str(result), folder.id, publication, done.id),
        )
    return services.queue.get(done.id)


def test_the_result_of_a_watched_file_is_served(viewer, watched):
    assert viewer.get(f"/api/jobs/{watched.id}/result").content == b"film"


@pytest.mark.parametrize("what", ["link", "hard link", "folder link", "pipe", "folder", "other file"])
def test_a_file_that_replaced_a_result_is_never_served(viewer, watched, services, what):
    secret = services.settings.secrets / "clip.mp4"
    secret.write_bytes(b"the key")
    result = watched.result
    result.unlink()
    if what == "link":
        result.symlink_to(secret)
    elif what == "hard link":
        result.hardlink_to(secret)
    elif what == "folder link":
        result.parent.rmdir()
        result.parent.symlink_to(secret.parent)
    elif what == "pipe":
        os.mkfifo(result)
    elif what == "folder":
        result.mkdir()
    else:
        result.write_bytes(b"not a film")

    answers = [viewer.get(f"/api/jobs/{watched.id}/result") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert answers[0].json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("what", ["secret", "other job", "outside"])
def test_a_manipulated_database_exposes_no_file(viewer, done, services, tmp_path, what):
    place = {
        "secret": services.settings.secrets / "key",
        "other job": services.settings.data / "results/other/clip.mp4",
        "outside": tmp_path / "clip.mp4",
    }[what]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"secret")
    with services.database.transaction() as connection:
        connection.execute("UPDATE jobs SET result = ? WHERE id = ?", (str(place), done.id))

    assert viewer.get(f"/api/jobs/{done.id}/result").status_code == 404


@pytest.mark.parametrize(("part", "status"), [("bytes=999999-", 416), ("bytes=5-1", 400), ("lines=1-2", 400)])
def test_a_part_that_is_not_there_is_refused_as_everything_is(viewer, done, part, status):
    answer = viewer.get(f"/api/jobs/{done.id}/result", headers={"Range": part})

    assert answer.status_code == status
    assert answer.json()["error"] == {
        "code": "range",
        "message": "the requested range is outside this file of 10240 bytes",
        "field": "",
    }


def test_passed_files_are_closed(viewer, done):
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    viewer.get(f"/api/jobs/{done.id}/result")
    before = count()
    for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999-"}, {"Range": "bytes=0-1,4-5"}) * 3:
        viewer.get(f"/api/jobs/{done.id}/result", headers=headers)

    assert count() <= before
