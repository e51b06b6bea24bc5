"""`relume engines`: what was built for this box, from its command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.command import PlainCommand
from appliance.exits import ExitCode, cancel_on_signal

if TYPE_CHECKING:
    from runtime.engine.flavour import Flavour
    from runtime.engine.store.request import EngineRequest
    from runtime.engine.store.store import EngineStore

app = typer.Typer(help="Manage optimized engines.", no_args_is_help=True, rich_markup_mode=None)

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory; ~/.local/share/relume by default."),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


@app.command("list", cls=PlainCommand)
def list_all(*, data: Data = None, json: Json = False) -> None:
    """List engines: those that are ready, wanted, being built or in quarantine."""
    from appliance.engines.screens import show_engines
    from runtime.engine.store.listing import list_engines

    print(show_engines(list_engines(_store(data)), as_json=json))


@app.command(cls=PlainCommand)
def build(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="A model of `relume doctor`.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Of every preset's models, at the usual sizes.")] = False,
    tile: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Width x height on the network's grid; the usual ones if left out."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|fp16|int8", help="Each that the model offers, if left out.")
    ] = None,
    flavour: Annotated[
        str | None, typer.Option(metavar="rtx|tensorrt|openvino", help="What suits this box, if left out.")
    ] = None,
    capability: Annotated[
        str | None, typer.Option("--for", metavar="sm89", help="For another device; it cannot be proven here.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also where there is one, or where it failed before.")] = False,
    zoo: Annotated[
        Path | None, typer.Option(metavar="FOLDER", readable=False, help="Your own folder of models.")
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Build engines now, each in a process of low priority; Ctrl-C stops and leaves no half engine.

    An engine is used once it has passed the golden test. Ends with exit code 5 if one has not.
    """
    from appliance.engines.building import build_all
    from appliance.engines.screens import show_built
    from runtime.engine.flavour import Flavour
    from runtime.engine.store.usual import usual_flavour
    from runtime.errors import OptionError

    if (model is None) is not everything:
        raise OptionError("give a model's name, or --all for every preset's models; not both")
    if flavour is not None and flavour not in set(Flavour):
        raise OptionError(f"there is no flavour {flavour!r}; there are: {', '.join(Flavour)}")
    chosen = usual_flavour() if flavour is None else Flavour(flavour)
    requests = _requests(model, chosen, precision=precision, tile=tile, zoo=zoo)
    with cancel_on_signal() as cancel:
        results = build_all(_store(data), requests, stop=cancel.is_set, again=again, capability=capability)
    print(show_built(results, as_json=json))
    if any(result.reason for result in results if capability is None):
        sys.exit(ExitCode.ENGINE)


@app.command(cls=PlainCommand)
def verify(
    engine: Annotated[
        str | None, typer.Argument(metavar="ENGINE", help="Its name or the beginning of it; all if left out.")
    ] = None,
    *,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check that engines are as they were built, and run the golden test again.

    What fails goes into quarantine and is used no more. Ends with exit code 5 then.
    """
    from appliance.engines.building import verify_all
    from appliance.engines.screens import show_verified

    with cancel_on_signal() as cancel:
        found = verify_all(_store(data), engine, stop=cancel.is_set)
    print(show_verified(found, as_json=json))
    if any(one.fault for one in found):
        sys.exit(ExitCode.ENGINE)


@app.command(cls=PlainCommand)
def prune(
    *,
    budget_gib: Annotated[
        float | None,
        typer.Option("--budget", metavar="GIB", min=0, help="What engines may take; the setting if left out."),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Clear away what nobody needs, then the engines whose use is longest ago, down to a budget.

    Engines that are in use stay.
    """
    from appliance.engines.screens import show_pruned
    from appliance.settings import load_settings
    from runtime.engine.store.pruning import prune as run

    budget_bytes = load_settings(data).engines_bytes if budget_gib is None else int(budget_gib * 1024**3)
    print(show_pruned(run(_store(data), budget_bytes), as_json=json))


def _store(data: Path | None) -> "EngineStore":
    from appliance.settings import load_settings
    from runtime.engine.store.store import EngineStore

    return EngineStore(load_settings(data).engines)


def _requests(
    model: str | None, flavour: "Flavour", *, precision: str | None, tile: str | None, zoo: Path | None
) -> "list[EngineRequest]":
    from runtime.engine.store.usual import preset_models, requests_for
    from runtime.manifest import find_model

    models = preset_models() if model is None else [find_model(model, zoo)]
    shape = None if tile is None else _shape(tile)
    return [request for one in models for request in requests_for(one, flavour, precision=precision, tile=shape)]


def _shape(text: str) -> tuple[int, int]:
    from runtime.errors import OptionError

    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise OptionError(f"got --tile {text}; expected width x height, such as 320x180")
    return int(height), int(width)
