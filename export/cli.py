"""`relume-build`: import checkpoints, export networks, build engines; runs on a developer's machine."""

import logging
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

# The hidden names `half`, `shipped` and `prove` are those of releases up to 0.1.
app = typer.Typer(
    name="relume-build", help="Convert networks to ONNX files and engines.", no_args_is_help=True, add_completion=False
)
importing = typer.Typer(help="Import your own copy of a checkpoint into your own zoo.", no_args_is_help=True)
app.add_typer(importing, name="import")

OWN_ZOO = Path("own-zoo")
Zoo = Annotated[Path, typer.Option(help="Your own folder of models; the shipped zoo is refused.")]
Name = Annotated[str | None, typer.Option(help="Name of the entry (default: from the file name).")]
Tile = Annotated[str, typer.Option(help="Tile size, width x height.")]
Overlap = Annotated[int | None, typer.Option(min=0, help="Frames shared by consecutive windows (default: a quarter).")]
Licence = Annotated[str | None, typer.Option(help="Licence of the checkpoint, if known.")]


@importing.command("rvrt")
def import_rvrt_command(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A published RVRT .pth file.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    frames: Annotated[int, typer.Option(min=2, help="Frames per window, even.")] = 4,
    overlap: Overlap = None,
    tile: Tile = "64x64",
    licence: Licence = None,
) -> None:
    """Import RVRT, with an untrained residual block before its upsampler."""
    from export.importers.rvrt import import_rvrt

    _import(
        lambda: import_rvrt(
            checkpoint, zoo, name=name, frames=frames, overlap=overlap, tile=_size(tile), licence=licence
        ),
        zoo,
    )


@importing.command("spandrel")
def import_spandrel_command(
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint of an image network.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    tile: Tile = "64x64",
    licence: Licence = None,
) -> None:
    """Import any image network that spandrel supports: ESRGAN, SwinIR, DAT, SPAN, Compact and others."""
    from export.importers.spandrel import import_spandrel

    _import(lambda: import_spandrel(checkpoint, zoo, name=name, tile=_size(tile), licence=licence), zoo)


@importing.command("chain")
def import_chain_command(
    network: Annotated[str, typer.Argument(help="basicvsr, realbasicvsr or unet-*; see `networks`.")],
    checkpoint: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint of that network.")],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames per backward propagation.")] = 12,
    overlap: Annotated[int, typer.Option(min=0, help="Frames shared with the next propagation.")] = 4,
    tile: Tile = "256x256",
    licence: Licence = None,
) -> None:
    """Import BasicVSR, RealBasicVSR or a U-Net variant as separate engines, for clips of any length."""
    from export.importers.bidirectional import import_chain

    _import(
        lambda: import_chain(
            network, checkpoint, zoo, name=name, frames=frames, overlap=overlap, tile=_size(tile), licence=licence
        ),
        zoo,
    )


@importing.command("network")
def import_network_command(
    network: Annotated[str, typer.Argument(help="A network that takes a window of frames; see `networks`.")],
    checkpoint: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Checkpoint of `python -m training`.")
    ],
    zoo: Zoo = OWN_ZOO,
    name: Name = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames per window.")] = None,
    overlap: Overlap = None,
    tile: Tile = "64x64",
    licence: Licence = None,
) -> None:
    """Import a network that you trained yourself, as a single window engine."""
    from export.importers.network import import_network

    _import(
        lambda: import_network(
            network, checkpoint, zoo, name=name, frames=frames, overlap=overlap, tile=_size(tile), licence=licence
        ),
        zoo,
    )


@app.command("networks")
def list_networks() -> None:
    """List the networks that can be exported."""
    from models.registry import REGISTRY

    for entry in REGISTRY:
        typer.echo(f"{entry.name:<24} {entry.task:<24} {entry.paper}")


@app.command("export")
def export_command(
    model: Annotated[str, typer.Argument(help="Name of the network; see `relume-build networks`.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, separated by commas.")] = "fp32,fp16",
    tile: Tile = "64x64",
    frames: Annotated[int | None, typer.Option(min=1, help="Frames per window.")] = None,
    steps: Annotated[
        bool, typer.Option(help="Export step engines for clips of any length, if the network has them.")
    ] = False,
    checkpoint: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Published weights or your own (default: random).")
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Real video for the comparison with FP32.")
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Random tiles to compare, and the same number of real ones.")] = 100,
    engine: Annotated[list[str] | None, typer.Option(help="rtx:sm86, rtx:sm120, tensorrt. Repeatable.")] = None,
    output: Annotated[Path, typer.Option(help="Output folder.")] = Path("exported"),
) -> None:
    """Export a network to ONNX, convert it to other precisions, check each file, and build engines."""
    from export.conversion import ExportRequest, run_export

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


@app.command("build-zoo")
@app.command("shipped", hidden=True)
def build_zoo_command(
    model: Annotated[str, typer.Argument(help="A shipped model: light-x4, speech-mask, ...")],
    dimension: Annotated[list[str], typer.Option(help="Size of each named dimension: height=180, samples=1024.")],
    engine: Annotated[list[str] | None, typer.Option(help="rtx:sm86, rtx:sm120, tensorrt. Repeatable.")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Number of compared steps, on noise.")] = 100,
    output: Annotated[Path, typer.Option(help="Output folder.")] = Path("exported"),
) -> None:
    """Convert a shipped model at fixed sizes to FP16 and INT8, and build engines."""
    from export.conversion import run_shipped

    sizes = {name: size for name, _, size in (part.partition("=") for part in dimension)}
    if not all(size.isdigit() and int(size) for size in sizes.values()):
        raise typer.BadParameter(f"got --dimension {', '.join(dimension)}; expected name=size, such as height=180")
    try:
        numbers = {name: int(size) for name, size in sizes.items()}
        run_shipped(model, numbers, output=output, engines=tuple(engine or ()), tiles=tiles)
    except (ValueError, KeyError, RuntimeError) as error:
        _fail(error)


@app.command("convert-fp16")
@app.command("half", hidden=True)
def convert_fp16_command(
    model: Annotated[str, typer.Argument(help="A shipped model, or with --zoo one of your own.")],
    zoo: Annotated[Path | None, typer.Option(exists=True, help="Your own folder of models.")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Random tiles to compare, and the same number of real ones.")] = 100,
    clip: Annotated[list[Path] | None, typer.Option(exists=True, help="Real video. Repeatable.")] = None,
    sound: Annotated[list[Path] | None, typer.Option(exists=True, help="Real speech. Repeatable.")] = None,
) -> None:
    """Add FP16 files to a model, each compared with FP32 on every tile."""
    from export.fp16.convert import add_fp16
    from runtime.errors import RelumeError
    from runtime.manifest import find_model

    try:
        made = add_fp16(find_model(model, zoo), tiles=tiles, clips=tuple(clip or ()), audios=tuple(sound or ()))
    except (ValueError, RuntimeError, RelumeError) as error:
        _fail(error)
    for role, converted in made.items():
        typer.echo(
            f"{model} {role}: {converted.psnr_db:.1f} dB, worst of {converted.tiles}, {converted.fp32_nodes} of "
            f"{converted.nodes} nodes in fp32, {converted.size_bytes / 1e6:.1f} MB"
        )


@app.command("validate")
@app.command("prove", hidden=True)
def validate_command(
    networks: Annotated[list[str] | None, typer.Argument(help="Networks, in this order (default: all).")] = None,
    tiles: Annotated[int, typer.Option(min=1, help="Random tiles, and the same number of real ones.")] = 100,
    clip: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Real video. Repeatable.")
    ] = None,
    sound: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Real speech. Repeatable.")
    ] = None,
    engine: Annotated[list[str] | None, typer.Option(help="rtx:sm86, rtx:sm120, tensorrt. Repeatable.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for the results; networks with results are skipped.")] = Path(
        "validation"
    ),
) -> None:
    """Validate every network and every shipped model: parity with PyTorch, FP16 against FP32, engine builds."""
    from export.validate.run import ValidationRequest, run_validation

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    request = ValidationRequest(
        output=output,
        names=tuple(networks or ()),
        tiles=tiles,
        clips=tuple(clip or ()),
        audios=tuple(sound or ()),
        engines=tuple(engine or ()),
    )
    try:
        results = run_validation(request)
    except (ValueError, KeyError) as error:
        _fail(error)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


def _size(tile: str) -> tuple[int, int]:
    """Parse width x height; return height, width."""
    width, _, height = tile.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise typer.BadParameter(f"got --tile {tile}; expected width x height, such as 64x64")
    return int(height), int(width)


def _import(run: Any, zoo: Path) -> None:
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
