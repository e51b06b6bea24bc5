"""The page's files: kept by the browser for as long as they are those of this version.

Every address under `/page/` also exists as `/page/@<hash>/`, the hash being that of all files together. The start page
names only such addresses, so a second visit asks for nothing but the start page.
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
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class PageFiles(StaticFiles):
    """Gives the files; those without the hash are asked for again each time, since an upgrade changes them."""

    def __init__(self) -> None:
        super().__init__(directory=FOLDER, check_dir=False)

    def lookup_path(self, path: str) -> Any:
        """Find a file, whatever hash is before it: a page from before an upgrade goes on to work."""
        first, _, rest = path.partition("/")
        return super().lookup_path(rest if first.startswith("@") else path)

    async def get_response(self, path: str, scope: Any) -> Response:
        """Return a file, and say how long it may be kept."""
        response = await super().get_response(path, scope)
        is_current = path.partition("/")[0] == f"@{hash_page()}"
        response.headers["Cache-Control"] = _FOR_EVER if is_current else "no-cache"
        return response


@cache
def read_start_page() -> tuple[str, Mapping[str, str]]:
    """Return the start page with the addresses of this version, and the headers for it."""
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    return text.replace('"/page/', f'"/page/@{hash_page()}/'), {"Cache-Control": "no-cache"}


@cache
def hash_page() -> str:
    """Hash all files of the page, names and contents."""
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
    """Return the page; the one-time set-up link leads to it too."""
    text, headers = read_start_page()
    return HTMLResponse(text, headers=dict(headers))
