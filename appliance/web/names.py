"""Names that come from outside: shown and offered for saving, never used to find a file here."""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

MOST_CHARACTERS: Final = 150

# Reserved on the Windows machines that results are saved to.
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def clean_file_name(text: str) -> str:
    """Make a plain file name of what a browser sent: no folders, nothing that does not show, not too long."""
    name = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()).replace("\\", "/").rpartition("/")[2]
    name = "".join(mark for mark in name if unicodedata.category(mark)[0] != "C")
    name = re.sub(r'[<>:"|?*\s]+', " ", name).strip(" .")
    if len(name) > MOST_CHARACTERS:
        stem, dot, suffix = name.rpartition(".")
        keeps = dot and len(suffix) <= 10
        name = f"{stem[: MOST_CHARACTERS - 11].rstrip()}.{suffix}" if keeps else name[:MOST_CHARACTERS].rstrip()
    if not name or _RESERVED.fullmatch(name):
        name = f"file {name}".strip()
    return name


def content_disposition(name: str) -> str:
    """Offer a file for saving under a name (RFC 6266, RFC 8187): plain letters for old programs too."""
    clean = clean_file_name(name)
    bare = "".join(mark for mark in unicodedata.normalize("NFKD", clean) if not unicodedata.combining(mark))
    plain = re.sub(r"[^A-Za-z0-9 ._()-]", "_", bare)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(clean, safe='')}"
