"""The state of the video between two attempts: recurrent tensors, frames to be compared, results of stored frames."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.atomic_files import FileRecord, record_file, removed_on_error
from runtime.resume.packets import read_times
from runtime.resume.workspace import Workspace
from runtime.video.fallback import TileRetry
from runtime.video.frames import States
from runtime.video.pipeline import PipelineResult, ResumePoint, Snapshot

_PREVIOUS: Final = "previous"
_STATE: Final = "state_"

Frame = NDArray[np.float32]


def write_state(path: Path, previous: Frame | None, states: States) -> FileRecord:
    """Write the state before a frame; its name is durable when the folder is synced."""
    arrays: dict[str, NDArray[Any]] = {_STATE + name: state for name, state in states.items()}
    if previous is not None:
        arrays[_PREVIOUS] = previous
    return _write(path, arrays)


def read_state(path: Path) -> tuple[Frame | None, States]:
    """Read the state that `write_state` wrote, bit for bit."""
    arrays = _read(path)
    previous = arrays.pop(_PREVIOUS, None)
    return previous, {name.removeprefix(_STATE): state for name, state in arrays.items()}


def write_snapshot(path: Path, snapshot: Snapshot) -> FileRecord:
    """Write a frame before and after."""
    return _write(path, {"before": snapshot.before, "after": snapshot.after})


def read_snapshot(path: Path) -> Snapshot:
    """Read the snapshot that `write_snapshot` wrote."""
    arrays = _read(path)
    return Snapshot(arrays["before"], arrays["after"])


def read_start(workspace: Workspace) -> ResumePoint:
    """Read the resume point; the workspace's files must be intact."""
    manifest, passed = workspace.manifest, read_passed(workspace)
    previous: Frame | None = None
    states: States = {}
    scene_cuts = passed.scene_cuts
    if manifest.segments and manifest.next_is_cut:
        scene_cuts = (*scene_cuts, manifest.frames)
    elif manifest.state is not None:
        previous, states = read_state(workspace.folder / manifest.state.name)
    return ResumePoint(
        passed.pts, scene_cuts, passed.reruns, passed.snapshot, previous, states, kept_tiles=passed.kept_tiles
    )


def read_passed(workspace: Workspace) -> PipelineResult:
    """Read the results of the stored frames."""
    manifest = workspace.manifest
    snapshot = manifest.snapshot
    return PipelineResult(
        pts=read_times(workspace.folder, manifest.segments),
        scene_cuts=tuple(cut for segment in manifest.segments for cut in segment.scene_cuts),
        reruns=tuple(TileRetry(*rerun) for segment in manifest.segments for rerun in segment.reruns),
        snapshot=None if snapshot is None else read_snapshot(workspace.folder / snapshot.name),
        backend=manifest.backend,
        precision=manifest.precision,
        kept_tiles=sum(segment.kept_tiles for segment in manifest.segments),
    )


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> FileRecord:
    with removed_on_error(path), open(path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    return record_file(path)


def _read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
