"""The watch folders as text for a terminal, and as JSON."""

from typing import Any

from appliance.text import format_json, format_table
from appliance.watch.folder import WatchFolder
from appliance.watch.names import show_name
from appliance.watch.store import FolderStore


def show_folders(store: FolderStore, *, as_json: bool) -> str:
    """Write all folders with their problems."""
    found = [_facts(store, folder) for folder in store.list()]
    if as_json:
        return format_json(found)
    if not found:
        return "no watch folders; add one with `relume folders add FOLDER -o OUT`"
    rows = [("id", "folder", "results", "preset", "hours", "state", "problems")]
    rows += [
        (
            entry["id"],
            show_name(entry["path"]),
            show_name(entry["destination"]),
            entry["preset"],
            "-".join(entry["schedule"].values()) if entry["schedule"] else "always",
            "watched" if entry["enabled"] else "disabled",
            str(len(entry["problems"])),
        )
        for entry in found
    ]
    problems = [
        (show_name(entry["path"]), problem["file"] or "the folder itself", problem["reason"])
        for entry in found
        for problem in entry["problems"]
    ]
    return "\n\n".join(format_table(part) for part in (rows, problems) if part)


def _facts(store: FolderStore, folder: WatchFolder) -> dict[str, Any]:
    wish = folder.wish
    schedule = None if wish.schedule is None else dict(zip(("from", "to"), wish.schedule.to_text(), strict=True))
    return {
        "id": folder.id,
        "path": str(wish.path),
        "destination": str(wish.destination),
        "preset": wish.options.preset,
        "schedule": schedule,
        "hold_s": wish.hold_s,
        "include": wish.include,
        "exclude": wish.exclude,
        "polling": wish.polling,
        "done_folder": None if wish.done_folder is None else str(wish.done_folder),
        "enabled": wish.enabled,
        "problems": [
            {"file": problem.file, "reason": problem.reason, "tries": problem.tries}
            for problem in store.problems(folder.id)
        ],
    }
