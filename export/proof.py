"""What was proven of a network, as it lies in a file, and what must be the same for it to hold still."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import nn

from export.graph import Graph

TOOLS = ("torch", "onnx", "onnxruntime", "tensorrt-rtx-cu13", "tensorrt-cu13")
SOURCES = ("engine", "fixed", "graph", "graphs", "half", "half_graph", "parity", "proof", "prove", "subjects", "tiles")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineProof(_Part):
    """One engine that was built, or why it was not."""

    precision: str
    target: str
    version: str = ""
    size_bytes: int = 0
    time_s: float = 0.0
    failure: str = ""


class GraphProof(_Part):
    """One graph through every gate.

    `parity`: largest difference from PyTorch as a share of the peak; None for a shipped file, which is compared with
    nothing but its float16 form. `psnr_db`: of the worst tile. `same_as`: the graph with other random weights that was
    proven in its place.
    """

    role: str
    structure: str
    shapes: dict[str, tuple[int, ...]]
    parity: float | None = None
    nodes: int = 0
    size_bytes: int = 0
    psnr_db: float | None = None
    random_tiles: int = 0
    real_tiles: int = 0
    islands: int = 0
    engines: tuple[EngineProof, ...] = ()
    failure: str = ""
    same_as: str = ""
    complete: bool = False

    @property
    def holds(self) -> bool:
        """Whether every gate was passed."""
        return self.complete and not self.failure and not any(engine.failure for engine in self.engines)


class NetworkProof(_Part):
    """One network's graphs; `conditions` is the digest of the code and options that they were proven with.

    `whole`: none of its graphs is missing, as some are after an interruption.
    """

    name: str
    parameters: int
    weights: str
    conditions: str
    graphs: tuple[GraphProof, ...] = ()
    whole: bool = False
    failure: str = ""
    time_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.whole and all(graph.complete for graph in self.graphs) and not self.failure

    @property
    def holds(self) -> bool:
        """Whether every gate was passed."""
        return self.complete and all(graph.holds for graph in self.graphs)


def read_proof(folder: Path, name: str, conditions: str) -> NetworkProof | None:
    """Return what was proven of a network under the same conditions, whole or not."""
    try:
        proof = NetworkProof.model_validate_json((folder / f"{name}.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return proof if proof.conditions == conditions else None


def write_proof(folder: Path, proof: NetworkProof) -> None:
    """Write a proof so that a crash leaves the one before."""
    partial = folder / f".{proof.name}.json"
    partial.write_text(proof.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / f"{proof.name}.json")


def proven_structures(proofs: Iterable[NetworkProof]) -> dict[str, tuple[str, GraphProof]]:
    """Return, by structure, the graphs that passed every gate and the name they stand under."""
    known: dict[str, tuple[str, GraphProof]] = {}
    for proof in proofs:
        for graph in proof.graphs:
            if graph.holds and not graph.same_as:
                known.setdefault(graph.structure, (f"{proof.name} {graph.role}", graph))
    return known


def digest_conditions(options: Mapping[str, Any]) -> str:
    """Digest the options, the versions of the tools, and the source of the networks and of what proves them."""
    folder = Path(__file__).parent
    sources = [folder / f"{name}.py" for name in SOURCES]
    sources.extend(sorted((folder.parent / "models").rglob("*.py")))
    digest = hashlib.sha256(json.dumps([options, {tool: _version(tool) for tool in TOOLS}], sort_keys=True).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def digest_structure(graph: Graph) -> str:
    """Digest all of a graph but the values of its weights: modules, their plain attributes, shapes."""
    parts: list[str] = [repr(sorted(graph.inputs.items())), repr(graph.outputs), repr(graph.traced)]
    for name, module in graph.module.named_modules():
        parts.append(f"{name} {type(module).__qualname__} {_plain(module)}")
    parts.extend(f"{name} {tuple(value.shape)}" for name, value in graph.module.state_dict().items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _plain(module: nn.Module) -> str:
    """Return what a module holds beside tensors and modules: sizes, flags, its configuration."""
    held = {key: value for key, value in vars(module).items() if not key.startswith("_")}
    return repr(sorted((key, repr(value)) for key, value in held.items()))


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""
