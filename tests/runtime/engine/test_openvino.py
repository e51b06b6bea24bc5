"""OpenVINO agrees with ONNX Runtime, returns the same bytes every time, and reports to nobody."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.openvino import OpenVinoSession, compile_onnx
from runtime.errors import SessionError
from runtime.manifest import find_model

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

SIZES = {"height": 20, "width": 24}


def open_tiny(path, *, threads=2):
    return OpenVinoSession(path, dimensions=SIZES, precision="fp32", threads=threads)


def random_tensors(session, seed):
    random = np.random.default_rng(seed)
    return {entry.name: random.random(entry.shape).astype(entry.dtype) for entry in session.inputs}


def test_it_computes_in_float32_as_onnx_runtime_does(tiny_network, tensors):
    with (
        open_tiny(tiny_network) as session,
        OnnxRuntimeCpuSession(tiny_network, dimensions=SIZES, precision="fp32", threads=2) as reference,
    ):
        expected = reference.run(tensors)
        result = session.run(tensors)

        assert session.backend == "openvino-cpu"
        assert set(session.inputs) == set(reference.inputs)
        assert set(session.outputs) == set(reference.outputs)
    for name, array in expected.items():
        # bfloat16 would be a thousand times further off.
        np.testing.assert_allclose(result[name], array, atol=2e-6)


@pytest.mark.parametrize(("model", "sizes"), [("light-x4", SIZES), ("light-restore", SIZES), ("speech-mask", {})])
def test_a_shipped_model_agrees_with_onnx_runtime(model, sizes):
    sizes = sizes or {"samples": 1024}
    path = find_model(model).file()
    with (
        OpenVinoSession(path, dimensions=sizes, precision="fp32", threads=2) as session,
        OnnxRuntimeCpuSession(path, dimensions=sizes, precision="fp32", threads=2) as reference,
    ):
        given = random_tensors(session, 2)
        expected, result = reference.run(given), session.run(given)

    assert result.keys() == expected.keys()
    for name, array in expected.items():
        peak = max(1.0, float(np.abs(array).max()))
        assert float(np.abs(result[name] - array).max()) < 1e-4 * peak


def test_results_are_new_arrays_in_the_callers_hands(tiny_network, tensors):
    with open_tiny(tiny_network) as session:
        first = session.run(tensors)
        kept = first["output"].copy()
        second = session.run({name: array + 1 for name, array in tensors.items()})

    assert first["output"].flags.writeable
    assert not np.shares_memory(first["output"], second["output"])
    np.testing.assert_array_equal(first["output"], kept)
    assert not np.array_equal(second["output"], kept)


def test_every_run_and_every_session_gives_the_same_bytes():
    path = find_model("light-x4").file()
    sizes = {"height": 64, "width": 64}
    seen = set()
    for _ in range(3):
        with OpenVinoSession(path, dimensions=sizes, precision="fp32", threads=2) as session:
            given = random_tensors(session, 3)
            for _ in range(4):
                made = session.run(given)
                seen.add(b"".join(made[name].tobytes() for name in sorted(made)))

    assert len(seen) == 1


def test_a_compiled_blob_gives_the_same_bytes_as_its_file(tiny_network, tensors, tmp_path):
    blob = tmp_path / "tiny.blob"
    blob.write_bytes(compile_onnx(tiny_network, dimensions=SIZES, threads=2).export_model().getvalue())

    with open_tiny(tiny_network) as compiled, OpenVinoSession(blob, dimensions={}, precision="fp32", threads=1) as read:
        expected, result = compiled.run(tensors), read.run(tensors)

        assert read.inputs == compiled.inputs
    for name, array in expected.items():
        np.testing.assert_array_equal(result[name], array)


def test_wrong_tensors_are_refused_before_running(tiny_network, tensors):
    with open_tiny(tiny_network) as session, pytest.raises(SessionError, match=r"input frame is float64 .* expected"):
        session.run(tensors | {"frame": tensors["frame"].astype(np.float64)})


def test_a_dimension_left_open_is_refused(tiny_network):
    with pytest.raises(SessionError, match="set the size of all of them"):
        OpenVinoSession(tiny_network, dimensions={"height": 20}, precision="fp32", threads=1)


@pytest.mark.parametrize(
    ("name", "message"), [("text.onnx", "cannot be read as a model"), ("text.blob", "build it again")]
)
def test_a_file_that_is_no_model_is_refused_with_the_remedy(tmp_path, name, message):
    path = tmp_path / name
    path.write_text("not a model")

    with pytest.raises(SessionError, match=message):
        open_tiny(path)


def test_importing_openvino_loads_no_telemetry(tmp_path):
    program = (
        "import sys, threading\n"
        "from runtime.engine.openvino import load_openvino\n"
        "load_openvino()\n"
        "load_openvino()\n"
        "print([name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module])\n"
        "print(threading.active_count())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split("\n")[:2] == ["[]", "1"]
    assert not list(tmp_path.iterdir())


def test_openvino_that_was_imported_with_its_telemetry_is_refused(monkeypatch):
    from runtime.engine.openvino import load_openvino

    monkeypatch.setitem(sys.modules, "openvino_telemetry", sys)

    with pytest.raises(SessionError, match="import it only through load_openvino"):
        load_openvino()
