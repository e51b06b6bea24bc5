"""What is in the store, for those who look after it: engines, builds, wishes and what failed."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runtime.engine.device import Flavour
from runtime.engine.store.key import EngineRequest, KeyParts, describe_dimensions
from runtime.engine.store.layout import (
    ENTRY,
    SETBACK,
    EngineEntry,
    Proof,
    Setback,
    list_names,
    request_of,
)
from runtime.engine.store.store import EngineStore
from runtime.errors import EngineStoreError
from runtime.file_lock import is_held


class EngineState(StrEnum):
    """How an engine is."""

    READY = "ready"
    OUTDATED = "outdated"
    BUILDING = "building"
    WAITING = "waiting"
    QUARANTINED = "quarantined"
    UNPROVEN = "built, not proven"


@dataclass(frozen=True, slots=True)
class ListedEngine:
    """An engine of the store; times are seconds since 1970.

    Attributes:
        sizes: Of its named dimensions, in words.
        device: What it is for.
        runtime_version: Of the library that runs it.
        last_used: None where it was never in use.
        reason: Why it is in quarantine, or outdated; empty otherwise.
    """

    name: str
    model: str
    precision: str
    sizes: str
    flavour: Flavour
    runtime_version: str
    device: str
    state: EngineState
    size_bytes: int
    last_used: float | None
    reason: str
    proof: Proof | None


def list_engines(store: EngineStore) -> list[ListedEngine]:
    """List what is in a store, in order of name; an engine that is built anew is listed once, as being built."""
    shelves = store.shelves
    found = {entry.name: entry for entry in _list_built(store)}
    for name in list_names(shelves.quarantine):
        try:
            setback = Setback.read(shelves.quarantine / name / SETBACK)
        except (FileNotFoundError, EngineStoreError):
            continue
        found.setdefault(name, _describe(name, setback.parts, EngineState.QUARANTINED, reason=setback.reason))
    for wish in store.wishes():
        try:
            key = store.key(wish.request)
        except EngineStoreError as error:
            unmet = _describe_unmet(wish.request, reason=f"cannot be built here: {error}")
            found[unmet.name] = unmet
            continue
        state = EngineState.BUILDING if is_held(shelves.lock(key.name)) else EngineState.WAITING
        found[key.name] = _describe(key.name, key.parts, state)
    return [found[name] for name in sorted(found)]


def _list_built(store: EngineStore) -> list[ListedEngine]:
    shelves = store.shelves
    found = []
    for shelf in (shelves.unproven, shelves.ready):
        for name in list_names(shelf):
            path = shelf / name / ENTRY
            try:
                entry = EngineEntry.read(path)
                used = path.stat().st_mtime
            except (FileNotFoundError, EngineStoreError):
                continue
            state, reason = EngineState.UNPROVEN, ""
            if shelf == shelves.ready:
                reason = find_change(store, entry)
                state = EngineState.OUTDATED if reason else EngineState.READY
            found.append(_describe(name, entry.parts, state, reason=reason, entry=entry, used=used))
    return found


def find_change(store: EngineStore, entry: EngineEntry) -> str:
    """Tell what changed since an engine was built, so that it is not used any more; empty where nothing did."""
    try:
        now = store.key(request_of(entry.parts, entry.source)).parts
    except EngineStoreError as error:
        return str(error)
    changes = [
        f"{name.replace('_', ' ')} was {before}, now {getattr(now, name)}"
        for name, before in entry.parts
        if before != getattr(now, name)
    ]
    return "; ".join(changes)


def _describe(
    name: str,
    parts: KeyParts,
    state: EngineState,
    *,
    reason: str = "",
    entry: EngineEntry | None = None,
    used: float | None = None,
) -> ListedEngine:
    return ListedEngine(
        name=name,
        model=parts.model,
        precision=parts.precision,
        sizes=describe_dimensions(parts.dimensions),
        flavour=parts.flavour,
        runtime_version=parts.runtime_version,
        device=parts.product,
        state=state,
        size_bytes=0 if entry is None else entry.file.size_bytes,
        last_used=used,
        reason=reason,
        proof=None if entry is None else entry.proof,
    )


def _describe_unmet(request: EngineRequest, *, reason: str) -> ListedEngine:
    sizes = describe_dimensions(request.dimensions)
    return ListedEngine(
        name="-".join((request.model, request.precision, sizes.replace(" ", "-"), request.flavour)),
        model=request.model,
        precision=request.precision,
        sizes=sizes,
        flavour=request.flavour,
        runtime_version="",
        device="",
        state=EngineState.WAITING,
        size_bytes=0,
        last_used=None,
        reason=reason,
        proof=None,
    )


def find_ready(store: EngineStore, beginning: str) -> tuple[Path, EngineEntry]:
    """Return the folder and manifest of the one ready engine whose name begins so.

    Raises:
        EngineStoreError: There is none, or more than one.
    """
    names = [name for name in list_names(store.shelves.ready) if name.startswith(beginning)]
    if len(names) != 1:
        raise EngineStoreError(
            f"{len(names) or 'no'} ready engines have names that begin with {beginning}; `relume engines list` has them"
        )
    folder = store.shelves.ready / names[0]
    try:
        return folder, EngineEntry.read(folder / ENTRY)
    except FileNotFoundError as error:
        raise EngineStoreError(f"engine {names[0]} was just removed") from error


def find_listed(store: EngineStore, name: str) -> EngineRequest | None:
    """Return the request that a ready engine, or one in quarantine, was built of; None where there is no such one."""
    shelves = store.shelves
    if name not in {*list_names(shelves.ready), *list_names(shelves.quarantine)}:
        return None
    try:
        entry = EngineEntry.read(shelves.ready / name / ENTRY)
        return request_of(entry.parts, entry.source)
    except (FileNotFoundError, EngineStoreError):
        pass
    try:
        setback = Setback.read(shelves.quarantine / name / SETBACK)
        return request_of(setback.parts, setback.source)
    except (FileNotFoundError, EngineStoreError):
        return None
