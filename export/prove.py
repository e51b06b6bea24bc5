"""`relume-build prove`: every network through every gate, each in a process of its own, and what came of it kept.

A network whose proof lies in the folder is not proven again while the code, the tools and the options are the same. A
process that crashes is a line of the table; what it had proven before that is kept.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from export.engine import EngineBuildError, build_engine
from export.graph import Graph, export_graph
from export.half import HalfPrecisionError, convert_to_half
from export.parity import ParityError
from export.proof import (
    EngineProof,
    GraphProof,
    NetworkProof,
    digest_conditions,
    digest_structure,
    proven_structures,
    read_proof,
    write_proof,
)
from export.proof_table import print_table, write_markdown
from export.run import find_target
from export.subjects import SHIPPED, count_parameters, find_subjects, subject_graphs
from export.tiles import Tile, graph_tiles
from runtime.child_process import die_with
from runtime.engine.backends import Flavour

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """What to prove.

    `names`: networks in the order in which they are proven; all without them. `engines`: as `ExportRequest.engines`.
    `tiles`: random ones, and as many real ones of `clips` or, for speech, of `sounds`.
    """

    output: Path
    names: tuple[str, ...] = ()
    tiles: int = 100
    clips: tuple[Path, ...] = ()
    sounds: tuple[Path, ...] = ()
    engines: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """What a proof depends on, beside the code."""
        media = {"clips": self.clips, "sounds": self.sounds}
        named = {kind: [(path.name, path.stat().st_size) for path in paths] for kind, paths in media.items()}
        return {"tiles": self.tiles, "engines": self.engines, **named}


def run_proofs(request: ProofRequest, *, console: Console | None = None) -> list[NetworkProof]:
    """Prove networks one after the other; show a table, and write it beside the proofs as `proofs.md`.

    Raises:
        UnknownNetworkError: There is no such network.
        ValueError: There is no such engine.
    """
    console = console or Console()
    for engine in request.engines:
        find_target(engine)
    names = find_subjects(request.names)
    request.output.mkdir(parents=True, exist_ok=True)
    conditions = digest_conditions(request.options)
    proofs = []
    for name in names:
        kept = read_proof(request.output, name, conditions)
        if kept is None or not kept.complete:
            console.print(f"{name} ...")
            kept = _prove_apart(name, request, conditions)
        proofs.append(kept)
        write_markdown(request.output / "proofs.md", proofs)
    print_table(console, proofs)
    return proofs


def _prove_apart(name: str, request: ProofRequest, conditions: str) -> NetworkProof:
    """Prove one network in a process of its own, so that a crash or a leak of its libraries ends with it."""
    started = time.monotonic()
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(name, request, conditions, os.getpid()))
    process.start()
    process.join()
    proof = read_proof(request.output, name, conditions) or NetworkProof(
        name=name, parameters=count_parameters(name), weights="", conditions=conditions
    )
    failure = f"the process ended with {process.exitcode}" if process.exitcode else ""
    proof = proof.model_copy(update={"failure": failure, "time_s": proof.time_s + time.monotonic() - started})
    write_proof(request.output, proof)
    return proof


def _child(name: str, request: ProofRequest, conditions: str, parent: int) -> None:
    die_with(parent)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    prove_network(name, request, conditions)


def prove_network(name: str, request: ProofRequest, conditions: str) -> None:
    """Take every graph of a network through the gates, and write what is proven after each of them."""
    others = (read_proof(request.output, path.stem, conditions) for path in sorted(request.output.glob("*.json")))
    known = proven_structures(proof for proof in others if proof is not None)
    proof = read_proof(request.output, name, conditions) or NetworkProof(
        name=name,
        parameters=count_parameters(name),
        weights="as shipped" if name.startswith(SHIPPED) else "random",
        conditions=conditions,
    )
    done = {graph.role: graph for graph in proof.graphs if graph.complete}
    proof = proof.model_copy(update={"graphs": ()})
    for graph, path in subject_graphs(name, request.output):
        found = done.get(graph.role) or _find_same(graph, known)
        steps = iter((found,)) if found is not None else _prove_graph(graph, path, request, f"{name}-{graph.role}")
        finished = proof.graphs
        for step in steps:
            proof = proof.model_copy(update={"graphs": (*finished, step)})
            write_proof(request.output, proof)
        known |= proven_structures([proof])
        if path is not None:
            path.unlink(missing_ok=True)
    write_proof(request.output, proof.model_copy(update={"whole": True}))


def _find_same(graph: Graph, known: Mapping[str, tuple[str, GraphProof]]) -> GraphProof | None:
    where, other = known.get(digest_structure(graph), ("", None))
    return other.model_copy(update={"role": graph.role, "same_as": where}) if other is not None else None


def _prove_graph(graph: Graph, shipped: Path | None, request: ProofRequest, stem: str) -> Iterator[GraphProof]:
    """Yield the proof as it grows; the files are removed as soon as nothing needs them."""
    proof = GraphProof(role=graph.role, structure=digest_structure(graph), shapes=graph.inputs)
    exact, half = request.output / f"{stem}.fp32.onnx", request.output / f"{stem}.fp16.onnx"
    try:
        if shipped is None:
            written = export_graph(graph, exact)
            proof = proof.model_copy(
                update={"parity": written.parity, "nodes": written.nodes, "size_bytes": written.size_bytes}
            )
            yield proof
        else:
            exact = shipped
        for grown in _with_engines(proof, exact, "fp32", request.engines):
            proof = grown
            yield proof
        tiles = _told(graph_tiles(graph, exact, request.tiles, clips=request.clips, sounds=request.sounds), stem)
        converted = convert_to_half(exact, half, tiles, stream=graph.sound is not None and bool(graph.states))
        random = min(request.tiles, converted.tiles)
        proof = proof.model_copy(
            update={
                "psnr_db": converted.psnr_db,
                "random_tiles": random,
                "real_tiles": converted.tiles - random,
                "islands": converted.islands,
            }
        )
        yield proof
        for grown in _with_engines(proof, half, "fp16", request.engines):
            proof = grown
            yield proof
        yield proof.model_copy(update={"complete": True})
    except (ParityError, HalfPrecisionError) as error:
        yield proof.model_copy(update={"failure": str(error), "complete": True})
    finally:
        exact.unlink(missing_ok=True)
        half.unlink(missing_ok=True)


def _with_engines(proof: GraphProof, source: Path, precision: str, engines: tuple[str, ...]) -> Iterator[GraphProof]:
    for name in engines:
        flavour, capability = find_target(name)
        proof = proof.model_copy(update={"engines": (*proof.engines, _build(source, precision, flavour, capability))})
        yield proof


def _build(source: Path, precision: str, flavour: Flavour, capability: str | None) -> EngineProof:
    target = source.with_suffix(".engine")
    try:
        built = build_engine(source, target, flavour=flavour, capability=capability)
    except EngineBuildError as error:
        return EngineProof(precision=precision, target=f"{flavour} {capability or 'this GPU'}", failure=str(error))
    target.unlink()
    return EngineProof(
        precision=precision,
        target=f"{flavour} {built.target}",
        version=built.version,
        size_bytes=built.size_bytes,
        time_s=round(built.time_s, 1),
    )


def _told(tiles: Iterator[Tile], stem: str) -> Iterator[Tile]:
    for index, tile in enumerate(tiles):
        if index % 50 == 0:
            logger.info("%s: tile %d", stem, index)
        yield tile
