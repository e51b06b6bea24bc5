"""`relume-build` with all its commands: those of `export`, and `calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from export.cli import app
from runtime.errors import RelumeError


@app.command("calibrate")
def calibrate_command(
    model: Annotated[str, typer.Argument(help="A model of the zoo that ships, or with --zoo of your own.")],
    clips: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True, help="Clips, or a folder of them (with speech/ and noise/ for speech); a sample without."
        ),
    ] = None,
    test_clip: Annotated[
        list[str] | None,
        typer.Option(help="Name of one of these to measure on; those that training held out without. Repeatable."),
    ] = None,
    zoo: Annotated[Path | None, typer.Option(exists=True, help="Your own folder of models.")] = None,
    method: Annotated[str, typer.Option(help="minmax, percentile or entropy.")] = "minmax",
    frames: Annotated[int, typer.Option(min=1, help="Frames (for speech blocks) of each clip to calibrate with.")] = 4,
    side: Annotated[
        int | None, typer.Option(min=16, help="Short side of such a clip; 180, or 270 for a model of scale 1.")
    ] = None,
    test_frames: Annotated[
        int, typer.Option(min=1, help="Frames of each clip to measure on; for speech mixtures of each noise.")
    ] = 12,
    truth_side: Annotated[int, typer.Option(min=64, help="Short side of a measured clip's truth.")] = 360,
    kind: Annotated[str, typer.Option(help="What the network gets: bicubic, blurred, noisy or degraded.")] = "bicubic",
    noise_sigma: Annotated[float, typer.Option(min=0, help="Of 255; for noisy and degraded.")] = 8.0,
    crf: Annotated[int, typer.Option(min=0, max=51, help="Of H.264; for degraded.")] = 28,
    blur_sigma: Annotated[float, typer.Option(min=0, help="In pixels; for blurred.")] = 1.6,
    gate: Annotated[float, typer.Option(min=0, help="Most dB of PSNR-Y that INT8 may lose.")] = 0.15,
    ship: Annotated[bool, typer.Option(help="Put the files into the zoo, with their ranges and figures.")] = False,
    output: Annotated[Path, typer.Option(help="Folder of the report, and of the files without --ship.")] = Path(
        "exported"
    ),
) -> None:
    """Make a model's INT8 files: activation ranges, each layer's cost in dB, the layers that stay in float."""
    from calibration.calibrate import calibrate
    from calibration.material import CalibrationRequest
    from calibration.quality import Spoiling
    from export.int8.ranges import Method

    try:
        request = CalibrationRequest(
            model=model,
            clips=tuple(clips or ()),
            test_clips=tuple(test_clip or ()),
            method=Method(method),
            frames=frames,
            side=side,
            test_frames=test_frames,
            truth_side=truth_side,
            spoiling=Spoiling(kind, noise_sigma, crf, blur_sigma),
            gate_db=gate,
            ship=ship,
            output=output,
        )
        made = calibrate(request, zoo=zoo)
    except (ValueError, RuntimeError, RelumeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for role, path in made.paths.items():
        count = len(made.choice.quantised.get(role, ()))
        typer.echo(f"{path}: {count} layers in int8, ranges {made.ranges[role].digest[:12]}")


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
