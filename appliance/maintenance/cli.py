"""`relume backup` and `relume restore` as commands."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default.")
]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, for example relume-2026-01-31.tar.")],
    *,
    full: Annotated[bool, typer.Option("--full", help="Include uploads, results and comparison videos.")] = False,
    data: Data = None,
) -> None:
    """Back up users, settings, keys, queue and history.

    The server may be running. Anyone with this file can access everything on the server: keep it in a safe place.
    """
    from appliance.console import format_bytes
    from appliance.maintenance.backup import back_up
    from appliance.settings_file import load_settings

    written = back_up(load_settings(data).data, file.expanduser().absolute(), full=full)
    print(f"{written.path}: {_count(written.files)}, {format_bytes(written.size_bytes)}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Backup written by `relume backup`.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an existing database; it is kept in the folder backups.")
    ] = False,
    data: Data = None,
) -> None:
    """Restore a backup; stop the server first."""
    from appliance.maintenance.restore import restore as run
    from appliance.settings_file import load_settings

    place = load_settings(data).data
    restored, manifest = run(file.expanduser().absolute(), place, replace=replace)
    print(f"{restored.path}: {_count(restored.files)} of {manifest.created_at}, Relume {manifest.relume}")
    if manifest.data != str(place):
        print(
            f"note: the backup is from {manifest.data}; queued jobs with uploads and results in the data directory "
            "need the same path"
        )


def _count(files: int) -> str:
    return f"{files} file" if files == 1 else f"{files} files"
