"""Watch folders, for administrators."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from appliance.watch.errors import FolderError
from appliance.watch.folder import DEFAULT_HOLD_S, LONGEST_HOLD_S, NewFolder, Schedule, WatchFolder
from appliance.watch.path_rules import is_system_place
from appliance.watch.scan import is_text
from appliance.web.routes.job_requests import OptionsIn
from appliance.web.security import Administrator, ServicesDep
from appliance.web.services import Services

router = APIRouter(tags=["folders"])

_MAX_PLACES: Final = 500

FolderId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Place = Annotated[
    str, Field(min_length=1, max_length=4096, pattern=r"^/[^\x00]*$", description="From the root: /srv/...")
]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
ClockTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class ScheduleModel(BaseModel):
    """Hours of the day in which its jobs run; over midnight if `from` is later than `to`."""

    model_config = ConfigDict(extra="forbid")

    begin: ClockTime = Field(alias="from")
    end: ClockTime = Field(alias="to")


class FolderIn(OptionsIn):
    """A folder to watch; the wishes count for every file in it."""

    path: Place
    destination: Place
    schedule: ScheduleModel | None = None
    hold_s: float = Field(DEFAULT_HOLD_S, ge=0, le=LONGEST_HOLD_S, description="How long a file must not have changed")
    include: list[Pattern] = Field(default_factory=list, max_length=100)
    exclude: list[Pattern] = Field(default_factory=list, max_length=100)
    polling: bool = Field(False, description="Look regularly, for folders whose changes are not told")
    done_folder: Place | None = Field(None, description="Where originals go after success")
    enabled: bool = True
    create: bool = Field(True, description="Create a folder for results that does not exist; else it is refused")


class FolderChange(FolderIn):
    """What to change of a folder; what is left out stays."""

    path: Place | None = None  # type: ignore[assignment]
    destination: Place | None = None  # type: ignore[assignment]


class ProblemOut(BaseModel):
    """A file that could not be enhanced, or the folder itself where `file` is empty."""

    model_config = ConfigDict(from_attributes=True)

    file: str
    reason: str
    tries: int


class ActivityOut(BaseModel):
    """What goes on in a watch folder; times are seconds since 1970, UTC."""

    model_config = ConfigDict(from_attributes=True)

    waiting: int = Field(description="Files that are still being written, or wait for their turn")
    working: int
    done_today: int
    failed: int
    last_file: str | None = Field(description="The file of which something was noted last")
    last_at: float | None
    passed_over: int = Field(description="Files whose names are not those of films or recordings")
    passed_over_names: list[str] = Field(description="The first of them")


class FolderOut(BaseModel):
    """A watch folder."""

    id: str
    path: str
    destination: str
    preset: str
    scale: int | str | None
    strength: float | None
    audio: str | None
    codec: str | None
    model: str | None
    allow_damaged: bool
    schedule: ScheduleModel | None
    hold_s: float
    include: list[str]
    exclude: list[str]
    polling: bool
    done_folder: str | None
    enabled: bool
    problems: list[ProblemOut]
    activity: ActivityOut


@router.get("/api/folders", summary="List the watch folders")
def list_folders(services: ServicesDep, caller: Administrator) -> list[FolderOut]:
    """Return every watch folder with what is wrong in it."""
    del caller
    return [_show(services, folder) for folder in services.folders.list()]


@router.post("/api/folders", status_code=201, summary="Watch a folder")
def add_folder(services: ServicesDep, caller: Administrator, body: FolderIn) -> FolderOut:
    """Watch a folder from now on."""
    _check_there(body)
    folder = services.folders.add(_wish(body, services.settings.zoo))
    services.audit.add(caller.actor, "folder_added", str(folder.wish.path))
    return _show(services, folder)


@router.patch("/api/folders/{folder_id}", summary="Change a watch folder")
def change_folder(services: ServicesDep, caller: Administrator, folder_id: FolderId, body: FolderChange) -> FolderOut:
    """Change a watch folder; what is left out stays."""
    before = _show(services, services.folders.get(folder_id)).model_dump(by_alias=True)
    kept = {name: before[name] for name in FolderIn.model_fields if name in before}
    changed = FolderIn.model_validate({**kept, **body.model_dump(exclude_unset=True, by_alias=True)})
    _check_there(changed)
    wish = _wish(changed, services.settings.zoo)
    folder = services.folders.update(folder_id, wish)
    services.audit.add(caller.actor, "folder_changed", str(folder.wish.path))
    return _show(services, folder)


@router.delete("/api/folders/{folder_id}", status_code=204, summary="Watch a folder no more", response_class=Response)
def remove_folder(services: ServicesDep, caller: Administrator, folder_id: FolderId) -> Response:
    """Watch a folder no more; its files and results stay."""
    folder = services.folders.get(folder_id)
    services.folders.remove(folder_id)
    services.audit.add(caller.actor, "folder_removed", str(folder.wish.path))
    return Response(status_code=204)


class FailedIn(BaseModel):
    """Which file is meant."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(None, max_length=4096, description="As `problems` names it; every one if left out")


class FailedFileIn(BaseModel):
    """Which file is meant."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(max_length=4096, description="As `problems` names it")


@router.post("/api/folders/{folder_id}/retry", summary="Try again now")
def retry_files(services: ServicesDep, caller: Administrator, folder_id: FolderId, body: FailedIn) -> FolderOut:
    """Try again now what failed in a watch folder: one file, or all."""
    services.folders.retry(folder_id, body.file)
    folder = services.folders.get(folder_id)
    services.audit.add(caller.actor, "folder_retried", str(folder.wish.path))
    return _show(services, folder)


@router.post("/api/folders/{folder_id}/ignore", summary="Ignore a file that failed")
def ignore_file(services: ServicesDep, caller: Administrator, folder_id: FolderId, body: FailedFileIn) -> FolderOut:
    """List a file that failed no longer; it is tried again only when it changes."""
    services.folders.ignore(folder_id, body.file)
    folder = services.folders.get(folder_id)
    services.audit.add(caller.actor, "folder_ignored", str(folder.wish.path))
    return _show(services, folder)


def _check_there(body: FolderIn) -> None:
    """Refuse folders for results and originals that do not exist, where they are not to be created: a typing error."""
    places = {"destination": body.destination, "done_folder": body.done_folder}
    for field, place in places.items():
        if not body.create and place is not None and not Path(place).exists():
            raise FolderError(f"the folder {place} does not exist", code="folder_missing", field=field)


class PlaceOut(BaseModel):
    """A folder of the server."""

    name: str
    path: str


class PlacesOut(BaseModel):
    """What is in a folder of the server, for choosing one."""

    path: str
    parent: str | None
    writable: bool
    folders: list[PlaceOut]
    more: bool = Field(description="There are more than are listed")


@router.get("/api/folders/places", summary="Look for a folder on the server")
def list_places(
    services: ServicesDep, caller: Administrator, path: Annotated[str, Query(max_length=4096)] = "/"
) -> PlacesOut:
    """Return the folders in a folder; hidden ones, those of the system and Relume's own data are left out."""
    del caller
    here = Path(os.path.normpath(path))
    if not here.is_absolute() or (is_system_place(here) and here != Path("/")):
        raise FolderError("type the full path, beginning with /", field="path")
    try:
        with os.scandir(here) as entries:
            names = sorted(
                (
                    entry.name
                    for entry in entries
                    if not entry.name.startswith(".") and is_text(entry.name) and entry.is_dir()
                ),
                key=str.casefold,
            )
    except OSError as error:
        reason = "the server may not read it" if isinstance(error, PermissionError) else "it does not exist"
        raise FolderError(
            f"the folder {here} cannot be opened: {reason}", code="folder_missing", field="path"
        ) from error
    data = services.settings.data
    found = [here / name for name in names if not is_system_place(here / name) and here / name != data]
    return PlacesOut(
        path=str(here),
        parent=None if here == here.parent else str(here.parent),
        writable=os.access(here, os.W_OK),
        folders=[PlaceOut(name=place.name, path=str(place)) for place in found[:_MAX_PLACES]],
        more=len(found) > _MAX_PLACES,
    )


def _wish(body: FolderIn, zoo: Path | None) -> NewFolder:
    return NewFolder(
        path=Path(body.path),
        destination=Path(body.destination),
        options=replace(body.options(zoo=zoo), threads=None),
        schedule=None if body.schedule is None else Schedule.parse(body.schedule.begin, body.schedule.end),
        hold_s=body.hold_s,
        include=tuple(body.include),
        exclude=tuple(body.exclude),
        polling=body.polling,
        done_folder=None if body.done_folder is None else Path(body.done_folder),
        enabled=body.enabled,
    )


def _show(services: Services, folder: WatchFolder) -> FolderOut:
    wish, options = folder.wish, folder.wish.options
    times = None if wish.schedule is None else wish.schedule.to_text()
    return FolderOut(
        id=folder.id,
        path=str(wish.path),
        destination=str(wish.destination),
        preset=options.preset,
        scale=options.scale,
        strength=options.strength,
        audio=options.audio,
        codec=options.codec,
        model=options.model,
        allow_damaged=options.allow_damaged,
        schedule=None if times is None else ScheduleModel.model_validate({"from": times[0], "to": times[1]}),
        hold_s=wish.hold_s,
        include=list(wish.include),
        exclude=list(wish.exclude),
        polling=wish.polling,
        done_folder=None if wish.done_folder is None else str(wish.done_folder),
        enabled=wish.enabled,
        problems=[ProblemOut.model_validate(problem) for problem in services.folders.problems(folder.id)],
        activity=ActivityOut.model_validate(services.folders.activity(folder.id)),
    )
