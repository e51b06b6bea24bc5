"""The time and space that a job needs, measured on the source itself and shown as text."""

import shutil
import subprocess
from collections import namedtuple
from fractions import Fraction
from types import SimpleNamespace

import pytest

from appliance.jobs import estimate as estimate_module
from appliance.jobs.estimate import TrialError, describe_time, estimate
from appliance.jobs.estimate_process import Measured, measure
from runtime.errors import DecodeError, OptionError
from runtime.options import AudioMode, EnhanceOptions

SILENT = EnhanceOptions(preset="restore", audio=AudioMode.OFF)
MEASURED = Measured(span_s=2.0, start_s=1.0, run_s=4.0, compare_s=0.5, result_bytes=1_000_000, memory_bytes=500_000_000)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def trial(monkeypatch):
    """Replace the test run with a known answer, on a disk and memory of known size."""

    def become(*, length=Fraction(600), measured=MEASURED, disk=10**12, memory=10**10):
        monkeypatch.setattr(estimate_module, "_try", lambda *_: measured)
        monkeypatch.setattr(estimate_module, "_length", lambda *_: length)
        monkeypatch.setattr(estimate_module.psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**13, 0, disk))

    return become


def test_a_real_test_run_measures_time_memory_and_disk(clip, data):
    found = estimate(clip, SILENT, data)

    assert found.fits
    assert 0.1 < found.time_s < 120
    assert 50_000_000 < found.memory_bytes < 4_000_000_000
    assert 0 < found.disk_needed_bytes < found.disk_free_bytes
    assert found.message.startswith("This will take about ")
    assert not list(data.glob(".trial-*"))


def test_audio_only_is_tried_too(data, write_noise):
    found = estimate(write_noise("talk.wav", seconds=3), EnhanceOptions(preset="sound-only"), data)

    assert found.fits
    assert found.time_s > 0
    assert found.disk_needed_bytes > 200_000


def test_a_slow_source_is_tried_with_fewer_frames(clip, tmp_path):
    quick = measure(clip, SILENT, tmp_path, budget_s=0.0)

    assert quick.span_s == pytest.approx(2 / 25)
    assert quick.result_bytes > 0


def test_the_test_run_is_extrapolated_to_the_whole_length(trial, clip, data):
    trial()

    found = estimate(clip, SILENT, data)

    # 600 s are 300 spans; the first 120 s are compared.
    assert found.time_s == 1.0 + 300 * 4.0 + 60 * 0.5
    assert found.memory_bytes == 550_000_000
    assert found.disk_needed_bytes == 2 * 330_000_000 + 60_000_000
    assert found.message == ("This will take about 21 minutes, 550 MB of memory and 720 MB of disk (1 TB are free)")


def test_a_disk_that_is_too_small_is_reported(trial, clip, data):
    trial(disk=800_000_000)

    found = estimate(clip, SILENT, data)

    assert not found.fits
    assert found.message == (
        "This does not fit: not enough disk space: 720 MB needed, 800 MB free, of which 200 MB "
        "must stay free (Settings, Disk reserve); delete old results, or choose a smaller size"
    )


@pytest.mark.parametrize("limits", [{"memory": 300_000_000}, {"limit": 300_000_000}])
def test_memory_that_is_too_small_is_reported(trial, clip, data, limits):
    trial(memory=limits.get("memory", 10**10))

    found = estimate(clip, SILENT, data, memory_limit_bytes=limits.get("limit"))

    assert not found.fits
    assert "it needs about 550 MB of memory, but only 300 MB are available; close other programs" in found.message


def test_an_unknown_length_is_admitted(trial, clip, data):
    trial(length=None)

    assert "the file does not declare its duration, so it may be more" in estimate(clip, SILENT, data).message


def test_what_the_job_would_refuse_is_refused_at_once(clip, data, tmp_path):
    with pytest.raises(DecodeError, match="does not exist"):
        estimate(tmp_path / "nothing.mp4", SILENT, data)
    with pytest.raises(OptionError, match="strength is 7"):
        estimate(clip, EnhanceOptions(strength=7), data)


def test_a_trial_without_an_end_is_reported(clip, data, monkeypatch):
    def takes_too_long(*_, **options):
        raise subprocess.TimeoutExpired("trial", options["timeout"])

    monkeypatch.setattr(subprocess, "run", takes_too_long)

    with pytest.raises(TrialError, match="took longer than 120 s; the server may be busy"):
        estimate(clip, SILENT, data)
    assert not list(data.glob(".trial-*"))


@pytest.mark.parametrize(
    ("code", "output", "message"),
    [
        (0, b'{"error": "the picture has alpha"}', "the test run failed: the picture has alpha"),
        (-9, b"", "killed by signal 9, probably out of memory; choose a smaller size"),
        (1, b"", r"the test run failed unexpectedly \(ValueError: oh\)"),
    ],
)
def test_a_failed_test_run_states_the_reason(code, output, message):
    with pytest.raises(TrialError, match=message):
        estimate_module._read(code, output, b"Traceback\nValueError: oh\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "a few seconds"),
        (59, "59 seconds"),
        (61, "1 minute"),
        (1500, "25 minutes"),
        (3600, "1 hour"),
        (5400, "1 hour 30 minutes"),
        (7200, "2 hours"),
        (60_000, "17 hours"),
    ],
)
def test_durations_are_worded_for_people(seconds, words):
    assert describe_time(seconds) == words
