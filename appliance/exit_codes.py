"""How the `relume` command ends: exit codes, one-line errors, and Ctrl-C."""

import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import NoReturn

from appliance.errors import AccountError, SettingsError
from appliance.jobs.errors import JobError
from appliance.signals import SignalEvent
from appliance.store.errors import StoreError
from appliance.validation_messages import clean_message
from runtime.errors import (
    CancelledError,
    DecodeError,
    EncodeError,
    EngineError,
    MediaError,
    OptionError,
    OutputError,
    RelumeError,
    UnsupportedMediaError,
)
from runtime.report import VerificationError


class ExitCode(IntEnum):
    """The exit codes of `relume`."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    SOURCE = 3
    OUTPUT = 4
    ENGINE = 5
    DATA = 6
    UNVERIFIED = 7
    CANCELLED = 130


# The first matching class applies, so subclasses come before their base classes.
_CODES: tuple[tuple[type[RelumeError], ExitCode], ...] = (
    (CancelledError, ExitCode.CANCELLED),
    (VerificationError, ExitCode.UNVERIFIED),
    (OptionError, ExitCode.USAGE),
    (OutputError, ExitCode.OUTPUT),
    (EncodeError, ExitCode.OUTPUT),
    (DecodeError, ExitCode.SOURCE),
    (UnsupportedMediaError, ExitCode.SOURCE),
    (MediaError, ExitCode.SOURCE),
    (EngineError, ExitCode.ENGINE),
    (SettingsError, ExitCode.USAGE),
    (AccountError, ExitCode.USAGE),
    (JobError, ExitCode.USAGE),
    (StoreError, ExitCode.DATA),
)


def exit_code(error: RelumeError) -> ExitCode:
    """Return the exit code for an error of the runtime."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.UNEXPECTED


def exit_on_error(error: RelumeError) -> NoReturn:
    """Print an error on one line of stderr, and exit with its code."""
    print(f"relume: {clean_message(' '.join(str(error).split()))}", file=sys.stderr)
    sys.exit(exit_code(error))


def exit_on_defect(error: Exception) -> NoReturn:
    """Write the traceback of an unexpected exception to a file, print its path, and exit."""
    name = f"relume-{time.strftime('%Y%m%d-%H%M%S')}-"
    with tempfile.NamedTemporaryFile("w", prefix=name, suffix=".log", delete=False, encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(error)))
    print(
        f"relume: unexpected error ({type(error).__name__}: {error}); the details are in {Path(log.name)}",
        file=sys.stderr,
    )
    sys.exit(ExitCode.UNEXPECTED)


def exit_on_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Exit on Ctrl-C without cleaning up."""
    del number, frame
    sys.exit(ExitCode.CANCELLED)


@contextmanager
def cancel_on_signal() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C, SIGTERM or a closed terminal sets; a second signal exits immediately."""
    cancel = threading.Event()
    # nohup ignores SIGHUP: keep ignoring it.
    kinds = [
        kind for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) is not signal.SIG_IGN
    ]

    requested = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            exit_on_interrupt(number, frame)
        requested = True
        event.trigger()

    with SignalEvent(cancel) as event:
        before = [signal.signal(kind, stop) for kind in kinds]
        try:
            yield cancel
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)
