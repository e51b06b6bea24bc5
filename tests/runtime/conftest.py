"""Small models of a user's zoo, whose results a simple formula predicts."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.engine.backends import find_backend
from runtime.engine.speeds import Speed, describe_device, digest_files, write_speeds
from runtime.hardware import detect_hardware
from runtime.manifest import Model, ModelFile, VideoSpec, find_model, load_model

Node = tuple[str, list[str], str]


def save_graph(
    path: Path, nodes: list[Node], constants: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]
) -> None:
    """Write a graph of nodes (operation, inputs, output) over float32 tensors of fixed shapes."""
    graph = helper.make_graph(
        [helper.make_node(kind, names, [output]) for kind, names, output in nodes],
        path.stem,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def save_manifest(folder: Path, roles: tuple[str, ...], **video: Any) -> Model:
    """Write the manifest of the files `ROLE.onnx` in a folder, and read it."""
    spec = {"look_behind": 0, "halo": 0, "tile_multiple": 1, "aligned_by": "none", "gflop_per_320x180_frame": 1.0}
    files = [
        ModelFile(
            path=f"{role}.onnx", role=role, precision="fp32",  # type: ignore[arg-type]
            sha256=hashlib.sha256((folder / f"{role}.onnx").read_bytes()).hexdigest(),
        )
        for role in roles
    ]  # fmt: skip
    shipped = find_model("light-restore").manifest
    changes = {
        "name": folder.name, "files": tuple(files), "states": (), "licence": "CC-BY-NC-4.0: non-commercial use only",
        "video": VideoSpec(**(spec | video)),
    }  # fmt: skip
    (folder / "manifest.json").write_text(shipped.model_copy(update=changes).model_dump_json())
    return load_model(folder)


def write_clip_model(
    zoo: Path,
    *,
    name: str = "clip",
    frames: int = 4,
    overlap: int = 1,
    tile: tuple[int, int] = (32, 32),
    scale: int = 1,
    blend: int = 8,
    share: float = 0.5,
    spread: float = 0.0,
    limit: float | None = None,
    level: bool = False,
) -> Model:
    """Write a network over windows: each frame moved by `share` to the window's mean, plus `spread` of its own mean.

    With `limit`, brighter values become NaN; with `level`, a noise level is read and added.
    """
    folder, shape = zoo / name, (1, frames, 4 if level else 3, *tile)
    folder.mkdir(parents=True)
    f32, i64 = np.float32, np.int64
    constants: dict[str, Any] = {
        "first": i64([0]), "third": i64([3]), "fourth": i64([3 if level else 2]), "end": i64([9]), "axis": i64([2]),
        "told": f32(level), "share": f32(share), "rest": f32(1 - share), "spread": f32(spread), "time": i64([1]),
        "all": i64([2, 3, 4]),
        "limit": f32(limit or 9), "nothing": f32(0), "scales": f32([1, 1, scale, scale]),
        "flat": i64([frames, 3, *tile]), "full": i64([1, frames, 3, tile[0] * scale, tile[1] * scale]),
    }  # fmt: skip
    nodes: list[Node] = [
        ("Slice", ["seen", "first", "third", "axis"], "frames"), ("Slice", ["seen", "fourth", "end", "axis"], "last"),
        ("ReduceMean", ["frames", "time"], "mean"), ("Mul", ["mean", "share"], "shared"),
        ("Mul", ["frames", "rest"], "own"), ("Add", ["own", "shared"], "mixed"),
        ("ReduceMean", ["frames", "all"], "level"), ("Mul", ["level", "spread"], "raised"),
        ("Add", ["mixed", "raised"], "lit"), ("Sub", ["limit", "frames"], "left"), ("Log", ["left"], "log"),
        ("Mul", ["log", "nothing"], "zero"), ("Add", ["lit", "zero"], "sound"),
        ("Mul", ["last", "told"], "noise"), ("Add", ["sound", "noise"], "small"),
        ("Reshape", ["small", "flat"], "rows"),
        ("Resize", ["rows", "", "scales"], "large"), ("Reshape", ["large", "full"], "output"),
    ]  # fmt: skip
    save_graph(
        folder / "window.onnx", nodes, constants, {"seen": shape},
        {"output": (1, frames, 3, tile[0] * scale, tile[1] * scale)},
    )  # fmt: skip
    return save_manifest(
        folder, ("window",), scale=scale, look_ahead=frames - 1, window_overlap=overlap, overlap=blend,
        tile_shapes=(tile,),
    )  # fmt: skip


def write_chain_model(
    zoo: Path,
    *,
    name: str = "chain",
    frames: int = 4,
    overlap: int = 1,
    tile: tuple[int, int] = (32, 32),
    flow: tuple[float, float] = (1, 0),
    limit: float | None = None,
    passes: int = 0,
    until: float = 0.0,
) -> Model:
    """Write a model in parts: features are a frame's mean over its channels plus half of the carried ones; the result
    adds both.

    `flow` is what the flow engine finds everywhere; with `limit`, carried features above it give NaN. With `passes`
    there is a cleaning step that halves the frame.
    """
    folder, frame, plane = zoo / name, (1, 3, *tile), (1, 1, *tile)
    folder.mkdir(parents=True)
    f32, i64 = np.float32, np.int64
    save_graph(
        folder / "flow.onnx",
        [("Slice", ["reference", "from", "to", "axis"], "one"), ("Slice", ["other", "from", "to", "axis"], "two"),
         ("Sub", ["one", "two"], "gap"), ("Mul", ["gap", "nothing"], "zero"), ("Add", ["zero", "moved"], "flow")],
        {"from": i64([0]), "to": i64([2]), "axis": i64([1]), "nothing": f32(0),
         "moved": np.array(flow, f32).reshape(1, 2, 1, 1)},
        {"reference": frame, "other": frame}, {"flow": (1, 2, *tile)},
    )  # fmt: skip
    for role in ("backward", "forward"):
        save_graph(
            folder / f"{role}.onnx",
            [("ReduceMean", ["frame", "axis"], "mean"), ("Mul", ["warped", "half"], "kept"),
             ("Sub", ["limit", "warped"], "left"), ("Log", ["left"], "log"), ("Mul", ["log", "nothing"], "zero"),
             ("Add", ["mean", "kept"], "sum"), ("Add", ["sum", "zero"], "features")],
            {"axis": i64([1]), "half": f32(0.5), "limit": f32(limit or 99), "nothing": f32(0)},
            {"frame": frame, "warped": plane}, {"features": plane},
        )  # fmt: skip
    save_graph(
        folder / "reconstruction.onnx",
        [("Add", ["backward", "forward"], "both"), ("Add", ["frame", "both"], "output")],
        {}, {"backward": plane, "forward": plane, "frame": frame}, {"output": frame},
    )  # fmt: skip
    roles: tuple[str, ...] = ("flow", "backward", "forward", "reconstruction")
    if passes:
        save_graph(folder / "clean.onnx", [("Mul", ["frame", "half"], "cleaned")], {"half": f32(0.5)},
                   {"frame": frame}, {"cleaned": frame})  # fmt: skip
        roles = (*roles, "clean")
    return save_manifest(
        folder, roles, scale=1, look_ahead=frames - 1, window_overlap=overlap, halo=4, tile_shapes=(tile,),
        clean_passes=max(passes, 1), clean_until=until,
    )  # fmt: skip


@pytest.fixture
def clip_model(tmp_path: Path) -> Callable[..., Model]:
    """Write a model with windows; see `write_clip_model`."""
    return lambda **fields: write_clip_model(tmp_path / "zoo", **fields)


@pytest.fixture
def chain_model(tmp_path: Path) -> Callable[..., Model]:
    """Write a model in parts; see `write_chain_model`."""
    return lambda **fields: write_chain_model(tmp_path / "zoo", **fields)


@pytest.fixture
def keep_speeds(tmp_path: Path) -> Callable[..., Path]:
    """Store milliseconds by backend and precision as if `relume doctor` had measured them here; return their folder."""

    def keep(model: Model, speeds: dict[tuple[str, str], float], **changes: Any) -> Path:
        found = []
        for (name, precision), ms in speeds.items():
            backend = find_backend(name)
            device = describe_device(detect_hardware(), backend)
            fields: dict[str, Any] = {
                "model": model.manifest.name, "backend": name, "precision": precision,
                "sha256": digest_files(model, precision, backend.quant_scheme),
                "library": backend.library_version, "device": device, "threads": 2, "size": "320x180", "runs": 9,
                "ms": ms, "measured": "2026-11-21",
            }  # fmt: skip
            found.append(Speed(**(fields | changes)))
        write_speeds(tmp_path / "engines", tuple(found))
        return tmp_path / "engines"

    return keep
