"""A session reads and fills its caller's arrays, on every CPU backend."""

from importlib.util import find_spec

import numpy as np
import pytest

from runtime.engine.onnxruntime import OnnxRuntimeCpuSession
from runtime.engine.openvino import OpenVinoSession
from runtime.errors import SessionError

SIZES = {"height": 20, "width": 24}


@pytest.fixture(params=[OnnxRuntimeCpuSession, OpenVinoSession])
def session(request, tiny_network):
    if request.param is OpenVinoSession and find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    with request.param(tiny_network, dimensions=SIZES, precision="fp32", threads=1) as session:
        yield session


def test_results_go_into_the_arrays_of_the_caller(session, tensors):
    first = session.run(tensors)
    out = {name: np.full_like(array, np.nan) for name, array in first.items()}

    given = session.run(tensors, out)

    for name, array in first.items():
        assert given[name] is out[name]
        np.testing.assert_array_equal(out[name], array)


def test_inputs_are_read_again_from_the_same_array_and_from_another(session, tensors):
    own = {name: array.copy() for name, array in tensors.items()}
    before = session.run(own)
    own["frame"] *= np.float32(0.5)

    changed, other = session.run(own), session.run(tensors)

    assert np.abs(changed["output"] - before["output"]).max() > 1e-3
    np.testing.assert_array_equal(other["output"], before["output"])


def test_results_of_an_earlier_run_stay_as_they_are(session, tensors):
    first = session.run(tensors)
    kept = {name: array.copy() for name, array in first.items()}

    session.run({name: array + np.float32(1) for name, array in tensors.items()})

    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


def test_an_input_with_gaps_is_read_right(session, tensors):
    wide = {name: np.repeat(array, 2, axis=-1) for name, array in tensors.items()}

    result = session.run({name: array[..., ::2] for name, array in wide.items()})

    np.testing.assert_array_equal(result["output"], session.run(tensors)["output"])


def test_arrays_that_results_do_not_fit_into_are_refused_before_running(session, tensors):
    out = {name: np.zeros_like(array) for name, array in session.run(tensors).items()}
    locked = out["output"].copy()
    locked.flags.writeable = False

    bad = (out["output"][..., ::2], out["output"].astype(np.float64), np.asfortranarray(out["output"]), locked)
    for array in bad:
        with pytest.raises(SessionError, match="output output is"):
            session.run(tensors, out | {"output": array})
    with pytest.raises(SessionError, match="got outputs"):
        session.run(tensors, {})
    assert not any(array.any() for array in out.values())
