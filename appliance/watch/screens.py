"""The watch folders as text for a terminal, and as JSON."""

from dataclasses import asdict
from typing import Any, Final

from appliance.text import format_json, format_table
from appliance.watch.folder import WatchFolder
from appliance.watch.names import show_name
from appliance.watch.store import FolderStore

_MOST_IGNORED: Final = 10


def show_folders(store: FolderStore, *, as_json: bool) -> str:
    """Write all folders with their problems."""
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
        (show_name(entry["path"]), name, "not a film or a recording by its name; --include takes it all the same")
        for entry in found
        for name in entry["activity"]["passed_over_names"][:_MOST_IGNORED]
    ]
    return "\n\n".join(format_table(part) for part in (rows, problems, ignored) if part)


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
        "activity": asdict(store.activity(folder.id)),
    }
