"""The files of the page, cached by browsers until the next upgrade.

Every URL under `/page/` also exists as `/page/@<hash>/`, where the hash covers all files. The start page refers only to
such URLs, so a second visit requests nothing but the start page.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from appliance.web.security import Public

FOLDER: Final = Path(__file__).parent / "page"
_IMMUTABLE: Final = "public, max-age=31536000, immutable"


class PageFiles(StaticFiles):
    """Serves the files; URLs without the current hash are revalidated each time, since an upgrade changes them."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER, check_dir=False)

    def lookup_path(self, path: str) -> Any:
        """Find a file under any hash, so that a page loaded before an upgrade keeps working."""
        first, _, rest = path.partition("/")
        return super().lookup_path(rest if first.startswith("@") else path)

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return a file with its cache lifetime."""
        response = await super().get_response(path, scope)
        is_current = path.partition("/")[0] == f"@{hash_page()}"
        response.headers["Cache-Control"] = _IMMUTABLE if is_current else "no-cache"
        return response


@cache
def read_start_page() -> tuple[str, Mapping[str, str]]:
    """Return the start page with the URLs of this version, and its headers."""
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    return text.replace('"/page/', f'"/page/@{hash_page()}/'), {"Cache-Control": "no-cache"}


@cache
def hash_page() -> str:
    """Return a hash of the names and contents of all files."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(FOLDER)} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


router = APIRouter(include_in_schema=False, dependencies=[Depends(Public())])


@router.get("/")
@router.get("/setup")
async def start_page() -> HTMLResponse:
    """Return the start page, which also handles the one-time setup link."""
    text, headers = read_start_page()
    return HTMLResponse(text, headers=dict(headers))
