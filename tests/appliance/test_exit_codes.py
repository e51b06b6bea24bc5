import os
import signal

import pytest

from appliance.errors import LoginError, SettingsError
from appliance.exit_codes import ExitCode, cancel_on_signal, exit_code
from appliance.jobs.errors import JobNotFoundError
from appliance.store.errors import DirectoryInUseError
from runtime import errors
from runtime.report import VerificationError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.OptionError, ExitCode.USAGE),
        (errors.DecodeError, ExitCode.SOURCE),
        (errors.UnsupportedMediaError, ExitCode.SOURCE),
        (errors.OutputError, ExitCode.OUTPUT),
        (errors.EncodeError, ExitCode.OUTPUT),
        (VerificationError, ExitCode.UNVERIFIED),
        (errors.ManifestError, ExitCode.ENGINE),
        (errors.SessionError, ExitCode.ENGINE),
        (errors.CancelledError, ExitCode.CANCELLED),
        (SettingsError, ExitCode.USAGE),
        (LoginError, ExitCode.USAGE),
        (JobNotFoundError, ExitCode.USAGE),
        (DirectoryInUseError, ExitCode.DATA),
        (errors.RelumeError, ExitCode.UNEXPECTED),
    ],
)
def test_every_error_has_its_exit_code(error, code):
    assert exit_code(error("words")) is code


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_ends(kind):
    # Under nohup one of them is ignored, and would remain so.
    inherited = signal.signal(kind, signal.default_int_handler)
    try:
        with cancel_on_signal() as cancel:
            assert not cancel.is_set()
            os.kill(os.getpid(), kind)
            assert cancel.wait(10)
            with pytest.raises(SystemExit) as end:
                os.kill(os.getpid(), kind)
        assert signal.getsignal(kind) is signal.default_int_handler
    finally:
        signal.signal(kind, inherited)

    assert end.value.code == 130


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cancel_on_signal() as cancel:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not cancel.wait(0.2)
    finally:
        signal.signal(signal.SIGHUP, before)
