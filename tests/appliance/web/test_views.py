import email.message
from urllib.parse import unquote

import pytest

from appliance.web.views import MAX_NAME_LENGTH, clean_file_name, content_disposition

NAMES = [
    "clip.mp4",
    "../../x",
    "a/b\\c.mp4",
    "",
    ".",
    "...",
    " . ",
    "\x00",
    "a\r\nSet-Cookie: x=1",
    'a"; filename="evil.exe',
    "naïve “film” — 影片.mov",
    "\ud800.mp4",
    "\u202egpj.exe",
    "LPT1.mp4",
    "x" * 1000,
    "é" * 1000 + ".mp4",
    "a" * 200 + "." + "b" * 200,
    "<script>alert(1)</script>.mp4",
    "%2e%2e%2f",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_name_is_one_plain_part_of_a_path(name):
    clean = clean_file_name(name)

    assert 0 < len(clean) <= MAX_NAME_LENGTH
    assert not set(clean) & set('/\\\0\r\n<>:"|?*')
    assert clean not in (".", "..")
    assert clean.strip(" .") == clean
    assert clean_file_name(clean) == clean
    clean.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_disposition_is_one_header_with_the_clean_name(name):
    value = content_disposition(name)

    assert value.isascii()
    assert "\r" not in value
    assert "\n" not in value
    assert value.count('"') == 2
    message = email.message.Message()
    message["Content-Disposition"] = value
    assert message.get_content_disposition() == "attachment"
    assert unquote(value.rpartition("''")[2]) == clean_file_name(name)
