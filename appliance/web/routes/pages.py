"""The page: static files that need no log-in, since all data does."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse

from appliance.web.access import Open

FOLDER: Final = Path(__file__).resolve().parents[1] / "page"

router = APIRouter(include_in_schema=False, dependencies=[Depends(Open())])


@router.get("/")
@router.get("/setup")
async def index() -> FileResponse:
    """Give the page; the one-time set-up link leads to it too."""
    return FileResponse(FOLDER / "index.html", media_type="text/html", headers={"Cache-Control": "no-cache"})
