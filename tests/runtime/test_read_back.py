"""The report states what is in the finished file, not what was sent to it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.enhance import enhance
from runtime.media.media_info import OtherStream
from runtime.media.probe import probe
from runtime.media.stream_mapping import StreamPlan
from runtime.options import EnhanceOptions
from runtime.read_back import actual_plan, pair_streams
from runtime.report import Action, PartOutcome

SOUND = EnhanceOptions(preset="sound-only")
TAGS = {"title": "Episode 12", "artist": "Someone", "date": "2024-05-01"}


def write_audio(path: Path, tags: dict[str, str], *, language: str = "") -> Path:
    codec = {".opus": "libopus", ".ogg": "libopus", ".mka": "flac", ".flac": "flac"}[path.suffix]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        if language:
            stream.metadata["language"] = language
        output.metadata.update(tags)
        for start in range(0, 48_000, 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def part(report, what: str) -> PartOutcome | None:
    return next((part for part in report.parts if part.what == what), None)


@pytest.mark.parametrize("source", [".opus", ".ogg", ".flac", ".mka"])
@pytest.mark.parametrize("target", [".m4a", ".mp3", ".mka", ".opus", ".flac", ".wav"])
def test_tags_are_counted_in_the_result(tmp_path, source, target):
    path = write_audio(tmp_path / f"a{source}", TAGS)

    report = enhance(path, tmp_path / f"b{target}", SOUND)

    after = probe(tmp_path / f"b{target}")
    texts = set(after.tags.values()) | {text for stream in after.streams for text in stream.tags.values()}
    assert set(TAGS.values()) <= texts
    assert part(report, "tags") == PartOutcome("tags", 3, Action.COPIED)


def test_tags_that_are_gone_are_named(tmp_path):
    path = write_audio(tmp_path / "a.mka", TAGS | {"x-own": "odd one", "mood": "calm one"})

    report = enhance(path, tmp_path / "b.wav", SOUND)

    found = part(report, "tags")
    assert found is not None
    assert (found.count, found.action) == (5, Action.COPIED)
    assert found.reason.lower() == "2 not kept: mood, x-own"


def test_a_language_that_is_gone_is_named(tmp_path):
    path = write_audio(tmp_path / "a.mka", {}, language="deu")

    kept = enhance(path, tmp_path / "b.m4a", SOUND)
    lost = enhance(path, tmp_path / "b.wav", SOUND)

    assert part(kept, "track tags") is None
    assert part(lost, "track tags") == PartOutcome("track tags", 1, Action.NOT_CARRIED, "language deu of stream 0")


@pytest.mark.parametrize(
    ("language", "suffix"), [("deu", ".mov"), ("ger", ".mov"), ("swe", ".mov"), ("fre", ".mov"), ("deu", ".m4a")]
)
def test_a_language_is_kept_under_any_of_its_codes(tmp_path, language, suffix):
    path = write_audio(tmp_path / "a.mka", {}, language=language)

    report = enhance(path, tmp_path / f"b{suffix}", SOUND)

    assert probe(tmp_path / f"b{suffix}").audios[0].tags["language"] != "und"
    assert part(report, "track tags") is None


def test_a_stream_that_is_not_found_was_not_carried(tmp_path):
    result = probe(write_audio(tmp_path / "a.mka", {}))
    plans = (
        StreamPlan(0, "audio", "pcm_s16le", Action.TRANSCODED, "flac"),
        StreamPlan(1, "audio", "aac", Action.COPIED, "aac"),
        StreamPlan(2, "data", "klv", Action.COPIED, "klv"),
        StreamPlan(3, "attachment", "a.ttf", Action.NOT_CARRIED, None, "no place"),
    )

    pairs = pair_streams(plans, result)

    assert {index: stream.index for index, stream in pairs.items()} == {0: 0}
    actions = [actual_plan(plan, pairs, result, written={}, found={}) for plan in plans]
    assert [plan.action for plan in actions] == [Action.TRANSCODED, *[Action.NOT_CARRIED] * 3]
    assert [plan.reason for plan in actions[1:3]] == ["it was written, but is missing from the finished file"] * 2
    assert actions[3].reason == "no place"


def test_subtitles_are_counted_in_the_result(tmp_path):
    result = probe(write_audio(tmp_path / "a.mka", {}))
    plan = StreamPlan(2, "subtitle", "subrip", Action.TRANSCODED, "mov_text")
    pairs = {2: OtherStream(1, "subtitle", "mov_text", Fraction(1, 1000), False, 0, {})}

    kept = actual_plan(plan, pairs, result, written={2: 5}, found={1: 9})
    lost = actual_plan(plan, pairs, result, written={2: 5}, found={1: 4})

    assert kept is plan
    assert (lost.action, lost.out_codec) == (Action.NOT_CARRIED, None)
    assert lost.reason == "5 packets were written, 4 are in the finished file"


@pytest.mark.parametrize("suffix", [".mp4", ".m4a", ".mov", ".mka"])
def test_the_title_of_a_track_is_kept(tmp_path, suffix):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("flac", rate=48_000, layout="mono")
        stream.metadata["title"] = "Commentary"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    report = enhance(path, tmp_path / f"b{suffix}", SOUND)

    assert "Commentary" in probe(tmp_path / f"b{suffix}").audios[0].tags.values()
    assert part(report, "track tags") is None
