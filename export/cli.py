"""`relume-build`: imports checkpoints, exports networks, builds engines. On a developer's machine, never on the box."""

import logging
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(name="relume-build", help="Make engines of networks.", no_args_is_help=True, add_completion=False)
importing = typer.Typer(help="Make a zoo entry out of your own copy of a checkpoint.", no_args_is_help=True)
app.add_typer(importing, name="import")

OWN_ZOO = Path("own-zoo")
Zoo = Annotated[Path, typer.Option(help="Your own folder of models; never the one that ships.")]
Name = Annotated[str | None, typer.Option(help="Folder of the entry; after the file without it.")]
Tile = Annotated[str, typer.Option(help="Width x height of a tile.")]
Overlap = Annotated[int | None, typer.Option(min=0, help="Frames that two windows share; a quarter without it.")]
Licence = Annotated[str | None, typer.Option(help="The checkpoint's licence, if you know it.")]


@importing.command("rvrt")
def import_rvrt_command(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A published RVRT .pth file.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    frames: Annotated[int, typer.Option(min=2, help="Frames of a window, even.")] = 4,
    overlap: Overlap = None,
    tile: Tile = "64x64",
    licence: Licence = None,
) -> None:
    """Import RVRT, with the residual block as the identity before its upsampler."""
    from export.imports import import_rvrt

    _tell(
        lambda: import_rvrt(
            checkpoint, zoo, name=name, frames=frames, overlap=overlap, tile=_size(tile), licence=licence
        ),
        zoo,
    )


@importing.command("spandrel")
def import_spandrel_command(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Any image network's checkpoint.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    tile: Tile = "64x64",
    licence: Licence = None,
) -> None:
    """Import an image network that spandrel recognises: ESRGAN, SwinIR, DAT, SPAN, Compact and others."""
    from export.imports import import_spandrel

    _tell(lambda: import_spandrel(checkpoint, zoo, name=name, tile=_size(tile), licence=licence), zoo)


@importing.command("chain")
def import_chain_command(
    network: Annotated[str, typer.Argument(help="basicvsr, realbasicvsr or a unet-...: see `networks`.")],
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Its checkpoint.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames that backward features are made of.")] = 12,
    overlap: Annotated[int, typer.Option(min=0, help="Frames of these that the next ones share.")] = 4,
    tile: Tile = "256x256",
    licence: Licence = None,
) -> None:
    """Import BasicVSR, RealBasicVSR or one of its U-Net forms in parts, for clips of any length."""
    from export.import_chain import import_chain

    _tell(
        lambda: import_chain(
            network, checkpoint, zoo, name=name, frames=frames, overlap=overlap, tile=_size(tile), licence=licence
        ),
        zoo,
    )


@importing.command("network")
def import_network_command(
    network: Annotated[str, typer.Argument(help="One that takes frames at once: see `networks`.")],
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Written by `python -m training`.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a window.")] = None,
    overlap: Overlap = None,
    tile: Tile = "64x64",
    licence: Licence = None,
) -> None:
    """Import a network that you trained, as one window."""
    from export.imports import import_network

    _tell(
        lambda: import_network(
            network, checkpoint, zoo, name=name, frames=frames, overlap=overlap, tile=_size(tile), licence=licence
        ),
        zoo,
    )


@app.command("networks")
def list_networks() -> None:
    """List every network that can be exported."""
    from models.registry import REGISTRY

    for entry in REGISTRY:
        typer.echo(f"{entry.name:<24} {entry.task:<24} {entry.paper}")


@app.command("export")
def export_command(
    model: Annotated[str, typer.Argument(help="A network's name: see `relume-build networks`.")],
    precision: Annotated[str, typer.Option(help="Some of fp32, fp16 and int8, with commas.")] = "fp32,fp16",
    tile: Tile = "64x64",
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a window.")] = None,
    steps: Annotated[bool, typer.Option(help="Step engines for long clips, where the network has them.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Published or own weights; random without.")
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Real video for the FP16 comparison.")
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Random tiles of that comparison, and as many real ones.")] = 100,
    engine: Annotated[list[str] | None, typer.Option(help="rtx:sm86, rtx:sm120, tensorrt; may be repeated.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("exported"),
) -> None:
    """Export a network to ONNX in FP32 and FP16, checked at each step, and build engines of it."""
    from export.run import ExportRequest, run_export

    try:
        request = ExportRequest(
            model=model,
            precisions=tuple(part.strip() for part in precision.split(",")),
            size=_size(tile),
            frames=frames,
            steps=steps,
            checkpoint=checkpoint,
            clip=clip,
            tiles=tiles,
            engines=tuple(engine or ()),
            output=output,
        )
        run_export(request)
    except (ValueError, KeyError, RuntimeError) as error:
        _fail(error)


@app.command("shipped")
def shipped_command(
    model: Annotated[str, typer.Argument(help="A model of the zoo that ships: light-x4, speech-mask, ...")],
    dimension: Annotated[list[str], typer.Option(help="A size for each named dimension: height=180, samples=1024.")],
    engine: Annotated[list[str] | None, typer.Option(help="rtx:sm86, rtx:sm120, tensorrt; may be repeated.")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Steps of a stream of noise that are compared.")] = 100,
    output: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("exported"),
) -> None:
    """Make FP16 and engines of a shipped model's step."""
    from export.run import run_shipped

    sizes = {name: size for name, _, size in (part.partition("=") for part in dimension)}
    if not all(size.isdigit() and int(size) for size in sizes.values()):
        raise typer.BadParameter(f"got --dimension {', '.join(dimension)}; expected name=size, such as height=180")
    try:
        numbers = {name: int(size) for name, size in sizes.items()}
        run_shipped(model, numbers, output=output, engines=tuple(engine or ()), tiles=tiles)
    except (ValueError, KeyError, RuntimeError) as error:
        _fail(error)


@app.command("half")
def half_command(
    model: Annotated[str, typer.Argument(help="A model of the zoo that ships, or with --zoo of your own.")],
    zoo: Annotated[Path | None, typer.Option(exists=True, help="Your own folder of models.")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Random tiles to compare on, and as many real ones.")] = 100,
    clip: Annotated[list[Path] | None, typer.Option(exists=True, help="Real video; may be repeated.")] = None,
    sound: Annotated[list[Path] | None, typer.Option(exists=True, help="Real speech; may be repeated.")] = None,
) -> None:
    """Put FP16 files of a model beside its float32 ones, each checked on every tile."""
    from export.half_files import add_half
    from runtime.errors import RelumeError
    from runtime.manifest import find_model

    try:
        made = add_half(find_model(model, zoo), tiles=tiles, clips=tuple(clip or ()), sounds=tuple(sound or ()))
    except (ValueError, RuntimeError, RelumeError) as error:
        _fail(error)
    for role, converted in made.items():
        typer.echo(
            f"{model} {role}: {converted.psnr_db:.1f} dB, worst of {converted.tiles}, {converted.islands} of "
            f"{converted.nodes} nodes in fp32, {converted.size_bytes / 1e6:.1f} MB"
        )


@app.command("prove")
def prove_command(
    networks: Annotated[list[str] | None, typer.Argument(help="Networks in this order; all of them without.")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Random tiles, and as many real ones.")] = 100,
    clip: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Real video; may be repeated.")
    ] = None,
    sound: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Real speech; may be repeated.")
    ] = None,
    engine: Annotated[list[str] | None, typer.Option(help="rtx:sm86, rtx:sm120, tensorrt; may be repeated.")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the proofs; what lies there is not proven again.")] = Path(
        "proofs"
    ),
) -> None:
    """Take every network and every shipped model through every gate: parity, FP16, engines."""
    from export.prove import ProofRequest, run_proofs

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    request = ProofRequest(
        output=output,
        names=tuple(networks or ()),
        tiles=tiles,
        clips=tuple(clip or ()),
        sounds=tuple(sound or ()),
        engines=tuple(engine or ()),
    )
    try:
        proofs = run_proofs(request)
    except (ValueError, KeyError) as error:
        _fail(error)
    if not all(proof.holds for proof in proofs):
        raise typer.Exit(1)


def _size(tile: str) -> tuple[int, int]:
    """Read width x height; give height, width."""
    width, _, height = tile.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise typer.BadParameter(f"got --tile {tile}; expected width x height, such as 64x64")
    return int(height), int(width)


def _tell(run: Any, zoo: Path) -> None:
    try:
        manifest, exported = run()
    except (ValueError, KeyError, RuntimeError) as error:
        _fail(error)
    parity = max(part.parity for part in exported)
    size_bytes, time_s = (sum(getattr(part, name) for part in exported) for name in ("size_bytes", "time_s"))
    typer.echo(
        f"{zoo / manifest.name}: {manifest.architecture}, {manifest.parameters:,} parameters, "
        f"parity {parity:.1e}, {size_bytes / 1e6:.1f} MB, {time_s:.0f} s"
    )
    typer.echo(f"licence: {manifest.licence}")


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"error: {error}", err=True)
    raise typer.Exit(1) from error


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
