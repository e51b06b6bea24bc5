"""`relume engines`: list, build, verify and remove engines on the command line."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.console import PlainCommand, format_bytes, format_json, format_table
from appliance.exit_codes import ExitCode, cancel_on_signal
from runtime.errors import CancelledError, EngineStoreError

if TYPE_CHECKING:
    from runtime.engine.device import EngineType
    from runtime.engine.store.builder import BuildResult
    from runtime.engine.store.inventory import ListedEngine
    from runtime.engine.store.key import EngineRequest
    from runtime.engine.store.layout import GoldenTestResult
    from runtime.engine.store.pruning import Pruned
    from runtime.engine.store.store import EngineStore
    from runtime.golden_test import VerifiedEngine


def show_engines(engines: "Sequence[ListedEngine]", *, as_json: bool) -> str:
    """Return a table of engines, or JSON."""
    if as_json:
        return format_json([engine_to_plain(engine) for engine in engines])
    if not engines:
        return "no engines; all models run with ONNX Runtime"
    heading = ("engine", "state", "size", "last used", "golden test", "reason")
    return format_table([heading, *(_row(engine) for engine in engines)])


def show_built(results: "Sequence[BuildResult]", *, as_json: bool) -> str:
    """Return a table of build results, or JSON."""
    if as_json:
        return format_json([asdict(result) for result in results])
    return format_table([(result.name, str(result.outcome), result.reason) for result in results])


def show_verified(found: "Sequence[VerifiedEngine]", *, as_json: bool) -> str:
    """Return a table of verified engines, or JSON."""
    if as_json:
        return format_json(
            [{"name": one.name, "proof": _proof_to_plain(one.golden_test), "fault": one.defect} for one in found]
        )
    if not found:
        return "no engines"
    return format_table(
        [(one.name, "failed" if one.defect else "passed", one.defect or _proof(one.golden_test)) for one in found]
    )


def show_pruned(pruned: "Pruned", *, as_json: bool) -> str:
    """Return the removed engines as text or JSON."""
    if as_json:
        return format_json(asdict(pruned))
    lines = [f"removed {name}" for name in pruned.removed]
    lines += [f"kept {name}: in use" for name in pruned.kept_in_use]
    lines.append(f"{format_bytes(pruned.removed_bytes)} freed, {format_bytes(pruned.left_bytes)} left")
    return "\n".join(lines)


def engine_to_plain(engine: "ListedEngine") -> dict[str, object]:
    """Return an engine as data for JSON."""
    plain = {name: getattr(engine, name) for name in engine.__slots__ if name != "proof"}
    return {**plain, "proof": _proof_to_plain(engine.proof)}


def _row(engine: "ListedEngine") -> tuple[str, ...]:
    used = "" if engine.last_used is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(engine.last_used))
    size = format_bytes(engine.size_bytes) if engine.size_bytes else ""
    return engine.name, str(engine.state), size, used, _proof(engine.proof), engine.reason


def _proof(proof: "GoldenTestResult | None") -> str:
    if proof is None:
        return ""
    loss = "" if proof.quality_loss_db is None else f", {max(0.0, proof.quality_loss_db):.3f} dB lost"
    return f"{proof.agreement_db:.0f} dB{loss}"


def _proof_to_plain(proof: "GoldenTestResult | None") -> dict[str, object] | None:
    return None if proof is None else proof.model_dump()


def build_all(
    store: "EngineStore",
    requests: "Sequence[EngineRequest]",
    *,
    stop: Callable[[], bool],
    again: bool,
    capability: str | None,
) -> "list[BuildResult]":
    """Build engines; after a stop, those already built are kept.

    Raises:
        CancelledError: It was stopped.
        EngineStoreError: The store cannot be used, or a build process was killed.
    """
    from runtime.engine.store.builder import build_in_subprocess
    from runtime.engine.store.key import describe_dimensions

    results = []
    for number, request in enumerate(requests, 1):
        words = f"{number}/{len(requests)} {request.model} {request.precision}"
        words += f" {describe_dimensions(request.dimensions)} {request.engine_type}"

        def print_stage(stage: str, words: str = words) -> None:
            print(f"{words}: {stage}", file=sys.stderr, flush=True)

        results.append(
            build_in_subprocess(store, request, stop=stop, again=again, capability=capability, on_stage=print_stage)
        )
    return results


def verify_all(store: "EngineStore", beginning: str | None, *, stop: Callable[[], bool]) -> "list[VerifiedEngine]":
    """Verify all ready engines, or the one whose name starts with `beginning`.

    Raises:
        CancelledError: It was stopped.
        EngineStoreError: There is no such engine.
    """
    from runtime.engine.store.layout import list_names
    from runtime.golden_test import VerifiedEngine, verify_engine

    names = list_names(store.layout.ready) if beginning is None else [beginning]
    found = []
    for name in names:
        if stop():
            raise CancelledError("stopped; the engines verified so far have passed")
        print(f"{name}: verifying", file=sys.stderr, flush=True)
        try:
            found.append(verify_engine(store, name, threads=len(os.sched_getaffinity(0))))
        except EngineStoreError as error:
            if beginning is not None:
                raise
            found.append(VerifiedEngine(name, None, str(error)))
    return found


app = typer.Typer(help="Manage optimised engines.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list", cls=PlainCommand)
def list_all(*, data: Data = None, json: Json = False) -> None:
    """List engines: ready, requested, in progress or quarantined."""
    from runtime.engine.store.inventory import list_engines

    print(show_engines(list_engines(_store(data)), as_json=json))


@app.command(cls=PlainCommand)
def build(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Name of a model; see `relume doctor`.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Build for the models of all presets.")] = False,
    tile: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Tile size on the grid of the network; default: the common sizes."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|fp16|int8", help="Precision; default: all that the model offers.")
    ] = None,
    flavour: Annotated[
        str | None,
        typer.Option(metavar="rtx|tensorrt|openvino", help="Engine type; default: the one for this machine."),
    ] = None,
    capability: Annotated[
        str | None, typer.Option("--for", metavar="sm89", help="Build for another device; not tested on this machine.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Rebuild existing engines and retry failed ones.")] = False,
    zoo: Annotated[
        Path | None, typer.Option(metavar="FOLDER", readable=False, help="Folder of your own models.")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Build engines now, with low priority.

    Ctrl-C stops without leaving partial engines. An engine is used once it has passed the golden test; exit code 5
    means that one has not.
    """
    from runtime.common_shapes import default_engine_type
    from runtime.engine.device import EngineType
    from runtime.errors import OptionError

    if (model is None) is not everything:
        raise OptionError("name a model, or use --all for the models of all presets, but not both")
    if flavour is not None and flavour not in set(EngineType):
        raise OptionError(f"unknown flavour {flavour!r}; choose from {', '.join(EngineType)}")
    chosen = default_engine_type() if flavour is None else EngineType(flavour)
    requests = _requests(model, chosen, precision=precision, tile=tile, zoo=zoo)
    with cancel_on_signal() as cancel:
        results = build_all(_store(data), requests, stop=cancel.is_set, again=again, capability=capability)
    print(show_built(results, as_json=json))
    if any(result.reason for result in results if capability is None):
        sys.exit(ExitCode.ENGINE)


@app.command(cls=PlainCommand)
def verify(
    engine: Annotated[
        str | None, typer.Argument(metavar="ENGINE", help="Name of an engine or its first characters; default: all.")
    ] = None,
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check engine files and repeat the golden test.

    Engines that fail are quarantined and no longer used; exit code 5 means that one has failed.
    """
    with cancel_on_signal() as cancel:
        found = verify_all(_store(data), engine, stop=cancel.is_set)
    print(show_verified(found, as_json=json))
    if any(one.defect for one in found):
        sys.exit(ExitCode.ENGINE)


@app.command(cls=PlainCommand)
def prune(
    *,
    budget_gib: Annotated[
        float | None,
        typer.Option("--budget", metavar="GIB", min=0, help="Disk space for engines; default: as in the settings."),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Remove unused engines.

    Then the least recently used ones are removed, down to a budget. Engines in use are kept.
    """
    from appliance.settings_file import load_settings
    from runtime.engine.store.pruning import prune as run

    budget_bytes = load_settings(data).engines_bytes if budget_gib is None else int(budget_gib * 1024**3)
    print(show_pruned(run(_store(data), budget_bytes), as_json=json))


def _store(data: Path | None) -> "EngineStore":
    from appliance.settings_file import load_settings
    from runtime.engine.store.store import EngineStore

    return EngineStore(load_settings(data).engines)


def _requests(
    model: str | None, flavour: "EngineType", *, precision: str | None, tile: str | None, zoo: Path | None
) -> "list[EngineRequest]":
    from runtime.common_shapes import preset_models, requests_for
    from runtime.manifest import find_model

    models = preset_models() if model is None else [find_model(model, zoo)]
    shape = None if tile is None else _shape(tile)
    return [request for one in models for request in requests_for(one, flavour, precision=precision, tile=shape)]


def _shape(text: str) -> tuple[int, int]:
    from runtime.errors import OptionError

    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise OptionError(f"--tile is {text}, expected width x height such as 320x180")
    return int(height), int(width)
