from fractions import Fraction

import pytest

from runtime.errors import OptionError
from runtime.resume.writer import SegmentRule, default_rule


def test_a_segment_ends_at_a_cut_once_it_is_long_enough_and_anywhere_at_its_longest():
    rule = SegmentRule(5, 10)

    assert not rule.ends(4, is_cut=True)
    assert rule.ends(5, is_cut=True)
    assert not rule.ends(9, is_cut=False)
    assert rule.ends(10, is_cut=False)


@pytest.mark.parametrize(("least", "most"), [(1, 10), (5, 4), (0, 0)])
def test_a_rule_that_cannot_be_is_refused(least, most):
    with pytest.raises(OptionError, match="expected 2 or more, and the minimum first"):
        SegmentRule(least, most)


def test_the_usual_rule_follows_the_rate():
    assert default_rule(Fraction(30000, 1001)) == SegmentRule(150, 450)
    assert default_rule(None) == SegmentRule(125, 375)
    assert default_rule(Fraction(1, 10)) == SegmentRule(2, 2)
