"""Engines are found complete or not at all, and requested once."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.engine.device import detect_device
from runtime.engine.store.builder import BuildOutcome
from runtime.engine.store.inventory import EngineState, list_engines
from runtime.engine.store.key import EngineRequest
from runtime.engine.store.layout import FAILURE, BuildFailure, FailureKind
from runtime.engine.store.store import EngineStore
from runtime.errors import EngineStoreError
from runtime.golden_test import open_engine


def states(store: EngineStore) -> dict[str, EngineState]:
    return {engine.name: engine.state for engine in list_engines(store)}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_an_engine_is_requested_built_tested_and_found(store, wanted, build) -> None:
    name = store.key(wanted).name
    assert store.find(wanted) is None
    assert not store.layout.folder.exists()

    assert store.request_build(wanted)
    assert states(store) == {name: EngineState.WAITING}
    assert build(store, wanted).outcome is BuildOutcome.READY

    assert states(store) == {name: EngineState.READY}
    assert store.build_requests() == []
    assert not store.request_build(wanted)
    with store.find(wanted) as engine:
        assert engine.entry.golden_test.agreement_db > 100
        assert engine.entry.golden_test.seam_ratio < 1
        with open_engine(engine.path, engine_type=wanted.engine_type, precision="fp32", threads=1) as session:
            made = session.run({entry.name: np.zeros(entry.shape, entry.dtype) for entry in session.inputs})
    assert made["output"].shape == (1, 3, 128, 128)
    assert build(store, wanted).outcome is BuildOutcome.FOUND


def test_a_flipped_bit_is_found_before_the_engine_is_used(store, wanted, build) -> None:
    build(store, wanted)
    with store.find(wanted) as engine:
        flip(engine.path, 100_000)

    assert store.find(wanted) is None

    name = store.key(wanted).name
    failure = BuildFailure.read(store.layout.quarantine / name / FAILURE)
    assert failure.kind is FailureKind.DAMAGED
    assert "engine.blob changed on disk: its SHA-256 is" in failure.reason
    assert [build_request.request for build_request in store.build_requests()] == [wanted]
    assert build(store, wanted).outcome is BuildOutcome.READY
    with store.find(wanted):
        assert states(store) == {name: EngineState.READY}
    assert list(store.layout.quarantine.iterdir()) == []


@pytest.mark.parametrize("place", [0, 1_500_000, -1])
def test_a_flipped_bit_is_found_wherever_it_is(store, wanted, shelve, place: int) -> None:
    flip(store.layout.ready / shelve(wanted, bytes(3_000_000)) / "engine.blob", place)

    assert store.find(wanted) is None


@pytest.mark.parametrize("corrupt", ["truncated", "missing", "manifest", "other key"])
def test_whatever_else_is_wrong_with_an_engine_is_found_too(store, wanted, shelve, corrupt: str) -> None:
    folder = store.layout.ready / shelve(wanted)
    manifest = folder / "manifest.json"
    if corrupt == "truncated":
        (folder / "engine.blob").write_bytes(b"engin")
    elif corrupt == "missing":
        (folder / "engine.blob").unlink()
    elif corrupt == "manifest":
        manifest.write_text("{}")
    else:
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "digest": "0" * 64}))

    assert store.find(wanted) is None
    assert not folder.exists()
    assert len(store.build_requests()) == 1


def test_a_damaged_engine_is_left_unchanged_while_it_is_rebuilt(store, wanted, shelve) -> None:
    from runtime.file_lock import FileLock

    folder = store.layout.ready / shelve(wanted)
    (folder / "engine.blob").write_bytes(b"other")

    with FileLock.try_exclusive(store.layout.lock(folder.name)):
        assert store.find(wanted) is None
        assert folder.exists()


@pytest.mark.parametrize("change", [{"runtime_version": "2030.1"}, {"driver": "999.1"}, {"product": "another"}])
def test_a_changed_library_driver_or_device_makes_an_engine_outdated(store, wanted, shelve, change) -> None:
    name = shelve(wanted)
    later = EngineStore(store.layout.folder, detect=lambda engine_type: replace(detect_device(engine_type), **change))

    assert later.find(wanted) is None
    (listed,) = list_engines(later)
    assert listed.state is EngineState.OUTDATED
    assert f"{next(iter(change)).replace('_', ' ')} was" in listed.reason
    assert later.renew() == [name]
    assert [build_request.request for build_request in later.build_requests()] == [wanted]
    assert store.renew() == []


def test_a_failed_engine_is_requested_again_only_by_a_user(store, wanted, shelve) -> None:
    folder = store.layout.ready / shelve(wanted)
    failure = BuildFailure(
        kind=FailureKind.FAILED_TEST, reason="a seam", at=0.0, source=wanted.source, parts=store.key(wanted).parts
    )
    (folder / FAILURE).write_bytes(failure.dump())
    shutil.move(folder, store.layout.quarantine / folder.name)

    assert not store.request_build(wanted)
    assert store.request_build(wanted, again=True)
    assert store.build_requests()[0].again


def test_finding_an_engine_notes_its_use(store, wanted, shelve) -> None:
    manifest = store.layout.ready / shelve(wanted) / "manifest.json"
    os.utime(manifest, (1_000_000, 1_000_000))

    store.find(wanted).close()

    assert manifest.stat().st_mtime > 1_700_000_000


def test_a_request_that_cannot_be_stored_fails_no_job(tmp_path: Path, wanted: EngineRequest, caplog) -> None:
    (tmp_path / "file").write_text("")
    caplog.set_level("WARNING", logger="runtime.engine.store.store")

    assert not EngineStore(tmp_path / "file").request_build(wanted)
    assert "the engine for model light-x4 cannot be requested" in caplog.text


def test_requests_are_built_in_order(store, wanted) -> None:
    wide = replace(wanted, dimensions=(("height", 32), ("width", 64)))
    store.request_build(wide)
    store.request_build(wanted)
    os.utime(store.layout.request_file(store.key(wide).name), (1_000_000, 1_000_000))

    assert [build_request.request for build_request in store.build_requests()] == [wide, wanted]


def test_a_store_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(EngineStoreError, match=r"engine store .* cannot be used: .*choose another data directory"):
        EngineStore(tmp_path / "file").layout.prepare()
