"""Watch folders; for administrators."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from appliance.watch.errors import FolderError
from appliance.watch.folder import DEFAULT_HOLD_S, LONGEST_HOLD_S, FolderConfig, Schedule, WatchFolder
from appliance.watch.path_rules import is_system_path
from appliance.watch.scan import is_text
from appliance.web.routes.job_requests import OptionsIn
from appliance.web.security import Administrator, ServicesDep
from appliance.web.services import Services

router = APIRouter(tags=["folders"])

_MAX_LISTED: Final = 500

FolderId = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
FolderPath = Annotated[
    str, Field(min_length=1, max_length=4096, pattern=r"^/[^\x00]*$", description="Absolute path: /srv/...")
]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
ClockTime = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class ScheduleModel(BaseModel):
    """The time of day in which jobs run; past midnight if `from` is later than `to`."""

    model_config = ConfigDict(extra="forbid")

    begin: ClockTime = Field(alias="from")
    end: ClockTime = Field(alias="to")


class FolderIn(OptionsIn):
    """A watch folder; the job options apply to every file in it."""

    path: FolderPath
    destination: FolderPath
    schedule: ScheduleModel | None = None
    hold_s: float = Field(
        DEFAULT_HOLD_S, ge=0, le=LONGEST_HOLD_S, description="Time a file must be unchanged before it is processed"
    )
    include: list[Pattern] = Field(default_factory=list, max_length=100)
    exclude: list[Pattern] = Field(default_factory=list, max_length=100)
    polling: bool = Field(False, description="Poll instead of using file system events")
    done_folder: FolderPath | None = Field(None, description="Folder to which originals are moved after success")
    enabled: bool = True
    create: bool = Field(
        True, description="Create missing folders for results and originals; otherwise this is an error"
    )


class FolderChange(FolderIn):
    """Changes to a watch folder; fields left out are unchanged."""

    path: FolderPath | None = None  # type: ignore[assignment]
    destination: FolderPath | None = None  # type: ignore[assignment]


class ProblemOut(BaseModel):
    """A file that could not be enhanced, or a problem of the folder itself if `file` is empty."""

    model_config = ConfigDict(from_attributes=True)

    file: str
    reason: str
    tries: int


class ActivityOut(BaseModel):
    """The activity of a watch folder; times are seconds since 1970, UTC."""

    model_config = ConfigDict(from_attributes=True)

    waiting: int = Field(description="Files that are still being written, or are queued")
    working: int
    done_today: int
    failed: int
    last_file: str | None = Field(description="The file of the latest event")
    last_at: float | None
    passed_over: int = Field(
        description="Files that are ignored because their names are not those of video or audio files"
    )
    passed_over_names: list[str] = Field(description="The first names of these")


class FolderOut(BaseModel):
    """A watch folder."""

    id: str
    path: str
    destination: str
    preset: str
    scale: int | str | None
    strength: float | None
    grain: float | None
    audio: str | None
    loudness: str | None
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
    """Return all watch folders with their problems and activity."""
    del caller
    return [_show(services, folder) for folder in services.folders.list()]


@router.post("/api/folders", status_code=201, summary="Add a watch folder")
def add_folder(services: ServicesDep, caller: Administrator, body: FolderIn) -> FolderOut:
    """Add a watch folder."""
    _check_folders_exist(body)
    folder = services.folders.add(_to_config(body, services.settings.zoo))
    services.audit.add(caller.actor, "folder_added", str(folder.config.path))
    return _show(services, folder)


@router.patch("/api/folders/{folder_id}", summary="Change a watch folder")
def change_folder(services: ServicesDep, caller: Administrator, folder_id: FolderId, body: FolderChange) -> FolderOut:
    """Change a watch folder; fields left out are unchanged."""
    before = _show(services, services.folders.get(folder_id)).model_dump(by_alias=True)
    kept = {name: before[name] for name in FolderIn.model_fields if name in before}
    changed = FolderIn.model_validate({**kept, **body.model_dump(exclude_unset=True, by_alias=True)})
    _check_folders_exist(changed)
    config = _to_config(changed, services.settings.zoo)
    folder = services.folders.update(folder_id, config)
    services.audit.add(caller.actor, "folder_changed", str(folder.config.path))
    return _show(services, folder)


@router.delete("/api/folders/{folder_id}", status_code=204, summary="Stop watching a folder", response_class=Response)
def remove_folder(services: ServicesDep, caller: Administrator, folder_id: FolderId) -> Response:
    """Stop watching a folder; its files and results are kept."""
    folder = services.folders.get(folder_id)
    services.folders.remove(folder_id)
    services.audit.add(caller.actor, "folder_removed", str(folder.config.path))
    return Response(status_code=204)


class FailedIn(BaseModel):
    """A failed file, or all of them."""

    model_config = ConfigDict(extra="forbid")

    file: str | None = Field(None, max_length=4096, description="As in `problems`; left out: all failed files")


class FailedFileIn(BaseModel):
    """A failed file."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(max_length=4096, description="As in `problems`")


@router.post("/api/folders/{folder_id}/retry", summary="Retry failed files")
def retry_files(services: ServicesDep, caller: Administrator, folder_id: FolderId, body: FailedIn) -> FolderOut:
    """Retry one failed file of a watch folder, or all, immediately."""
    services.folders.retry(folder_id, body.file)
    folder = services.folders.get(folder_id)
    services.audit.add(caller.actor, "folder_retried", str(folder.config.path))
    return _show(services, folder)


@router.post("/api/folders/{folder_id}/ignore", summary="Ignore a failed file")
def ignore_file(services: ServicesDep, caller: Administrator, folder_id: FolderId, body: FailedFileIn) -> FolderOut:
    """Remove a failed file from the problems; it is retried only when it changes."""
    services.folders.ignore(folder_id, body.file)
    folder = services.folders.get(folder_id)
    services.audit.add(caller.actor, "folder_ignored", str(folder.config.path))
    return _show(services, folder)


def _check_folders_exist(body: FolderIn) -> None:
    """Check that the folders for results and originals exist, unless they may be created; this finds typing errors."""
    paths = {"destination": body.destination, "done_folder": body.done_folder}
    for field, path in paths.items():
        if not body.create and path is not None and not Path(path).exists():
            raise FolderError(f"the folder {path} does not exist", code="folder_missing", field=field)


class PlaceOut(BaseModel):
    """A folder on the server."""

    name: str
    path: str


class PlacesOut(BaseModel):
    """The subfolders of a folder on the server, for choosing one."""

    path: str
    parent: str | None
    writable: bool
    folders: list[PlaceOut]
    more: bool = Field(description="There are more folders than listed")


@router.get("/api/folders/places", summary="Browse folders on the server")
def list_places(
    services: ServicesDep, caller: Administrator, path: Annotated[str, Query(max_length=4096)] = "/"
) -> PlacesOut:
    """Return the subfolders of a folder, without hidden ones, system folders and Relume's own data."""
    del caller
    here = Path(os.path.normpath(path))
    if not here.is_absolute() or (is_system_path(here) and here != Path("/")):
        raise FolderError("enter the full path, starting with /", field="path")
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
        reason = "permission denied" if isinstance(error, PermissionError) else "it does not exist"
        raise FolderError(f"cannot open the folder {here}: {reason}", code="folder_missing", field="path") from error
    data = services.settings.data
    found = [here / name for name in names if not is_system_path(here / name) and here / name != data]
    return PlacesOut(
        path=str(here),
        parent=None if here == here.parent else str(here.parent),
        writable=os.access(here, os.W_OK),
        folders=[PlaceOut(name=place.name, path=str(place)) for place in found[:_MAX_LISTED]],
        more=len(found) > _MAX_LISTED,
    )


def _to_config(body: FolderIn, zoo: Path | None) -> FolderConfig:
    return FolderConfig(
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
    config, options = folder.config, folder.config.options
    times = None if config.schedule is None else config.schedule.to_text()
    return FolderOut(
        id=folder.id,
        path=str(config.path),
        destination=str(config.destination),
        preset=options.preset,
        scale=options.scale,
        strength=options.strength,
        grain=options.grain,
        audio=options.audio,
        loudness=options.loudness,
        codec=options.codec,
        model=options.model,
        allow_damaged=options.allow_damaged,
        schedule=None if times is None else ScheduleModel.model_validate({"from": times[0], "to": times[1]}),
        hold_s=config.hold_s,
        include=list(config.include),
        exclude=list(config.exclude),
        polling=config.polling,
        done_folder=None if config.done_folder is None else str(config.done_folder),
        enabled=config.enabled,
        problems=[ProblemOut.model_validate(problem) for problem in services.folders.problems(folder.id)],
        activity=ActivityOut.model_validate(services.folders.activity(folder.id)),
    )
