"""The backend of a model: the user's preference, else the fastest measured, else the default; with the reason."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import pytest

from runtime.engine import choose as choose_module
from runtime.engine.backends import BackendInfo, list_backends
from runtime.engine.choose import BackendPreference, candidates_for, choose_engine, offered_precisions
from runtime.engine.device import EngineType
from runtime.engine.speeds import digest_files, read_speeds, write_speeds
from runtime.errors import OptionError, SessionError
from runtime.manifest import Calibration, ModelFile, Quality, find_model

BACKENDS = {backend.name: backend for backend in list_backends()}

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture
def model():
    """Return light-x4 with a file in float32 and one in int8, which passed its gate."""
    shipped = find_model("light-x4")
    loss = Quality(measure="PSNR-Y dB", data="clips", before=36.3, after=36.25, command="measure")
    calibration = Calibration(
        path="calibration.json", digest="0" * 64, method="minmax", samples=1, clips=(), in_float=(), loss=(loss,)
    )
    files = (
        ModelFile(path="step.onnx", role="step", precision="fp32", sha256="1" * 64),
        ModelFile(path="int8.onnx", role="step", precision="int8", sha256="2" * 64, calibration=calibration),
    )
    return with_files(shipped, *files)


def with_files(model, *files):
    return model.model_copy(update={"manifest": model.manifest.model_copy(update={"files": files})})


@pytest.fixture
def measured(model, keep_speeds):
    """Store speeds of the model, by backend and precision."""
    return partial(keep_speeds, model)


def choose(model, backend="auto", precision="auto", **options):
    return choose_engine(model, BackendPreference(backend, precision), threads=2, **options)


def test_without_measurements_float32_in_onnx_runtime_is_used_with_a_hint(model, tmp_path):
    for engines in (None, tmp_path):
        chosen = choose(model, engines=engines)

        assert (chosen.backend.name, chosen.backend.precision) == ("cpu", "fp32")
        assert "`relume doctor`" in chosen.reason


@needs_openvino
def test_the_fastest_that_was_measured_is_taken_and_the_reason_has_both_times(model, measured):
    engines = measured({("cpu", "fp32"): 25.5, ("openvino", "fp32"): 45.0, ("openvino", "int8"): 14.7})

    chosen = choose(model, engines=engines)

    assert (chosen.backend.name, chosen.backend.precision) == ("openvino", "int8")
    assert chosen.reason == "measured here: 14.7 ms, against 25.5 ms of cpu fp32"
    assert chosen.backend.library.startswith("openvino 20")


@needs_openvino
def test_what_is_safer_stays_unless_it_is_clearly_slower(model, measured):
    engines = measured({("cpu", "fp32"): 20.0, ("openvino", "fp32"): 19.0, ("openvino", "int8"): 18.5})

    assert choose(model, engines=engines).backend.name == "cpu"


@needs_openvino
@pytest.mark.parametrize(
    "change", [{"sha256": "3" * 64}, {"device": "another box"}, {"library": "x 1"}, {"problem": "it failed"}]
)
def test_a_measurement_of_another_file_device_or_library_does_not_count(model, measured, change):
    engines = measured({("cpu", "fp32"): 25.5, ("openvino", "int8"): 1.0}, **change)

    assert (choose(model, engines=engines).backend.name, choose(model, engines=engines).backend.precision) == (
        "cpu",
        "fp32",
    )


@needs_openvino
def test_int8_without_a_measured_loss_is_used_only_on_request(model, measured):
    exact, coarse = model.manifest.files
    bare = coarse.model_copy(update={"calibration": coarse.calibration.model_copy(update={"loss": ()})})
    engines = measured({("cpu", "fp32"): 25.5, ("openvino", "int8"): 14.7})

    assert choose(with_files(model, exact, bare), engines=engines).backend.precision == "fp32"
    assert choose(with_files(model, exact, bare), precision="int8", engines=engines).backend.precision == "int8"


@needs_openvino
def test_a_preference_has_priority_over_measurements(model, measured):
    engines = measured({("cpu", "fp32"): 25.5, ("openvino", "fp32"): 45.0, ("openvino", "int8"): 14.7})

    both = choose(model, "openvino", "fp32", engines=engines)
    assert (both.backend.name, both.backend.precision, both.reason) == ("openvino", "fp32", "asked for")
    assert choose(model, "cpu", engines=engines).backend.precision == "fp32"
    assert choose(model, "openvino", engines=engines).backend.precision == "int8"
    assert choose(model, precision="fp32", engines=engines).backend.name == "cpu"


@needs_openvino
def test_int8_alone_is_openvinos(model):
    assert choose(model, precision="int8").backend.name == "openvino"


@needs_openvino
def test_what_the_job_began_with_is_kept_while_it_can_be(model, measured):
    engines = measured({("cpu", "fp32"): 25.5, ("openvino", "int8"): 14.7})

    kept = choose(model, engines=engines, kept=BackendPreference("cpu", "fp32"))
    assert (kept.backend.name, kept.backend.precision, kept.reason) == ("cpu", "fp32", "the job started with it")
    # As if the requested engine was not built yet, and the job began without it.
    assert choose(model, "openvino", engines=engines, kept=BackendPreference("cpu", "fp32")).backend.name == "cpu"
    assert choose(model, engines=engines, kept=BackendPreference("rtx", "fp16")).backend.name == "openvino"
    assert (
        choose(model, engines=engines, kept=BackendPreference("openvino", "int8"), without="openvino").backend.name
        == "cpu"
    )


@needs_openvino
def test_a_backend_that_failed_is_not_taken_again(model, measured):
    engines = measured({("cpu", "fp32"): 25.5, ("openvino", "int8"): 14.7})

    assert choose(model, engines=engines, without="openvino").backend.name == "cpu"


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        (BackendPreference("quantum"), OptionError, "no backend named 'quantum'; there are: auto, cpu, openvino, cuda"),
        (BackendPreference(precision="fp8"), OptionError, "no precision named 'fp8'; there are: auto, fp32"),
        (BackendPreference(precision="fp16"), OptionError, "model light-x4 has no fp16 file; it offers fp32, int8"),
        (BackendPreference("rtx"), SessionError, r"backend rtx cannot be used: .* (install|pip install)"),
    ],
)
def test_a_preference_that_cannot_be_met_is_refused_with_alternatives(model, wish, error, message):
    if error is SessionError and BACKENDS["rtx"].available:
        pytest.skip("this box has an RTX GPU")

    with pytest.raises(error, match=message):
        choose_engine(model, wish, threads=1)


def test_a_precision_that_the_backend_does_not_run_is_refused(model, monkeypatch):
    gpu = BackendInfo("cuda", True, "", ("fp32", "fp16"), ("onnxruntime-gpu",), on_gpu=True)
    monkeypatch.setattr(choose_module, "find_backend", {"cuda": gpu}.get)

    with pytest.raises(OptionError, match="backend cuda does not run int8; it runs fp32, fp16"):
        choose(model, "cuda", "int8")


def test_a_precision_is_offered_only_where_every_part_has_it(model):
    exact, coarse = model.manifest.files
    flow = exact.model_copy(update={"role": "flow", "path": "flow.onnx"})

    assert offered_precisions(model) == ("fp32", "int8")
    assert offered_precisions(with_files(model, exact, coarse, flow)) == ("fp32",)


def test_a_backend_is_offered_int8_only_in_the_form_that_it_takes(model):
    exact, unsigned = model.manifest.files
    signed = unsigned.model_copy(update={"form": "tensorrt", "path": "signed.onnx", "sha256": "3" * 64})
    backends = [BACKENDS["openvino"], BACKENDS["rtx"]]

    def offered(*files):
        return {backend.name for backend, kind in candidates_for(with_files(model, *files), backends) if kind == "int8"}

    assert offered(exact, unsigned) == {"openvino"}
    assert offered(exact, signed) == {"rtx"}
    assert offered(exact, unsigned, signed) == {"openvino", "rtx"}
    both = with_files(model, exact, unsigned, signed)
    assert digest_files(both, "int8", BACKENDS["rtx"].quant_scheme) == "3" * 64
    assert digest_files(both, "int8", BACKENDS["cpu"].quant_scheme) == "2" * 64


def test_an_unsupported_precision_names_backends_that_run_it(model):
    exact, _ = model.manifest.files
    half = exact.model_copy(update={"precision": "fp16", "path": "half.onnx"})

    with pytest.raises(SessionError, match=r"no backend on this machine runs light-x4 in fp16; cuda, .* could: see"):
        choose(with_files(model, exact, half), precision="fp16")


@pytest.mark.parametrize("content", ["", "{", '{"schema": 2, "speeds": []}', '{"schema": 1, "speeds": [{"model": 1}]}'])
def test_speeds_that_cannot_be_read_are_skipped(tmp_path, content):
    (tmp_path / "speeds.json").write_text(content)

    assert read_speeds(tmp_path) == ()


def test_measuring_a_model_again_replaces_its_speeds_and_leaves_others(measured):
    folder = measured({("cpu", "fp32"): 25.5, ("cpu", "int8"): 50.0})
    write_speeds(folder, tuple(replace(speed, model="another") for speed in read_speeds(folder)))

    measured({("cpu", "fp32"): 24.0})

    assert [(speed.model, speed.ms) for speed in read_speeds(folder)] == [
        ("another", 25.5), ("another", 50.0), ("light-x4", 24.0),
    ]  # fmt: skip


def test_what_opens_files_takes_tiles_of_any_shape_and_what_runs_engines_does_not(monkeypatch):
    model = find_model("light-x4")
    gpu = BackendInfo("rtx", True, "made up", ("fp32",), ("onnxruntime",), True, EngineType.RTX)
    monkeypatch.setattr(choose_module, "list_backends", lambda: (*list_backends(), gpu))

    assert choose_engine(model, BackendPreference("cpu"), threads=1).any_shape
    assert choose_engine(model, BackendPreference("openvino"), threads=1).any_shape
    monkeypatch.setattr(choose_module, "find_backend", lambda _: gpu)
    assert not choose_engine(model, BackendPreference("rtx"), threads=1).any_shape
    assert not choose_engine(find_model("speech-mask"), BackendPreference("cpu"), threads=1).any_shape
