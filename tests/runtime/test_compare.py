import numpy as np
import pytest
from PIL import Image

from runtime.compare import draw_comparison, find_detail, save_comparison
from runtime.errors import OutputError


def _flat(height, width, value=90):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("before", "after"),
    [((1, 1), (4, 4)), ((90, 160), (360, 640)), ((2000, 16), (2000, 16)), ((720, 1280), (1440, 2560))],
)
def test_a_sheet_of_any_size_fits_a_screen(before, after):
    sheet = draw_comparison(_flat(*before), _flat(*after))

    assert 600 <= sheet.width <= 2000
    assert 300 <= sheet.height <= 1600


def test_both_images_are_on_the_sheet():
    sheet = np.asarray(draw_comparison(_flat(90, 160, 60), _flat(360, 640, 200)))

    rows = sheet[60:300]
    left, right = rows[:, : sheet.shape[1] // 2], rows[:, sheet.shape[1] // 2 :]
    assert np.mean(np.all(left == 60, axis=2)) > 0.9
    assert np.mean(np.all(right == 200, axis=2)) > 0.9


def test_the_detail_is_where_the_image_is_busy():
    frame = _flat(200, 300)
    frame[120:180:2, 200:280] = 255

    left, top, right, bottom = find_detail(frame, (160, 120))

    assert (right - left, bottom - top) == (80, 60)
    assert left in range(198, 203)
    assert top in range(117, 123)


def test_the_file_is_a_png_and_nothing_else_is_left(tmp_path):
    save_comparison(_flat(9, 16), _flat(18, 32), tmp_path / "look.png")

    with Image.open(tmp_path / "look.png") as frame:
        assert frame.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["look.png"]


def test_a_place_that_does_not_exist_is_reported(tmp_path):
    with pytest.raises(OutputError, match="before/after image cannot be written to"):
        save_comparison(_flat(9, 16), _flat(18, 32), tmp_path / "none" / "look.png")


def test_a_link_with_the_name_of_the_unfinished_image_leads_nowhere(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".sheet.png.part").symlink_to(tmp_path / "precious")

    save_comparison(_flat(8, 8), _flat(8, 8), tmp_path / "sheet.png")

    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "sheet.png"]
