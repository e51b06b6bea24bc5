"""Building and checking several engines one after the other, with a line about each on standard error."""

import os
import sys
from collections.abc import Callable, Sequence

from runtime.engine.store.building import BuildResult, build_apart
from runtime.engine.store.key import describe_dimensions
from runtime.engine.store.request import EngineRequest
from runtime.engine.store.shelves import list_names
from runtime.engine.store.store import EngineStore
from runtime.engine.store.verifying import Verified, verify_engine
from runtime.errors import CancelledError, EngineStoreError


def build_all(
    store: EngineStore,
    requests: Sequence[EngineRequest],
    *,
    stop: Callable[[], bool],
    again: bool,
    capability: str | None,
) -> list[BuildResult]:
    """Build engines; those that were done before a stop stay.

    Raises:
        CancelledError: It was stopped.
        EngineStoreError: The store cannot be used, or a builder was killed.
    """
    results = []
    for number, request in enumerate(requests, 1):
        words = f"{number}/{len(requests)} {request.model} {request.precision}"
        words += f" {describe_dimensions(request.dimensions)} {request.flavour}"

        def tell(stage: str, words: str = words) -> None:
            print(f"{words}: {stage}", file=sys.stderr, flush=True)

        results.append(build_apart(store, request, stop=stop, again=again, capability=capability, tell=tell))
    return results


def verify_all(store: EngineStore, beginning: str | None, *, stop: Callable[[], bool]) -> list[Verified]:
    """Check the ready engines, or the one whose name begins so.

    Raises:
        CancelledError: It was stopped.
        EngineStoreError: There is no such engine.
    """
    names = list_names(store.shelves.ready) if beginning is None else [beginning]
    found = []
    for name in names:
        if stop():
            raise CancelledError("stopped; the engines that were checked so far are as they were told to be")
        print(f"{name}: testing", file=sys.stderr, flush=True)
        try:
            found.append(verify_engine(store, name, threads=len(os.sched_getaffinity(0))))
        except EngineStoreError as error:
            if beginning is not None:
                raise
            found.append(Verified(name, None, str(error)))
    return found
