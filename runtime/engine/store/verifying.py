"""Looking again at engines that are ready: is the file as it was built, and does it still pass the golden test?"""

import time
from dataclasses import dataclass

from runtime.engine.store.entry import SETBACK, Proof, Setback, SetbackKind, request_of
from runtime.engine.store.listing import find_change, find_ready
from runtime.engine.store.proof import prove_engine
from runtime.engine.store.shelves import move_folder
from runtime.engine.store.store import EngineStore, find_fault
from runtime.errors import EngineStoreError, RelumeError
from runtime.locking import FileLock
from runtime.segments.durable import write_durably


@dataclass(frozen=True, slots=True)
class Verified:
    """What an engine was found to be: sound with a proof, or at fault, and then in quarantine unless it is outdated."""

    name: str
    proof: Proof | None
    fault: str = ""


def verify_engine(store: EngineStore, name: str, *, threads: int) -> Verified:
    """Check one ready engine; what fails goes into quarantine, so that it is used no more.

    Args:
        store: Where it is.
        name: Of the engine, or the beginning of it.
        threads: Of the processor, in the golden test.

    Raises:
        EngineStoreError: There is no such engine, or it is just being built again.
    """
    folder, entry = find_ready(store, name)
    change = find_change(store, entry)
    if change:
        return Verified(entry.name, None, f"outdated, so it is not used: {change}")
    lock = FileLock.try_alone(store.shelves.lock(entry.name))
    if lock is None:
        raise EngineStoreError(f"engine {entry.name} is just being built again; wait for it")
    with lock:
        kind, fault, proof = SetbackKind.DAMAGED, find_fault(folder, entry.digest), None
        if not fault:
            try:
                request = request_of(entry.parts, entry.source)
                proof = prove_engine(request, folder / entry.file.path, threads=threads)
            except RelumeError as error:
                kind, fault = SetbackKind.UNSOUND, str(error)
        if fault:
            setback = Setback(kind=kind, reason=fault, at=time.time(), source=entry.source, parts=entry.parts)
            write_durably(folder / SETBACK, setback.dump())
            move_folder(folder, store.shelves.quarantine / entry.name)
    return Verified(entry.name, proof, fault)
