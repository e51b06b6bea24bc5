from datetime import datetime

import pytest

from appliance.watch.errors import FolderError
from appliance.watch.folder import Schedule, parse_schedule


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-01T{clock}")


def test_a_night_goes_over_midnight():
    night = Schedule.parse("22:00", "06:00")

    assert [night.is_open(at(c)) for c in ("21:59:59", "22:00", "23:59", "00:00", "05:59:59", "06:00", "12:00")] == [
        False, True, True, True, True, False, False,
    ]  # fmt: skip


def test_a_day_ends_where_it_says():
    day = Schedule.parse("08:00", "18:30")

    assert [day.is_open(at(c)) for c in ("07:59", "08:00", "18:29:59", "18:30")] == [False, True, True, False]


def test_a_schedule_is_read_from_one_word_and_written_back():
    assert parse_schedule("nights") == Schedule.parse("22:00", "06:00")
    assert parse_schedule("always") is None
    assert parse_schedule("07:15-19:45").to_text() == ("07:15", "19:45")


@pytest.mark.parametrize("text", ["25:00-06:00", "22-06", "22:00-22:00", "soon", "22:00-06:00-07:00", "٢٢:00-06:00"])
def test_what_is_no_span_is_refused(text):
    with pytest.raises(FolderError, match="expected"):
        parse_schedule(text)
