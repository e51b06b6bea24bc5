"""Pruning keeps to the budget, and removes nothing that is in use or being built."""

import os
from dataclasses import replace

import pytest

from runtime.engine.device import detect_device
from runtime.engine.store.pruning import prune
from runtime.engine.store.store import EngineStore
from runtime.errors import EngineStoreError
from runtime.file_lock import FileLock


@pytest.fixture
def three(store, wanted, shelve):
    """Return three requests whose engines take about 1 MB each, the first being the least recently used."""
    requests = [replace(wanted, dimensions=(("height", 32), ("width", 32 * number))) for number in (3, 1, 2)]
    for number, request in enumerate(requests):
        manifest = store.layout.ready / shelve(request, bytes(1_000_000)) / "manifest.json"
        os.utime(manifest, (1_000_000 + number, 1_000_000 + number))
    return requests


def left(store, requests):
    found = [store.find(request) for request in requests]
    for engine in found:
        if engine is not None:
            engine.close()
    return [engine is not None for engine in found]


def test_the_engine_whose_use_is_longest_ago_goes_first(store, three) -> None:
    pruned = prune(store, 2_500_000)

    assert pruned.removed == (store.key(three[0]).name,)
    assert pruned.left_bytes > 2_000_000
    assert left(store, three) == [False, True, True]


def test_an_engine_in_use_is_removed_only_after_it_is_closed(store, three) -> None:
    with store.find(three[0]) as engine:
        os.utime(engine.path.parent / "manifest.json", (1, 1))
        pruned = prune(store, 0)
        assert engine.path.read_bytes() == bytes(1_000_000)

    assert pruned.kept_in_use == (store.key(three[0]).name,)
    assert left(store, three) == [True, False, False]
    assert prune(store, 0).kept_in_use == ()
    assert left(store, three) == [False, False, False]


def test_within_the_budget_only_what_nobody_can_use_goes(store, wanted, shelve, three) -> None:
    earlier = EngineStore(store.layout.folder, detect=lambda kind: replace(detect_device(kind), runtime_version="1.0"))
    outdated = shelve(wanted, by=earlier)

    pruned = prune(store, 10_000_000)

    assert pruned.removed == (outdated,)
    assert left(store, three) == [True, True, True]


def test_quarantine_goes_before_any_ready_engine(store, three) -> None:
    name = store.key(three[2]).name
    (store.layout.ready / name).rename(store.layout.quarantine / name)

    assert prune(store, 2_500_000).removed == (name,)


def test_what_a_killed_builder_left_goes_and_what_a_living_one_makes_stays(store) -> None:
    store.layout.prepare()
    for name in ("dead", "alive"):
        (store.layout.partial / name).mkdir()
    with FileLock.try_exclusive(store.layout.lock("alive")):
        prune(store, 0)

    assert [path.name for path in store.layout.partial.iterdir()] == ["alive"]


@pytest.mark.usefixtures("three")
def test_an_engine_whose_library_is_missing_today_is_no_rubbish(store) -> None:
    def look(engine_type):
        raise EngineStoreError(f"{engine_type} is not installed")

    assert prune(EngineStore(store.layout.folder, detect=look), 10_000_000).removed == ()
