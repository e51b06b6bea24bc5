from fractions import Fraction

import pytest

from runtime.errors import OptionError
from runtime.options import Codec, EnhanceOptions, check_crf, check_options, parse_scale, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", Fraction(0)),
        ("90", Fraction(90)),
        ("1.001", Fraction(1001, 1000)),
        (".5", Fraction(1, 2)),
        ("01:02", Fraction(62)),
        ("90:00", Fraction(5400)),
        ("1:02:03.040", Fraction(93076, 25)),
        ("100:00:00", Fraction(360000)),
    ],
)
def test_times_are_read_exactly(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "1:2:3:4", "1:", "1,5", "٣", "0:60", "1:60:00"])
def test_other_texts_are_no_times(text):
    with pytest.raises(OptionError, match="time "):
        parse_time(text)


def test_scales_are_auto_1_2_and_4():
    assert [parse_scale(text) for text in ("auto", "1", "2", "4")] == ["auto", 1, 2, 4]
    with pytest.raises(OptionError, match="scale is 8, expected auto, 1, 2 or 4"):
        parse_scale("8")


@pytest.mark.parametrize("codec", [Codec.PRORES, Codec.FFV1])
def test_codecs_without_a_crf_refuse_one(codec):
    with pytest.raises(OptionError, match=f"codec {codec} has no crf"):
        check_crf(codec, 20)


def test_av1_takes_a_larger_crf_than_h264():
    check_crf(Codec.AV1, 63)
    with pytest.raises(OptionError, match="crf is 63, expected 0 to 51 for codec h264"):
        check_crf(Codec.H264, 63)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EnhanceOptions(strength=-0.1), "strength is -0.1"),
        (EnhanceOptions(threads=0), "threads is 0"),
        (EnhanceOptions(start=Fraction(-1)), "start is -1 s"),
        (EnhanceOptions(end=Fraction(0)), "end is 0 s"),
        (EnhanceOptions(start=Fraction(2), end=Fraction(2)), "end is 2 s"),
    ],
)
def test_values_outside_their_range_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        check_options(options)


def test_open_options_are_fine():
    check_options(EnhanceOptions())
