"""`relume-build`: the commands of `export`, and `calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from export.cli import app
from runtime.errors import RelumeError


@app.command("calibrate")
def calibrate_command(
    model: Annotated[str, typer.Argument(help="A shipped model, or with --zoo one of your own.")],
    clips: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            help="Clips or a folder (for speech: with speech/ and noise/). Default: a generated sample.",
        ),
    ] = None,
    test_clip: Annotated[
        list[str] | None,
        typer.Option(help="Name of a clip to measure on (default: those held out by training). Repeatable."),
    ] = None,
    zoo: Annotated[Path | None, typer.Option(exists=True, help="Your own folder of models.")] = None,
    method: Annotated[str, typer.Option(help="Calibration method: minmax, percentile or entropy.")] = "minmax",
    frames: Annotated[int, typer.Option(min=1, help="Calibration frames per clip (for speech: blocks).")] = 4,
    side: Annotated[
        int | None, typer.Option(min=16, help="Short side of calibration clips (default: 180; 270 at scale 1).")
    ] = None,
    test_frames: Annotated[
        int, typer.Option(min=1, help="Measured frames per clip (for speech: mixtures per noise).")
    ] = 12,
    truth_side: Annotated[int, typer.Option(min=64, help="Short side of the ground truth.")] = 360,
    kind: Annotated[str, typer.Option(help="Degradation: bicubic, blurred, noisy or degraded.")] = "bicubic",
    noise_sigma: Annotated[float, typer.Option(min=0, help="Noise sigma (of 255), for noisy and degraded.")] = 8.0,
    crf: Annotated[int, typer.Option(min=0, max=51, help="H.264 CRF, for degraded.")] = 28,
    blur_sigma: Annotated[float, typer.Option(min=0, help="Blur sigma in pixels, for blurred.")] = 1.6,
    gate: Annotated[float, typer.Option(min=0, help="Largest allowed loss of PSNR-Y in dB.")] = 0.15,
    ship: Annotated[bool, typer.Option(help="Write files, ranges and figures into the zoo.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for the report, and without --ship for the files.")] = Path(
        "exported"
    ),
) -> None:
    """Quantise a model to INT8: measure activation ranges and each layer's cost, and choose the layers to quantise."""
    from calibration.calibrate import calibrate
    from calibration.material import CalibrationRequest
    from calibration.quality import TestDegradation
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
            degradation=TestDegradation(kind, noise_sigma, crf, blur_sigma),
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
