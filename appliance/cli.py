"""The `relume` command; the implementation of each subcommand is imported when it is used."""

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.accounts import cli as accounts
from appliance.console import PlainCommand, examples
from appliance.engines import cli as engines
from appliance.exit_codes import (
    ExitCode,
    cancel_on_signal,
    exit_on_defect,
    exit_on_error,
    exit_on_interrupt,
)
from appliance.jobs import cli as jobs
from appliance.maintenance import cli as maintenance
from appliance.watch import cli as watch
from appliance.web import cli as web
from runtime.errors import RelumeError
from runtime.options import (
    DEFAULT_PRESET,
    AudioMode,
    Codec,
    EnhanceOptions,
    LoudnessStandard,
    parse_scale,
    parse_time,
)

app = typer.Typer(
    name="relume",
    help="Enhance video and speech locally.",
    epilog=(
        "Exit codes: 0 success, 1 unexpected error, 2 invalid option, 3 unusable source, 4 result cannot be written, "
        "5 model or backend, 6 data directory, 7 verification failed, 130 cancelled."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command; the entry point."""
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
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Handle the options that precede the subcommand."""
    del shows_version
    if debug:
        logging.basicConfig(level=logging.DEBUG)


@app.command(
    cls=PlainCommand,
    **examples(
        "relume enhance holiday.mp4",
        "relume enhance *.mp4 -o enhanced/",
        "relume enhance camera.mkv --preset surveillance --start 1:30 --end 2:00",
        "relume enhance talk.wav --preset sound-only -o talk.clean.wav",
        "relume enhance film.mov --scale 2 --codec hevc --compare film.png",
    ),
)
def enhance(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", readable=False, help="Video or audio files, or patterns such as *.mp4."),
    ],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            readable=False,
            help="Result file, or a folder for several files. Default: next to the source.",
        ),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="Preset; see `relume presets`.")] = DEFAULT_PRESET,
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="auto|1|2|4",
            help="Upscaling factor. auto: as far as 2160 lines allow.",
        ),
    ] = None,
    audio: Annotated[
        AudioMode | None,
        typer.Option(
            metavar="speech|full|repair|off",
            help="speech: reduce noise. repair: remove hum, clicks and clipping. full: both, and even out speakers. "
            "off: keep the audio unchanged.",
        ),
    ] = None,
    loudness: Annotated[
        LoudnessStandard | None,
        typer.Option(metavar="ebu|atsc|podcast|off", help="Loudness: -23 LUFS, -24 LUFS (ATSC) or -16 LUFS."),
    ] = None,
    strength: Annotated[float | None, typer.Option(metavar="0..1", help="Strength of the effect; 1 is full.")] = None,
    grain: Annotated[
        float | None, typer.Option(metavar="0..1", help="Share of the removed noise to add again as film grain.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Video model instead of the preset's.")] = None,
    zoo: Annotated[
        Path | None, typer.Option(metavar="FOLDER", readable=False, help="Folder of your own models, for --model.")
    ] = None,
    backend: Annotated[
        str, typer.Option(metavar="auto|cpu|...", help="Inference backend; see `relume doctor`.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="auto|fp32|fp16|int8", help="Precision of the video model; auto: fastest with full quality."
        ),
    ] = "auto",
    codec: Annotated[
        Codec | None, typer.Option(metavar="h264|hevc|av1|prores|ffv1", help="Video codec of the result.")
    ] = None,
    crf: Annotated[
        int | None, typer.Option(metavar="N", help="Quality (CRF); lower is better quality and a larger file.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="T", help="Start at time T: seconds, mm:ss or hh:mm:ss.fff."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="T", help="Stop at time T (exclusive)."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", readable=False, help="Write a JSON report.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="FILE.png", readable=False, help="Write a before/after image (video only).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", help="Enhance a damaged file as far as it can be read.")
    ] = False,
    conceal: Annotated[bool, typer.Option("--conceal", hidden=True)] = False,
    keep_unverified: Annotated[
        bool, typer.Option("--keep-unverified", help="Keep the result even if its verification fails.")
    ] = False,
    workspace: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            readable=False,
            help="Folder for progress: after an interruption the same command resumes.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Enhance video and audio files.

    Options override the preset. Ctrl-C stops without leaving partial files.
    """
    options = EnhanceOptions(
        preset=preset,
        scale=None if scale is None else parse_scale(scale),
        audio=audio,
        loudness=loudness,
        strength=strength,
        grain=grain,
        backend=backend,
        precision=precision,
        codec=codec,
        crf=crf,
        start=None if start is None else parse_time(start),
        end=None if end is None else parse_time(end),
        overwrite=overwrite,
        allow_damaged=allow_damaged or conceal,
        keep_unverified=keep_unverified,
        compare=compare,
        model=model,
        zoo=zoo,
    )
    from appliance.enhance_command import run_jobs
    from appliance.settings import engines_folder, find_data_directory

    with cancel_on_signal() as cancel:
        run_jobs(
            sources,
            output,
            options,
            report_path=report,
            workspace=workspace,
            engines=engines_folder(find_data_directory()),
            as_json=json,
            cancel=cancel,
            say=print,
        )


@app.command(cls=PlainCommand)
def probe(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="Media file.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Decode the whole file and list all damage.")] = False,
    advise: Annotated[
        bool, typer.Option("--advise", help="Measure samples of video and audio and suggest a preset.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the streams and any damage of a media file.

    Without --check, only the end of the file is checked. With --check, exit code 3 means that the file is damaged.
    """
    from appliance.probe import examine, show_examination

    found = examine(file, decodes=check, advises=advise)
    print(show_examination(found, as_json=json))
    if check and found.is_damaged:
        sys.exit(ExitCode.SOURCE)


@app.command(cls=PlainCommand)
def presets(*, json: Json = False) -> None:
    """List presets."""
    from appliance.console import show_presets

    print(show_presets(as_json=json))


@app.command(cls=PlainCommand)
def doctor(
    *,
    json: Json = False,
    quick: Annotated[bool, typer.Option("--quick", help="Skip the benchmarks.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", readable=False, help="Data directory that stores the benchmarks."),
    ] = None,
    zoo: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", exists=True, file_okay=False, help="Also check this folder of your own models."),
    ] = None,
) -> None:
    """Check this machine and benchmark the models.

    Jobs then use the fastest backend. Exit code 5 means that a problem was found.
    """
    from appliance.console import show_diagnosis
    from appliance.settings import engines_folder, find_data_directory
    from runtime.doctor import diagnose

    diagnosis = diagnose(trials=not quick, engines=engines_folder(find_data_directory(data)), own=zoo)
    print(show_diagnosis(diagnosis, as_json=json))
    if diagnosis.problems:
        sys.exit(ExitCode.ENGINE)


@app.command(cls=PlainCommand)
def version() -> None:
    """Show the version."""
    from runtime.version import relume_version

    print(f"relume {relume_version()}")


app.command(cls=PlainCommand)(web.serve)
app.command(cls=PlainCommand)(watch.watch)
app.add_typer(jobs.app, name="jobs")
app.add_typer(watch.folders, name="folders")
app.add_typer(accounts.app, name="users")
app.add_typer(engines.app, name="engines")
app.command(cls=PlainCommand)(maintenance.backup)
app.command(cls=PlainCommand)(maintenance.restore)


if __name__ == "__main__":
    main()
