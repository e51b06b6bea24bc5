"""The sensitivity of each layer to INT8, and the choice of the layers that stay in float32."""

import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path

import onnx
from rich.table import Table

from export.int8.convert import GATE_DB, Int8Error, write_int8
from export.int8.layers import Layer, find_layers, worth_quantising
from export.int8.ranges import Ranges
from export.onnx_export import set_static_shapes
from runtime.manifest import QuantScheme

Files = Mapping[str, Path]
"""A model's files by their role: `step`, `window`, `backward`, ..."""

Score = Callable[[Files], float]
"""Measure the quality of a model with these files instead of its own, in dB: PSNR for video, SI-SDR for speech; minus
infinity if a value is not finite."""

MOST_MEASURED = 20
"""In files with more layers, only those with enough operations are measured."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """The cost of quantising one layer alone.

    layer: First node that reads the weights; a window's graph has one node per frame.
    weight: Name of the weights.
    share: Of the operations of its file.
    loss_db: Loss against float32; None if it was not measured because the layer has too few operations.
    nodes: All nodes that read the weights.
    role: Of the file.
    worth: Whether the layer has enough operations to be quantised.
    """

    layer: str
    weight: str
    share: float
    loss_db: float | None
    nodes: tuple[str, ...]
    role: str = "step"
    worth: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """The nodes in INT8 and those in float32, by the role of their file.

    before_db, after_db: Quality in float32 and with the chosen layers in INT8.
    tried: For each attempt, the layer that was returned to float32 before it, and the loss in dB.
    """

    quantised: Mapping[str, tuple[str, ...]]
    in_float: Mapping[str, tuple[str, ...]]
    before_db: float
    after_db: float
    tried: tuple[tuple[str, float], ...]

    @property
    def loss_db(self) -> float:
        """The loss against float32."""
        return self.before_db - self.after_db


def measure_layers(
    sources: Files,
    ranges: Mapping[str, Ranges],
    score: Score,
    *,
    sizes: Mapping[str, int] | None = None,
    scheme: QuantScheme = QuantScheme.ASYMMETRIC_U8,
    on_layer: Callable[[str], None] = lambda _: None,
) -> tuple[LayerCost, ...]:
    """Quantise one layer at a time and measure the model; return the costliest layer first.

    Args:
        sources: The float32 files.
        ranges: Measured on `sources`.
        score: Called with files to use instead of `sources`.
        sizes: Sizes of the named dimensions, for counting operations.
        scheme: Of the files.
        on_layer: Called with each layer before it is measured.
    """
    before_db = score(sources)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for cost in _list_layers(sources, sizes or {}):
            if cost.loss_db is None:
                costs.append(cost)
                continue
            on_layer(cost.layer)
            target = Path(folder) / "one.onnx"
            write_int8(sources[cost.role], target, ranges[cost.role], layers=cost.nodes, scheme=scheme)
            loss_db = before_db - score({**sources, cost.role: target})
            costs.append(replace(cost, loss_db=loss_db))
    return tuple(sorted(costs, key=_costliest))


def choose_layers(
    sources: Files,
    ranges: Mapping[str, Ranges],
    score: Score,
    costs: Collection[LayerCost],
    *,
    gate_db: float = GATE_DB,
    scheme: QuantScheme = QuantScheme.ASYMMETRIC_U8,
) -> Choice:
    """Quantise every worthwhile layer, then return the costliest to float32 until the gate is passed.

    Args:
        sources: The float32 files.
        ranges: Measured on `sources`.
        score: As for `measure_layers`.
        costs: From `measure_layers`.
        gate_db: Largest allowed loss.
        scheme: Of the files.

    Raises:
        Int8Error: The gate cannot be passed; the message names the costliest layer.
    """
    before_db = score(sources)
    ordered = sorted(costs, key=_costliest)
    left = [cost for cost in ordered if cost.worth]
    tried: list[tuple[str, float]] = []
    dropped = ""
    while left:
        with tempfile.TemporaryDirectory() as folder:
            chosen = nodes_by_role(left)
            after_db = score(write_parts(sources, Path(folder), ranges, chosen, scheme=scheme))
        tried.append((dropped, before_db - after_db))
        if before_db - after_db <= gate_db:
            in_float = nodes_by_role([cost for cost in ordered if cost not in left])
            return Choice(chosen, in_float, before_db, after_db, tuple(tried))
        dropped = left.pop(0).layer
    least = min((loss for _, loss in tried), default=float("nan"))
    raise Int8Error(
        f"{', '.join(path.name for path in sources.values())} loses at least {least:.3f} dB in INT8, allowed "
        f"{gate_db:g} dB; the costliest layer is {ordered[0].layer if ordered else 'none'}: do not use INT8, or "
        "calibrate with clips that resemble its sources"
    )


def write_parts(
    sources: Files,
    folder: Path,
    ranges: Mapping[str, Ranges],
    chosen: Mapping[str, Sequence[str]],
    *,
    scheme: QuantScheme = QuantScheme.ASYMMETRIC_U8,
) -> dict[str, Path]:
    """Write the INT8 file of each role into a folder; a role without chosen layers keeps its float32 file."""
    written = dict(sources)
    for role, nodes in chosen.items():
        if nodes:
            written[role] = folder / f"{role}.int8.onnx"
            write_int8(sources[role], written[role], ranges[role], layers=nodes, scheme=scheme)
    return written


def nodes_by_role(costs: Collection[LayerCost]) -> dict[str, tuple[str, ...]]:
    """Return the nodes of layers by the role of their file."""
    ordered = sorted(costs, key=lambda cost: cost.role)
    return {
        role: tuple(node for cost in found for node in cost.nodes)
        for role, found in groupby(ordered, key=lambda cost: cost.role)
    }


def _costliest(cost: LayerCost) -> float:
    return 0.0 if cost.loss_db is None else -cost.loss_db


def _list_layers(sources: Files, sizes: Mapping[str, int]) -> list[LayerCost]:
    """List each file's layers with a loss of 0, or None for those that are not measured."""
    found = []
    for role, source in sources.items():
        layers = _read_layers(source, sizes)
        worth = set(worth_quantising(layers))
        by_weight: dict[str, list[Layer]] = {}
        for layer in layers:
            by_weight.setdefault(layer.weight, []).append(layer)
        for weight, nodes in by_weight.items():
            names = tuple(node.name for node in nodes)
            is_worth = not worth.isdisjoint(names)
            loss = 0.0 if is_worth or len(by_weight) <= MOST_MEASURED else None
            share = sum(node.share for node in nodes)
            found.append(LayerCost(names[0], weight, share, loss, names, role, is_worth))
    return found


def _read_layers(source: Path, sizes: Mapping[str, int]) -> tuple[Layer, ...]:
    """Read the layers of a file at given sizes of its named dimensions."""
    if not sizes:
        return find_layers(onnx.load(source))
    with tempfile.TemporaryDirectory() as folder:
        fixed = Path(folder) / "fixed.onnx"
        set_static_shapes(source, fixed, sizes)
        return find_layers(onnx.load(fixed))


def cost_table(title: str, costs: Collection[LayerCost], choice: Choice) -> Table:
    """Return a table of the measured layers, their cost and their precision."""
    table = Table(title=title)
    for heading in ("file", "layer", "weights", "operations", "dB lost alone", "precision"):
        table.add_column(heading, justify="right" if heading in ("operations", "dB lost alone") else "left")
    measured = [(cost, cost.loss_db) for cost in costs if cost.loss_db is not None]
    for cost, loss_db in measured:
        kind = "int8" if cost.layer in choice.quantised.get(cost.role, ()) else "float32"
        table.add_row(cost.role, cost.layer, cost.weight, f"{100 * cost.share:.1f} %", f"{loss_db:+.4f}", kind)
    left = len(costs) - len(measured)
    table.caption = (
        f"{choice.before_db:.3f} dB in float32, {choice.after_db:.3f} dB in INT8: {choice.loss_db:.3f} dB lost"
        + (f"; {left} layers with few operations stay in float32" if left else "")
    )
    return table


def write_report(path: Path, costs: Collection[LayerCost], choice: Choice) -> None:
    """Write costs and choice as JSON."""
    report = {"layers": [asdict(cost) for cost in costs], "choice": asdict(choice) | {"loss_db": choice.loss_db}}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
