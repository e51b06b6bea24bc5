"""A model is opened in its chosen precision, from the engine store if it has an engine; if not, one is requested."""

from importlib.util import find_spec

import numpy as np
import pytest

from runtime.engine.backends import BackendInfo, find_backend
from runtime.engine.choose import ModelBackend, StoredEngineSession
from runtime.engine.device import EngineType
from runtime.engine.store.builder import BuildOutcome, build_in_subprocess
from runtime.engine.store.key import request_engine
from runtime.engine.store.store import EngineStore
from runtime.errors import OpenError
from runtime.manifest import find_model

pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")

SIZES = {"height": 32, "width": 32, "batch": 1}


@pytest.fixture
def model():
    return find_model("light-x4")


def random_tensors(session):
    random = np.random.default_rng(0)
    return {one.name: random.random(one.shape).astype(one.dtype) for one in session.inputs}


def test_the_file_of_the_role_is_opened_in_the_precision_of_the_backend(model):
    opened = {}
    for precision in ("fp32", "int8"):
        backend = ModelBackend(find_backend("openvino"), precision)
        with backend.open(model, "step", SIZES) as session:
            assert session.precision == precision
            opened[precision] = session.run(random_tensors(session))["output"]

    difference = float(np.abs(opened["fp32"] - opened["int8"]).max())
    assert 0 < difference < 0.2


def test_a_missing_engine_is_requested_and_openvino_compiles_meanwhile(model, tmp_path):
    backend = ModelBackend(find_backend("openvino"), "int8", engines=tmp_path)

    with backend.open(model, "step", SIZES) as session:
        assert session.run(random_tensors(session))["output"].shape == (1, 3, 128, 128)

    (build_request,) = EngineStore(tmp_path).build_requests()
    assert (build_request.request.model, build_request.request.precision) == ("light-x4", "int8")
    assert build_request.request.engine_type is EngineType.OPENVINO
    assert build_request.request.dimensions == (("height", 32), ("width", 32))


def test_a_store_that_cannot_be_used_is_no_reason_to_fail(model, tmp_path):
    (tmp_path / "file").touch()
    backend = ModelBackend(find_backend("openvino"), engines=tmp_path / "file")

    with backend.open(model, "step", SIZES) as session:
        assert session.backend == "openvino-cpu"


def test_a_backend_of_engines_reports_a_missing_engine(model):
    # Simulated, as on a machine with the GPU, where the store is searched before the library is loaded.
    rtx = BackendInfo("rtx", True, "", ("fp32",), ("tensorrt-rtx-cu13",), on_gpu=True, engine_type=EngineType.RTX)

    with pytest.raises(OpenError, match="the rtx engine for light-x4 fp32 at 32x32x1 is not built yet") as caught:
        ModelBackend(rtx).open(model, "step", SIZES)

    assert (caught.value.model, caught.value.backend, caught.value.waits) == ("light-x4", "rtx", True)


def test_a_stored_engine_is_opened_and_returns_the_bytes_of_its_file(model, tmp_path):
    backend, store = find_backend("openvino"), EngineStore(tmp_path)
    request = request_engine(model.file(), dimensions=SIZES, engine_type=EngineType.OPENVINO)
    assert build_in_subprocess(store, request, stop=lambda: False).outcome is BuildOutcome.READY

    with (
        ModelBackend(backend).open(model, "step", SIZES) as compiled,
        ModelBackend(backend, engines=tmp_path).open(model, "step", SIZES) as stored,
    ):
        assert isinstance(stored, StoredEngineSession)
        assert not isinstance(compiled, StoredEngineSession)
        given = random_tensors(compiled)
        expected, result = compiled.run(given), stored.run(given)

    assert store.build_requests() == []
    for name, array in expected.items():
        np.testing.assert_array_equal(result[name], array)
