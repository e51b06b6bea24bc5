"""The `relume` command; what each part of it does lives elsewhere, imported when it is used."""

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.accounts import cli as accounts
from appliance.box import cli as box
from appliance.engines import cli as engines
from appliance.exits import (
    ExitCode,
    cancel_on_signal,
    exit_on_defect,
    exit_on_error,
    exit_on_interrupt,
)
from appliance.jobs import cli as jobs
from appliance.watch import cli as watch
from appliance.web import cli as web
from runtime.errors import RelumeError
from runtime.options import (
    DEFAULT_PRESET,
    AudioMode,
    Codec,
    EnhanceOptions,
    parse_scale,
    parse_time,
)

app = typer.Typer(
    name="relume",
    help="Make poor video and speech better, on this machine alone.",
    epilog=(
        "Exit codes: 0 done, 1 unexpected, 2 wrong option, 3 source not usable, "
        "4 result cannot be written, 5 model or backend, 6 data directory, 130 cancelled."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]


def main() -> None:
    """Run the command: the entry point."""
    signal.signal(signal.SIGINT, exit_on_interrupt)
    try:
        app(prog_name="relume")
    except RelumeError as error:
        if logging.root.isEnabledFor(logging.DEBUG):
            raise
        exit_on_error(error)
    except Exception as error:
        if logging.root.isEnabledFor(logging.DEBUG):
            raise
        exit_on_defect(error)


def _show_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def common(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and log messages.")] = False,
    shows_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end."),
    ] = False,
) -> None:
    """Take the options that every command has."""
    del shows_version
    if debug:
        logging.basicConfig(level=logging.DEBUG)


@app.command()
def enhance(
    source: Annotated[Path, typer.Argument(metavar="IN", readable=False, help="The video or sound file.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="OUT", readable=False, help="The result; beside the source if left out."
        ),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="One of `relume presets`.")] = DEFAULT_PRESET,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="auto|1|2|4",
            help="How much larger; auto makes at most 2160 lines.",
        ),
    ] = None,
    audio: Annotated[AudioMode | None, typer.Option(help="Clean speech, or copy the sound bit for bit.")] = None,
    strength: Annotated[float | None, typer.Option(metavar="0..1", help="How strong the effect is.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Enhance the picture with this model, not the preset's.")
    ] = None,
    zoo: Annotated[
        Path | None, typer.Option(metavar="FOLDER", readable=False, help="Your own folder of models, with --model.")
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="auto|cpu|...", help="What runs the models; see `relume doctor`.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|fp32|fp16|int8", help="How the picture's model counts; auto is the fastest.")
    ] = "auto",
    codec: Annotated[Codec | None, typer.Option(help="How the picture is encoded.")] = None,
    crf: Annotated[
        int | None, typer.Option(metavar="N", help="Constant rate factor; less is better and larger.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="T", help="Begin at T: seconds, mm:ss or hh:mm:ss.fff."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="T", help="End at T, which is left out."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", readable=False, help="Write the report there.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE.png", readable=False, help="Write a before/after picture there.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", "--conceal", help="Enhance a damaged file as far as it can be read.")
    ] = False,
    keep_unverified: Annotated[
        bool, typer.Option("--keep-unverified", help="Take a result although the check of the finished file failed.")
    ] = False,
    workspace: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            readable=False,
            help="Keep what is done there: after a crash or Ctrl-C the same command goes on where it was.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Enhance picture and sound of one file.

    What an option leaves open, the preset decides. Ctrl-C stops and leaves no half file.
    """
    options = EnhanceOptions(
        preset=preset,
        scale=None if scale is None else parse_scale(scale),
        audio=audio,
        strength=strength,
        backend=backend,
        precision=precision,
        codec=codec,
        crf=crf,
        start=None if start is None else parse_time(start),
        end=None if end is None else parse_time(end),
        overwrite=overwrite,
        allow_damaged=allow_damaged,
        keep_unverified=keep_unverified,
        compare=compare,
        model=model,
        zoo=zoo,
    )
    from appliance.enhance import run_job
    from appliance.settings import engines_folder, find_data_directory

    with cancel_on_signal() as cancel:
        text = run_job(
            source,
            output,
            options,
            report_path=report,
            workspace=workspace,
            engines=engines_folder(find_data_directory()),
            as_json=json,
            cancel=cancel,
        )
    print(text)


@app.command()
def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="The file to look at.")],
    *,
    json: Json = False,
) -> None:
    """Show what is in a media file."""
    from appliance.probe import show_probe

    print(show_probe(file, as_json=json))


@app.command()
def presets(*, json: Json = False) -> None:
    """List the presets and what each does."""
    from appliance.screens import show_presets

    print(show_presets(as_json=json))


@app.command()
def doctor(
    *,
    json: Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the trial runs.")] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", readable=False, help="The data directory that keeps the speeds.")
    ] = None,
    zoo: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", exists=True, file_okay=False, help="Your own models, too."),
    ] = None,
) -> None:
    """Show what this machine has, what is used, and why; measure how fast each model runs on it.

    Jobs choose by these speeds. Ends with exit code 5 if something is wrong.
    """
    from appliance.screens import show_diagnosis
    from appliance.settings import engines_folder, find_data_directory
    from runtime.doctor import diagnose

    diagnosis = diagnose(trials=not quick, engines=engines_folder(find_data_directory(data)), own=zoo)
    print(show_diagnosis(diagnosis, as_json=json))
    if diagnosis.problems:
        sys.exit(ExitCode.ENGINE)


@app.command()
def version() -> None:
    """Show the version."""
    from runtime.version import relume_version

    print(f"relume {relume_version()}")


app.command()(web.serve)
app.command()(watch.watch)
app.add_typer(jobs.app, name="jobs")
app.add_typer(watch.folders, name="folders")
app.add_typer(accounts.app, name="users")
app.add_typer(engines.app, name="engines")
app.command()(box.backup)
app.command()(box.restore)
