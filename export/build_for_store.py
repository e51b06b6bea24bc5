"""One engine for a store: built in its own folder, validated by the golden test, then published or quarantined."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from export.engine_builders import EngineBuildError, build_engine
from runtime.engine.device import EngineDevice, read_version
from runtime.engine.store.build_dir import BuildDir
from runtime.engine.store.builder import BuildOutcome, BuildResult
from runtime.engine.store.key import EngineKey, EngineRequest, make_key, request_engine
from runtime.engine.store.layout import ENTRY, BuildRequest, FailureKind
from runtime.engine.store.store import EngineStore, find_defect
from runtime.errors import RelumeError
from runtime.golden_test import validate_engine


def build_for_store(
    store: EngineStore,
    pending: BuildRequest,
    *,
    capability: str | None,
    threads: int,
    on_stage: Callable[[str], None],
    temporary: list[Path],
) -> BuildResult:
    """Build, test and publish an engine; one that fails is quarantined with the reason.

    Args:
        store: The store.
        pending: The build request.
        capability: That of another device, such as `sm89`; None for this one.
        threads: CPU threads of the golden test.
        on_stage: Called with each stage.
        temporary: Receives the folder that must be removed on failure.

    Raises:
        EngineStoreError: The store cannot be used, or the device is missing.
    """
    request = pending.request
    store.layout.prepare()
    key = store.key(request) if capability is None else _key_elsewhere(request, capability)
    on_stage("waiting")
    with BuildDir(store.layout, key, request.source, threading.Event()) as build_dir:
        temporary.append(build_dir.folder)
        ready = store.layout.ready / key.name
        if not pending.again and (ready / ENTRY).exists() and not find_defect(ready, key.digest):
            store.withdraw_request(key.name)
            return BuildResult(BuildOutcome.FOUND, key.name)
        return _work(
            build_dir, request, key, cache=_cache(store, key), capability=capability, threads=threads, on_stage=on_stage
        )


def _work(
    build_dir: BuildDir,
    request: EngineRequest,
    key: EngineKey,
    *,
    cache: Path,
    capability: str | None,
    threads: int,
    on_stage: Callable[[str], None],
) -> BuildResult:
    started = time.monotonic()
    on_stage("building")
    try:
        fresh = request_engine(request.source, dimensions=dict(request.dimensions), engine_type=request.engine_type)
        if fresh != request:
            raise EngineBuildError(f"{request.source} changed since the engine was requested; request it again")
        build_engine(
            request.source,
            build_dir.engine,
            engine_type=request.engine_type,
            capability=capability,
            dimensions=dict(request.dimensions),
            cache=cache,
        )
    except (EngineBuildError, RelumeError) as error:
        build_dir.quarantine(FailureKind.REFUSED, str(error))
        return BuildResult(BuildOutcome.REFUSED, key.name, str(error))
    build_time_s = time.monotonic() - started
    if capability is not None:
        # Even if it ran here, that would not validate it for its own device.
        build_dir.publish(build_time_s=build_time_s, golden_test=None)
        return BuildResult(BuildOutcome.UNVERIFIED, key.name, f"it is for {capability}, and can be tested only there")
    on_stage("testing")
    try:
        result = validate_engine(request, build_dir.engine, threads=threads)
    except RelumeError as error:
        build_dir.quarantine(FailureKind.FAILED_TEST, str(error))
        return BuildResult(BuildOutcome.FAILED_TEST, key.name, str(error))
    on_stage("publishing")
    build_dir.publish(build_time_s=build_time_s, golden_test=result)
    return BuildResult(BuildOutcome.READY, key.name)


def _key_elsewhere(request: EngineRequest, capability: str) -> EngineKey:
    """Return the key of an engine for any device of a capability."""
    return make_key(request, EngineDevice(read_version(request.engine_type), f"any {capability}", capability))


def _cache(store: EngineStore, key: EngineKey) -> Path:
    """Return the file of the builder's timing cache, which is useless for another version or device."""
    parts = key.parts
    return store.layout.cache / f"{parts.engine_type}-{parts.runtime_version}-{parts.capability}.timing"
