"""A job uses the backend chosen for its models, or a safer one if that cannot be opened; the report states why."""

import hashlib
import json
import shutil
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from runtime import backend_selection, build_report, plan
from runtime.backend_selection import parse_engine_fingerprint, select_backends
from runtime.engine.backends import BackendInfo, find_backend
from runtime.engine.choose import BackendPreference, Choice, ModelBackend
from runtime.engine.device import EngineType
from runtime.engine.speeds import read_speeds
from runtime.enhance import enhance
from runtime.errors import ManifestError, OptionError, SessionError, UnsupportedMediaError
from runtime.manifest import find_model, load_model
from runtime.options import AudioMode, EnhanceOptions
from runtime.plan import plan_job
from tests import media

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Write four small frames with noise as audio."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    random = np.random.default_rng(0)
    frames = [media.blocks(random, 4, 6).astype(np.uint8) for _ in range(4)]
    audio = media.AudioTrack(random.normal(0, 0.05, (1, 7680)).astype(np.float32))
    return media.write_clip(path, frames, audio=audio)


@pytest.fixture
def damaged(tmp_path):
    """Create a private copy of light-x4 whose int8 file cannot be opened, though its checksum is right."""
    folder = tmp_path / "zoo" / "light-x4"
    shutil.copytree(find_model("light-x4").folder, folder)
    (folder / "step.int8.onnx").write_bytes(b"no network")
    fields = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in fields["files"] if entry["precision"] == "int8")
    entry["sha256"] = hashlib.sha256(b"no network").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(fields))
    return load_model(folder)


def make_options(model=None, **fields):
    zoo = {} if model is None else {"model": model.manifest.name, "zoo": model.folder.parent}
    return EnhanceOptions(scale=4, threads=1, **({"audio": AudioMode.OFF} | zoo | fields))


def test_video_and_audio_run_on_what_was_measured_for_each(clip, tmp_path, keep_speeds):
    engines = keep_speeds(find_model("light-x4"), {("cpu", "fp32"): 20.0, ("openvino", "int8"): 10.0})
    keep_speeds(find_model("speech-mask"), {("cpu", "fp32"): 0.3, ("openvino", "fp32"): 0.4})

    report = enhance(clip, tmp_path / "out.mp4", make_options(audio=AudioMode.SPEECH), engines=engines)

    frame, audio = report.engines
    int8 = next(file for file in find_model("light-x4").manifest.files if file.precision == "int8")
    assert (frame.backend, frame.precision, frame.sha256) == ("openvino-cpu", "int8", int8.sha256)
    assert frame.reason == "measured here: 10 ms, against 20 ms of cpu fp32"
    assert (audio.backend, audio.precision) == ("onnxruntime-cpu", "fp32")
    assert audio.reason == "measured here: 0.3 ms, against 0.4 ms of openvino fp32"


@pytest.mark.parametrize("durable", [False, True])
def test_a_backend_that_cannot_open_a_model_is_replaced_and_reported(clip, tmp_path, keep_speeds, damaged, durable):
    engines = keep_speeds(damaged, {("cpu", "fp32"): 20.0, ("openvino", "int8"): 10.0})
    workspace = tmp_path / "work" if durable else None

    report = enhance(clip, tmp_path / "out.mp4", make_options(damaged), engines=engines, workspace=workspace)

    assert (report.engines[0].backend, report.engines[0].precision) == ("onnxruntime-cpu", "fp32")
    assert report.engines[0].reason.startswith("in place of openvino: ")
    assert "step.int8.onnx cannot be read as a model" in report.engines[0].reason
    assert not any("started over" in warning for warning in report.warnings)
    assert (tmp_path / "out.mp4").exists()


def test_a_requested_backend_that_cannot_be_opened_is_an_error(clip, tmp_path, damaged):
    options = make_options(damaged, backend="openvino", precision="int8")

    with pytest.raises(SessionError, match=r"step\.int8\.onnx cannot be read as a model"):
        enhance(clip, tmp_path / "out.mp4", options)

    assert not (tmp_path / "out.mp4").exists()


def test_a_file_that_was_altered_is_no_matter_of_backends(clip, tmp_path, damaged):
    (damaged.folder / "step.int8.onnx").write_bytes(b"altered")

    with pytest.raises(ManifestError, match="does not match its manifest"):
        enhance(clip, tmp_path / "out.mp4", make_options(damaged, precision="int8"))


def test_a_precision_is_for_the_video_if_the_speech_model_lacks_it(clip, tmp_path):
    asked = make_options(precision="int8", audio=AudioMode.SPEECH)
    selection = select_backends(plan_job(clip, tmp_path / "out.mp4", asked), threads=1)

    assert (selection.video.backend.name, selection.video.backend.precision) == ("openvino", "int8")
    assert selection.speech.backend.precision == "fp32"

    with pytest.raises(SessionError, match="no backend on this machine runs light-restore in fp16; cuda, "):
        select_backends(plan_job(clip, tmp_path / "out.mp4", EnhanceOptions(scale=1, precision="fp16")), threads=1)
    alone = EnhanceOptions(preset="sound-only", precision="fp16")
    with pytest.raises(OptionError, match="model speech-mask has no fp16 file; it offers fp32"):
        select_backends(plan_job(clip, tmp_path / "out.mp4", alone), threads=1)


def test_what_a_job_began_with_can_be_read_back(clip, tmp_path):
    asked = make_options(backend="openvino", audio=AudioMode.SPEECH)
    marks = select_backends(plan_job(clip, tmp_path / "out.mp4", asked), threads=1).engine_fingerprint()

    assert parse_engine_fingerprint(marks) == {
        "light-x4": BackendPreference("openvino", "fp32"),
        "speech-mask": BackendPreference("openvino", "fp32"),
    }
    assert parse_engine_fingerprint("cpu") == parse_engine_fingerprint("") == {}


def test_the_first_job_that_is_long_enough_is_measured_and_later_ones_use_it(clip, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(backend_selection, "_MIN_FRAMES_TO_MEASURE", 0.0)
    monkeypatch.setattr(backend_selection, "_FIRST_BUDGET_S", 0.0)
    work = plan_job(clip, None, make_options())

    first = select_backends(work, threads=1, engines=tmp_path).video
    again = select_backends(work, threads=1, engines=tmp_path).video

    assert first.reason.startswith("measured here: ")
    assert (again.backend, again.reason) == (first.backend, first.reason)
    assert {speed.model for speed in read_speeds(tmp_path)} == {"light-x4"}
    assert caplog.text.count("benchmarking the backends") == 1


def test_short_jobs_and_jobs_with_a_preference_or_without_a_folder_are_not_benchmarked(clip, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("measured")

    monkeypatch.setattr("runtime.engine.benchmark.measure_model", never)
    select_backends(plan_job(clip, None, make_options()), threads=1, engines=tmp_path)
    monkeypatch.setattr(backend_selection, "_MIN_FRAMES_TO_MEASURE", 0.0)
    select_backends(plan_job(clip, None, make_options(backend="cpu")), threads=1, engines=tmp_path)
    select_backends(plan_job(clip, None, make_options()), threads=1, engines=None)

    assert not (tmp_path / "speeds.json").exists()


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(backend_selection, "_MIN_FRAMES_TO_MEASURE", 0.0)
    monkeypatch.setattr(backend_selection, "_FIRST_BUDGET_S", 0.0)
    (tmp_path / "file").touch()

    chosen = select_backends(plan_job(clip, None, make_options()), threads=1, engines=tmp_path / "file").video

    assert (chosen.backend.name, chosen.backend.precision) == ("cpu", "fp32")


def test_the_report_names_the_int8_file_of_the_form_that_the_backend_took():
    """A model has an INT8 file for processors and one for TensorRT."""
    model = find_model("light-restore")
    forms = {file.form: file.sha256 for file in model.manifest.files if file.precision == "int8"}
    gpu = BackendInfo("rtx", True, "made up", ("int8",), ("onnxruntime",), True, EngineType.RTX)

    for backend, form in ((find_backend("openvino"), "cpu"), (gpu, "tensorrt")):
        chosen = Choice(model, ModelBackend(backend, "int8"), "")
        assert build_report._engine(chosen, backend.name, "int8").sha256 == forms[form]


def test_frames_that_need_more_memory_than_there_is_are_refused_before_the_start(tmp_path, monkeypatch):
    path = media.write_clip(tmp_path / "large.mkv", [np.zeros((1440, 2560, 3), np.uint8)])
    restore = EnhanceOptions(preset="restore", codec="h264")

    monkeypatch.setattr(plan, "_memory_bytes", lambda: 1_100_000_000)
    assert plan_job(path, None, restore).video is not None

    monkeypatch.setattr(plan, "_memory_bytes", lambda: 900_000_000)
    with pytest.raises(
        UnsupportedMediaError, match=r"2560x1440, which need about 1\.0 GB of memory, but 0\.9 GB are available; choose"
    ):
        plan_job(path, None, restore)

    # HEVC holds more frames back.
    monkeypatch.setattr(plan, "_memory_bytes", lambda: 1_100_000_000)
    with pytest.raises(UnsupportedMediaError, match=r"about 1\.1 GB of memory"):
        plan_job(path, None, replace(restore, codec="hevc"))


def test_the_limit_of_a_container_counts_as_its_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("123456789\n")
    (tmp_path / "none").write_text("max\n")

    monkeypatch.setattr(plan, "_CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "missing")))
    without = plan._memory_bytes()
    monkeypatch.setattr(plan, "_CGROUP_LIMITS", (str(tmp_path / "memory.max"),))

    assert plan._memory_bytes() == 123456789 < without


def test_memory_that_the_frames_of_a_job_leave_is_spare(tmp_path, monkeypatch):
    path = media.write_clip(tmp_path / "large.mkv", [np.zeros((1440, 2560, 3), np.uint8)])
    video = plan_job(path, None, EnhanceOptions(preset="restore", codec="h264")).video
    assert video is not None

    monkeypatch.setattr(plan, "_memory_bytes", lambda: 2_000_000_000)
    assert 900_000_000 < plan.spare_memory_bytes(video) < 1_200_000_000

    monkeypatch.setattr(plan, "_memory_bytes", lambda: 500_000_000)
    assert plan.spare_memory_bytes(video) == 0
