"""Making one engine for a store: built at its key's bench, proven by the golden test, then published or set aside."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from export.engine_builders import EngineBuildError, build_engine
from runtime.engine.device import EngineDevice, read_version
from runtime.engine.store.build_dir import Bench
from runtime.engine.store.builder import BuildOutcome, BuildResult
from runtime.engine.store.key import EngineKey, EngineRequest, make_key, request_engine
from runtime.engine.store.layout import ENTRY, SetbackKind, Wish
from runtime.engine.store.store import EngineStore, find_fault
from runtime.errors import RelumeError
from runtime.golden_test import prove_engine


def build_for_store(
    store: EngineStore,
    wish: Wish,
    *,
    capability: str | None,
    threads: int,
    tell: Callable[[str], None],
    litter: list[Path],
) -> BuildResult:
    """Build, prove and publish an engine; one that fails goes into quarantine with the reason.

    Args:
        store: Where it goes.
        wish: What is wanted.
        capability: `sm89` or the like of another device; without it for this one.
        threads: Of the processor, in the golden test.
        tell: Hears of each stage.
        litter: Is given the folder that must not be left behind.

    Raises:
        EngineStoreError: The store cannot be used, or the device is missing.
    """
    request = wish.request
    store.shelves.prepare()
    key = store.key(request) if capability is None else _key_elsewhere(request, capability)
    tell("waiting")
    with Bench(store.shelves, key, request.source, threading.Event()) as bench:
        litter.append(bench.folder)
        ready = store.shelves.ready / key.name
        if not wish.again and (ready / ENTRY).exists() and not find_fault(ready, key.digest):
            store.forget_wish(key.name)
            return BuildResult(BuildOutcome.FOUND, key.name)
        return _work(bench, request, key, cache=_cache(store, key), capability=capability, threads=threads, tell=tell)


def _work(
    bench: Bench,
    request: EngineRequest,
    key: EngineKey,
    *,
    cache: Path,
    capability: str | None,
    threads: int,
    tell: Callable[[str], None],
) -> BuildResult:
    started = time.monotonic()
    tell("building")
    try:
        fresh = request_engine(request.source, dimensions=dict(request.dimensions), flavour=request.flavour)
        if fresh != request:
            raise EngineBuildError(f"{request.source} changed since the engine was asked for; ask for it again")
        build_engine(
            request.source,
            bench.engine,
            flavour=request.flavour,
            capability=capability,
            dimensions=dict(request.dimensions),
            cache=cache,
        )
    except (EngineBuildError, RelumeError) as error:
        bench.set_aside(SetbackKind.REFUSED, str(error))
        return BuildResult(BuildOutcome.REFUSED, key.name, str(error))
    build_time_s = time.monotonic() - started
    if capability is not None:
        # Even where it runs here, that would say nothing of the device that it is for.
        bench.publish(build_time_s=build_time_s, proof=None)
        return BuildResult(BuildOutcome.UNPROVEN, key.name, f"it is for {capability}, and can be proven only there")
    tell("testing")
    try:
        proof = prove_engine(request, bench.engine, threads=threads)
    except RelumeError as error:
        bench.set_aside(SetbackKind.UNSOUND, str(error))
        return BuildResult(BuildOutcome.UNSOUND, key.name, str(error))
    tell("publishing")
    bench.publish(build_time_s=build_time_s, proof=proof)
    return BuildResult(BuildOutcome.READY, key.name)


def _key_elsewhere(request: EngineRequest, capability: str) -> EngineKey:
    """Make the key of an engine for any device of a capability."""
    return make_key(request, EngineDevice(read_version(request.flavour), f"any {capability}", capability))


def _cache(store: EngineStore, key: EngineKey) -> Path:
    """Return the file in which a builder remembers what it measured; it is of no use to another version or device."""
    parts = key.parts
    return store.shelves.cache / f"{parts.flavour}-{parts.runtime_version}-{parts.capability}.timing"
