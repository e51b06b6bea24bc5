"""`relume backup` and `relume restore` as commands."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="The server's data directory, if not the usual one.")
]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as relume-2026-01-31.tar.")],
    *,
    full: Annotated[bool, typer.Option("--full", help="Also uploads, results and films to compare.")] = False,
    data: Data = None,
) -> None:
    """Write accounts, settings, keys, queue and history to one file, while the server runs.

    Whoever has the file can log in as anybody: keep it as safe as the box.
    """
    from appliance.console import format_bytes
    from appliance.maintenance.backup import back_up
    from appliance.settings_file import load_settings

    written = back_up(load_settings(data).data, file.expanduser().absolute(), full=full)
    print(f"{written.path}: {written.files} files, {format_bytes(written.size_bytes)}")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file from `relume backup`.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where there is a database; it is kept in the folder backups.")
    ] = False,
    data: Data = None,
) -> None:
    """Restore a backup into the data directory; stop the server first."""
    from appliance.maintenance.restore import restore as run
    from appliance.settings_file import load_settings

    place = load_settings(data).data
    restored, manifest = run(file.expanduser().absolute(), place, replace=replace)
    print(f"{restored.path}: {restored.files} files of {manifest.created_at}, Relume {manifest.relume}")
    if manifest.data != str(place):
        print(
            f"note: it was at {manifest.data} before; queued jobs with uploads, and results kept in the data "
            "directory, are only found under the same path"
        )
