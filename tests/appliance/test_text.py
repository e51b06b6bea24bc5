from fractions import Fraction
from pathlib import Path

import pytest

from appliance.console import format_bytes, format_json, format_table


def test_columns_are_aligned_and_lines_end_without_spaces():
    assert format_table([("a", "bb"), ("ccc", ""), ("d", "e", "f")]) == "a    bb\nccc\nd    e   f"


def test_a_cell_stays_on_one_line():
    assert format_table([("a\nb", "c")]) == "a b  c"


def test_no_rows_are_no_text():
    assert format_table([]) == ""


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (5 * 10**13, "50 TB")],
)
def test_sizes_have_decimal_units(count, words):
    assert format_bytes(count) == words


def test_json_writes_rationals_and_paths_as_text():
    assert '"30000/1001"' in format_json({"rate": Fraction(30000, 1001), "path": Path("a")})
