"""What is planned about a GPU's memory before anything is allocated on it."""

import logging

import numpy as np
import pytest

from runtime.engine.device_memory import check_room, is_shared, needed_bytes
from runtime.engine.session import Binding
from runtime.errors import SessionError

TENSORS = (
    Binding("frame", np.dtype(np.float32), (1, 3, 180, 320)),
    Binding("half", np.dtype(np.float16), (5,)),
    Binding("one", np.dtype(np.int64), ()),
)


def test_bytes_are_counted_by_shape_and_dtype():
    assert needed_bytes(TENSORS) == 3 * 180 * 320 * 4 + 5 * 2 + 8


def test_tensors_that_do_not_fit_are_refused_with_both_sizes():
    check_room(100, 100)
    with pytest.raises(SessionError, match="the tensors take 3072 MiB and the GPU has 2048 MiB free; end what else"):
        check_room(3 << 30, 2 << 30)


@pytest.mark.parametrize(
    ("integrated", "has_pycuda", "shared", "warned"),
    [(False, False, False, False), (False, True, False, False), (True, True, True, False), (True, False, False, True)],
)
def test_memory_is_shared_on_an_integrated_gpu_and_what_it_lacks_is_told(
    caplog, integrated, has_pycuda, shared, warned
):
    with caplog.at_level(logging.WARNING):
        assert is_shared(integrated=integrated, has_pycuda=has_pycuda) is shared

    assert ("relume[jetson]" in caplog.text) is warned
