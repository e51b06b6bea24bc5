"""The commands `relume watch` and `relume folders`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from appliance.console import PlainCommand, format_json, format_table
from appliance.exit_codes import ExitCode, cancel_on_signal
from appliance.watch.errors import FolderError
from appliance.watch.folder import DEFAULT_HOLD_S, FolderConfig, WatchFolder, parse_schedule
from runtime.options import DEFAULT_PRESET, AudioMode, Codec, EnhanceOptions, LoudnessStandard, parse_scale

if TYPE_CHECKING:
    from appliance.watch.store import FolderStore

_MAX_IGNORED: Final = 10


def show_folders(store: "FolderStore", *, as_json: bool) -> str:
    """Return tables of all folders and their problems, or JSON."""
    from appliance.watch.scan import show_name

    found = [_facts(store, folder) for folder in store.list()]
    if as_json:
        return format_json(found)
    if not found:
        return "no watch folders; add one with `relume folders add FOLDER -o OUT`"
    rows = [
        (
            "id",
            "folder",
            "results",
            "preset",
            "hours",
            "state",
            "waiting",
            "working",
            "done today",
            "problems",
            "ignored",
        )
    ]
    rows += [
        (
            entry["id"],
            show_name(entry["path"]),
            show_name(entry["destination"]),
            entry["preset"],
            "-".join(entry["schedule"].values()) if entry["schedule"] else "always",
            "watched" if entry["enabled"] else "disabled",
            str(entry["activity"]["waiting"]),
            str(entry["activity"]["working"]),
            str(entry["activity"]["done_today"]),
            str(len(entry["problems"])),
            str(entry["activity"]["passed_over"]),
        )
        for entry in found
    ]
    problems = [
        (show_name(entry["path"]), problem["file"] or "the folder itself", problem["reason"])
        for entry in found
        for problem in entry["problems"]
    ]
    ignored = [
        (show_name(entry["path"]), name, "not a video or audio file by its name; add it with --include")
        for entry in found
        for name in entry["activity"]["passed_over_names"][:_MAX_IGNORED]
    ]
    return "\n\n".join(format_table(part) for part in (rows, problems, ignored) if part)


def _facts(store: "FolderStore", folder: WatchFolder) -> dict[str, Any]:
    config = folder.config
    schedule = None if config.schedule is None else dict(zip(("from", "to"), config.schedule.to_text(), strict=True))
    return {
        "id": folder.id,
        "path": str(config.path),
        "destination": str(config.destination),
        "preset": config.options.preset,
        "schedule": schedule,
        "hold_s": config.hold_s,
        "include": config.include,
        "exclude": config.exclude,
        "polling": config.polling,
        "done_folder": None if config.done_folder is None else str(config.done_folder),
        "enabled": config.enabled,
        "problems": [
            {"file": problem.file, "reason": problem.reason, "tries": problem.tries}
            for problem in store.problems(folder.id)
        ],
        "activity": asdict(store.activity(folder.id)),
    }


folders = typer.Typer(name="folders", help="Manage watch folders.", no_args_is_help=True)

Preset = Annotated[str, typer.Option(metavar="NAME", help="Preset; see `relume presets`.")]
Scale = Annotated[str | None, typer.Option(metavar="auto|1|2|4", help="Upscaling factor; the preset's by default.")]
Audio = Annotated[
    AudioMode | None,
    typer.Option(
        metavar="speech|full|repair|off", help="Reduce noise, repair, both with even levels, or keep the audio."
    ),
]
Loudness = Annotated[
    LoudnessStandard | None, typer.Option(metavar="ebu|atsc|podcast|off", help="Loudness of the result.")
]
Strength = Annotated[float | None, typer.Option(metavar="0..1", help="Strength of the effect; 1 is full.")]
VideoCodec = Annotated[
    Codec | None, typer.Option("--codec", metavar="h264|hevc|av1|prores|ffv1", help="Video codec of the result.")
]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Video model instead of the preset's.")]
Zoo = Annotated[
    Path | None, typer.Option(metavar="FOLDER", readable=False, help="Folder of your own models, for --model.")
]
Done = Annotated[
    Path | None,
    typer.Option("--done", metavar="FOLDER", help="Move originals there after success."),
]
Polling = Annotated[
    bool, typer.Option("--polling", help="Poll instead of using file system events; always on for network drives.")
]
Hold = Annotated[float, typer.Option("--hold", metavar="SECONDS", help="Time that a file must be unchanged.")]
Hours = Annotated[
    str, typer.Option("--hours", metavar="SPAN", help="Hours during which jobs run: 22:00-06:00, nights or always.")
]
Include = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Only matching files, for example *.mp4; repeatable."),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN", help="Skip matching files or folders; repeatable.")
]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default.")
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="The folder for results.")]
Which = Annotated[str, typer.Argument(metavar="FOLDER", help="Its path, or its id from `relume folders list`.")]


def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to watch, including subfolders.")],
    *,
    output: Output,
    preset: Preset = DEFAULT_PRESET,
    scale: Scale = None,
    audio: Audio = None,
    loudness: Loudness = None,
    strength: Strength = None,
    codec: VideoCodec = None,
    model: Model = None,
    zoo: Zoo = None,
    done: Done = None,
    polling: Polling = False,
    once: Annotated[bool, typer.Option("--once", help="Exit when all files are processed.")] = False,
    hold: Hold = DEFAULT_HOLD_S,
    hours: Hours = "always",
    include: Include = None,
    exclude: Exclude = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Data directory; OUT/.relume by default.")
    ] = None,
) -> None:
    """Enhance files added to a folder, without the server.

    Ctrl-C stops; the next start resumes. With --once, exit code 3 means that a file could not be enhanced.
    """
    options = _options(preset, scale, audio, loudness, strength, codec, model, zoo)
    config = _config(folder, output, options, done, polling, hold, hours, include, exclude)
    from appliance.watch.standalone import watch_folder

    with cancel_on_signal() as cancel:
        outcome = watch_folder(config, data=data, once=once, cancel=cancel, say=lambda line: print(line, flush=True))
    for problem in outcome.problems:
        print(f"not done: {problem.file or folder}: {problem.reason}", flush=True)
    print(f"{outcome.done} done, {len(outcome.problems)} not", flush=True)
    if once and outcome.is_stopped:
        sys.exit(ExitCode.CANCELLED)
    if once and outcome.problems:
        sys.exit(ExitCode.SOURCE)


@folders.command("list", cls=PlainCommand)
def list_folders(
    *, data: Data = None, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List watch folders and their problems."""
    with _open(data) as store:
        print(show_folders(store, as_json=json))


@folders.command("add", cls=PlainCommand)
def add_folder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to watch, including subfolders.")],
    *,
    output: Output,
    preset: Preset = DEFAULT_PRESET,
    scale: Scale = None,
    audio: Audio = None,
    loudness: Loudness = None,
    strength: Strength = None,
    codec: VideoCodec = None,
    model: Model = None,
    zoo: Zoo = None,
    done: Done = None,
    polling: Polling = False,
    hold: Hold = DEFAULT_HOLD_S,
    hours: Hours = "always",
    include: Include = None,
    exclude: Exclude = None,
    data: Data = None,
) -> None:
    """Add a watch folder; a running server picks it up within seconds."""
    options = _options(preset, scale, audio, loudness, strength, codec, model, zoo)
    config = _config(folder, output, options, done, polling, hold, hours, include, exclude)
    with _open(data) as store:
        print(f"watching {config.path} ({store.add(config).id})")


@folders.command("remove", cls=PlainCommand)
def remove_folder(which: Which, *, data: Data = None) -> None:
    """Stop watching a folder; files, jobs and results are kept."""
    with _open(data) as store:
        found = store.find(which)
        store.remove(found.id)
        print(f"{found.config.path} is no longer watched")


@folders.command("enable", cls=PlainCommand)
def enable_folder(which: Which, *, data: Data = None) -> None:
    """Resume watching a folder."""
    _switch(which, data, enabled=True)


@folders.command("disable", cls=PlainCommand)
def disable_folder(which: Which, *, data: Data = None) -> None:
    """Pause watching a folder; queued jobs are still processed."""
    _switch(which, data, enabled=False)


def _switch(which: str, data: Path | None, *, enabled: bool) -> None:
    from dataclasses import replace

    with _open(data) as store:
        found = store.find(which)
        store.update(found.id, replace(found.config, enabled=enabled))
        print(f"{found.config.path} is {'watched' if enabled else 'paused'}")


def _options(
    preset: str,
    scale: str | None,
    audio: AudioMode | None,
    loudness: LoudnessStandard | None,
    strength: float | None,
    codec: Codec | None,
    model: str | None,
    zoo: Path | None,
) -> EnhanceOptions:
    """Return the options of the jobs; invalid ones are refused before any file is opened."""
    from runtime.manifest import find_model
    from runtime.presets import resolve_preset

    options = EnhanceOptions(
        preset=preset,
        scale=None if scale is None else parse_scale(scale),
        audio=audio,
        loudness=loudness,
        strength=strength,
        codec=codec,
        model=model,
        zoo=None if zoo is None else zoo.resolve(),  # the server has another working directory
    )
    resolve_preset(options)
    if options.model is not None:
        find_model(options.model, options.zoo)
    return options


def _config(
    folder: Path,
    output: Path,
    options: EnhanceOptions,
    done: Path | None,
    polling: bool,
    hold: float,
    hours: str,
    include: list[str] | None,
    exclude: list[str] | None,
) -> FolderConfig:
    return FolderConfig(
        path=folder.expanduser().absolute(),
        destination=output.expanduser().absolute(),
        options=options,
        schedule=parse_schedule(hours),
        hold_s=hold,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        polling=polling,
        done_folder=None if done is None else done.expanduser().absolute(),
    )


@contextmanager
def _open(data: Path | None) -> Iterator["FolderStore"]:
    """Open the watch folders of the server's data directory."""
    from appliance.settings_file import load_settings
    from appliance.store.data_dir import database_path
    from appliance.store.database import Database
    from appliance.watch.store import FolderStore

    directory = load_settings(data).data
    if not database_path(directory).exists():
        raise FolderError(
            f"there is no data directory at {directory}; start the server once (relume serve), or give --data"
        )
    with Database(database_path(directory)) as database:
        yield FolderStore(database)
