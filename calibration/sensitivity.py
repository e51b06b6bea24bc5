"""What each layer costs when it alone computes in INT8, and the choice of the layers that stay in float."""

import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from rich.table import Table

from export.fixed import fix_dimensions
from export.int8 import GATE_DB, Int8Error, write_int8
from export.int8_graph import Form
from export.int8_layers import Layer, find_layers, worth_quantising
from export.ranges import Ranges

Score = Callable[[Path], float]
"""Gives a file's quality in dB: PSNR against the truth for a picture, SI-SDR for sound."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer quantised alone: its share of the operations, and the dB that are lost beside float32."""

    layer: str
    weight: str
    share: float
    loss_db: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The layers that compute in INT8 and those that do not.

    before_db, after_db: Quality in float32 and with the chosen layers in INT8.
    tried: Loss in dB after each attempt, with the layer that was put back into float before it.
    """

    quantised: tuple[str, ...]
    in_float: tuple[str, ...]
    before_db: float
    after_db: float
    tried: tuple[tuple[str, float], ...]

    @property
    def loss_db(self) -> float:
        """What INT8 loses."""
        return self.before_db - self.after_db


def measure_layers(
    source: Path,
    ranges: Ranges,
    score: Score,
    *,
    sizes: Mapping[str, int] | None = None,
    form: Form = Form.CPU,
    on_layer: Callable[[str], None] = lambda _: None,
) -> tuple[LayerCost, ...]:
    """Quantise one layer at a time and score the file; the costliest comes first.

    Args:
        source: The float32 file that the ranges are of.
        ranges: Measured on `source`.
        score: Called with a file in the place of `source`.
        sizes: Of the named dimensions, to count operations with.
        form: Of the file that is scored.
        on_layer: Told each layer before it is scored.
    """
    before_db = score(source)
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for layer in list_layers(source, sizes or {}):
            on_layer(layer.name)
            target = Path(folder) / "one.onnx"
            write_int8(source, target, ranges, layers=(layer.name,), form=form)
            costs.append(LayerCost(layer.name, layer.weight, layer.share, before_db - score(target)))
    return tuple(sorted(costs, key=lambda cost: -cost.loss_db))


def choose_layers(
    source: Path,
    ranges: Ranges,
    score: Score,
    costs: Collection[LayerCost],
    *,
    gate_db: float = GATE_DB,
    form: Form = Form.CPU,
) -> Choice:
    """Quantise every layer that is worth it, and put the costliest back into float until the gate holds.

    Args:
        source: The float32 file.
        ranges: Measured on `source`.
        score: As for `measure_layers`; minus infinity for what is not finite.
        costs: What `measure_layers` found.
        gate_db: Most that may be lost.
        form: Of the file that is scored.

    Raises:
        Int8Error: The gate cannot be reached; the message names the layer that costs most.
    """
    before_db = score(source)
    ordered = sorted(costs, key=lambda cost: -cost.loss_db)
    worth = set(worth_quantising(Layer(c.layer, "", "", c.weight, 0, c.share) for c in ordered))
    left = [cost for cost in ordered if cost.layer in worth]
    tried: list[tuple[str, float]] = []
    dropped = ""
    with tempfile.TemporaryDirectory() as folder:
        while left:
            target = Path(folder) / "tried.onnx"
            names = [cost.layer for cost in left]
            write_int8(source, target, ranges, layers=names, form=form)
            after_db = score(target)
            tried.append((dropped, before_db - after_db))
            if before_db - after_db <= gate_db:
                in_float = tuple(cost.layer for cost in ordered if cost.layer not in names)
                return Choice(tuple(names), in_float, before_db, after_db, tuple(tried))
            dropped = left.pop(0).layer
    least = min((loss for _, loss in tried), default=float("nan"))
    raise Int8Error(
        f"{source.name} loses {least:.3f} dB at best in INT8, allowed {gate_db:g} dB; the layer that costs most is "
        f"{ordered[0].layer if ordered else 'none'}: leave int8 out, or calibrate with clips that are like its work"
    )


def list_layers(source: Path, sizes: Mapping[str, int]) -> tuple[Layer, ...]:
    """List the layers of a file, its named dimensions at these sizes."""
    if not sizes:
        return find_layers(onnx.load(source))
    with tempfile.TemporaryDirectory() as folder:
        fixed = Path(folder) / "fixed.onnx"
        fix_dimensions(source, fixed, sizes)
        return find_layers(onnx.load(fixed))


def cost_table(title: str, costs: Collection[LayerCost], choice: Choice) -> Table:
    """Show what each layer costs and where it computes."""
    table = Table(title=title)
    for heading in ("layer", "weights", "operations", "dB lost alone", "computes in"):
        table.add_column(heading, justify="right" if heading in ("operations", "dB lost alone") else "left")
    for cost in costs:
        kind = "int8" if cost.layer in choice.quantised else "float32"
        table.add_row(cost.layer, cost.weight, f"{100 * cost.share:.1f} %", f"{cost.loss_db:+.4f}", kind)
    table.caption = (
        f"{choice.before_db:.3f} dB in float32, {choice.after_db:.3f} dB in INT8: {choice.loss_db:.3f} dB lost"
    )
    return table


def write_report(path: Path, costs: Collection[LayerCost], choice: Choice) -> None:
    """Write both as JSON."""
    report = {"layers": [asdict(cost) for cost in costs], "choice": asdict(choice) | {"loss_db": choice.loss_db}}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
