"""Engines as text for a terminal, and as JSON."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from appliance.text import format_bytes, format_json, format_table
from runtime.engine.store.building import BuildResult
from runtime.engine.store.entry import Proof
from runtime.engine.store.listing import ListedEngine
from runtime.engine.store.pruning import Pruned
from runtime.engine.store.verifying import Verified


def show_engines(engines: Sequence[ListedEngine], *, as_json: bool) -> str:
    """List engines, a line each."""
    if as_json:
        return format_json([engine_to_plain(engine) for engine in engines])
    if not engines:
        return "no engines; ONNX Runtime serves every model"
    heading = ("engine", "state", "size", "last used", "proof", "reason")
    return format_table([heading, *(_row(engine) for engine in engines)])


def show_built(results: Sequence[BuildResult], *, as_json: bool) -> str:
    """Tell how builds ended."""
    if as_json:
        return format_json([asdict(result) for result in results])
    return format_table([(result.name, str(result.outcome), result.reason) for result in results])


def show_verified(found: Sequence[Verified], *, as_json: bool) -> str:
    """Tell what engines were found to be."""
    if as_json:
        return format_json(
            [{"name": one.name, "proof": _proof_to_plain(one.proof), "fault": one.fault} for one in found]
        )
    if not found:
        return "no engines"
    return format_table(
        [(one.name, "failed" if one.fault else "sound", one.fault or _proof(one.proof)) for one in found]
    )


def show_pruned(pruned: Pruned, *, as_json: bool) -> str:
    """Tell what was cleared away."""
    if as_json:
        return format_json(asdict(pruned))
    lines = [f"removed {name}" for name in pruned.removed]
    lines += [f"kept {name}: it is in use" for name in pruned.kept_in_use]
    lines.append(f"{format_bytes(pruned.removed_bytes)} freed, {format_bytes(pruned.left_bytes)} left")
    return "\n".join(lines)


def engine_to_plain(engine: ListedEngine) -> dict[str, object]:
    """Give an engine as plain data."""
    plain = {name: getattr(engine, name) for name in engine.__slots__ if name != "proof"}
    return {**plain, "proof": _proof_to_plain(engine.proof)}


def _row(engine: ListedEngine) -> tuple[str, ...]:
    used = "" if engine.last_used is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(engine.last_used))
    size = format_bytes(engine.size_bytes) if engine.size_bytes else ""
    return engine.name, str(engine.state), size, used, _proof(engine.proof), engine.reason


def _proof(proof: Proof | None) -> str:
    if proof is None:
        return ""
    loss = "" if proof.quality_loss_db is None else f", {max(0.0, proof.quality_loss_db):.3f} dB lost"
    return f"{proof.agreement_db:.0f} dB{loss}"


def _proof_to_plain(proof: Proof | None) -> dict[str, object] | None:
    return None if proof is None else proof.model_dump()
