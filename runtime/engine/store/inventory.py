"""The contents of the store for its administration: engines, builds, requests and failures."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from runtime.engine.device import EngineType
from runtime.engine.store.key import EngineRequest, KeyParts, describe_dimensions
from runtime.engine.store.layout import (
    ENTRY,
    FAILURE,
    BuildFailure,
    EngineEntry,
    GoldenTestResult,
    list_names,
    request_of,
)
from runtime.engine.store.store import EngineStore
from runtime.errors import EngineStoreError
from runtime.file_lock import is_held


class EngineState(StrEnum):
    """The state of an engine."""

    READY = "ready"
    OUTDATED = "outdated"
    BUILDING = "building"
    WAITING = "waiting"
    QUARANTINED = "quarantined"
    UNVERIFIED = "built, not tested"


@dataclass(frozen=True, slots=True)
class ListedEngine:
    """An engine of the store; times are seconds since 1970.

    Attributes:
        sizes: The sizes of its named dimensions as text.
        device: The device that it was built for.
        runtime_version: The version of the library that runs it.
        last_used: None if it was never used.
        reason: Why it is quarantined or outdated; empty otherwise.
    """

    name: str
    model: str
    precision: str
    sizes: str
    flavour: EngineType
    runtime_version: str
    device: str
    state: EngineState
    size_bytes: int
    last_used: float | None
    reason: str
    proof: GoldenTestResult | None


def list_engines(store: EngineStore) -> list[ListedEngine]:
    """Return the engines of a store by name; one that is being rebuilt is listed once, as being built."""
    layout = store.layout
    found = {entry.name: entry for entry in _list_built(store)}
    for name in list_names(layout.quarantine):
        try:
            failure = BuildFailure.read(layout.quarantine / name / FAILURE)
        except (FileNotFoundError, EngineStoreError):
            continue
        found.setdefault(name, _describe(name, failure.parts, EngineState.QUARANTINED, reason=failure.reason))
    for pending in store.build_requests():
        try:
            key = store.key(pending.request)
        except EngineStoreError as error:
            unmet = _describe_unmet(pending.request, reason=f"cannot be built here: {error}")
            found[unmet.name] = unmet
            continue
        state = EngineState.BUILDING if is_held(layout.lock(key.name)) else EngineState.WAITING
        found[key.name] = _describe(key.name, key.parts, state)
    return [found[name] for name in sorted(found)]


def _list_built(store: EngineStore) -> list[ListedEngine]:
    layout = store.layout
    found = []
    for folder in (layout.unverified, layout.ready):
        for name in list_names(folder):
            path = folder / name / ENTRY
            try:
                entry = EngineEntry.read(path)
                used = path.stat().st_mtime
            except (FileNotFoundError, EngineStoreError):
                continue
            state, reason = EngineState.UNVERIFIED, ""
            if folder == layout.ready:
                reason = describe_changes(store, entry)
                state = EngineState.OUTDATED if reason else EngineState.READY
            found.append(_describe(name, entry.parts, state, reason=reason, entry=entry, used=used))
    return found


def describe_changes(store: EngineStore, entry: EngineEntry) -> str:
    """Return the changes since an engine was built that make it outdated; empty if there are none."""
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
        flavour=parts.engine_type,
        runtime_version=parts.runtime_version,
        device=parts.product,
        state=state,
        size_bytes=0 if entry is None else entry.file.size_bytes,
        last_used=used,
        reason=reason,
        proof=None if entry is None else entry.golden_test,
    )


def _describe_unmet(request: EngineRequest, *, reason: str) -> ListedEngine:
    sizes = describe_dimensions(request.dimensions)
    return ListedEngine(
        name="-".join((request.model, request.precision, sizes.replace(" ", "-"), request.engine_type)),
        model=request.model,
        precision=request.precision,
        sizes=sizes,
        flavour=request.engine_type,
        runtime_version="",
        device="",
        state=EngineState.WAITING,
        size_bytes=0,
        last_used=None,
        reason=reason,
        proof=None,
    )


def find_ready(store: EngineStore, beginning: str) -> tuple[Path, EngineEntry]:
    """Return the folder and manifest of the one ready engine whose name has this beginning.

    Raises:
        EngineStoreError: There is none, or more than one.
    """
    names = [name for name in list_names(store.layout.ready) if name.startswith(beginning)]
    if len(names) != 1:
        raise EngineStoreError(
            f"{len(names) or 'no'} ready engines have names that start with {beginning}; see `relume engines list`"
        )
    folder = store.layout.ready / names[0]
    try:
        return folder, EngineEntry.read(folder / ENTRY)
    except FileNotFoundError as error:
        raise EngineStoreError(f"engine {names[0]} was just removed") from error


def find_listed(store: EngineStore, name: str) -> EngineRequest | None:
    """Return the request that a ready or quarantined engine was built from; None if there is no such engine."""
    layout = store.layout
    if name not in {*list_names(layout.ready), *list_names(layout.quarantine)}:
        return None
    try:
        entry = EngineEntry.read(layout.ready / name / ENTRY)
        return request_of(entry.parts, entry.source)
    except (FileNotFoundError, EngineStoreError):
        pass
    try:
        failure = BuildFailure.read(layout.quarantine / name / FAILURE)
        return request_of(failure.parts, failure.source)
    except (FileNotFoundError, EngineStoreError):
        return None
