"""The start page, which needs no log-in, since all data does."""

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from appliance.web.access import Open
from appliance.web.page_files import read_start_page

router = APIRouter(include_in_schema=False, dependencies=[Depends(Open())])


@router.get("/")
@router.get("/setup")
async def start_page() -> HTMLResponse:
    """Give the page; the one-time set-up link leads to it too."""
    text, headers = read_start_page()
    return HTMLResponse(text, headers=dict(headers))
