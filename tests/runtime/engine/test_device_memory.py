"""The plan of a GPU's memory, before anything is allocated."""

import logging
import sys

import numpy as np
import pytest

from runtime.engine.device_memory import check_device_memory, is_shared, open_buffers, tensor_bytes
from runtime.engine.session import Binding
from runtime.errors import SessionError

TENSORS = (
    Binding("frame", np.dtype(np.float32), (1, 3, 180, 320)),
    Binding("half", np.dtype(np.float16), (5,)),
    Binding("one", np.dtype(np.int64), ()),
)


def test_bytes_are_counted_by_shape_and_dtype():
    assert tensor_bytes(TENSORS) == 3 * 180 * 320 * 4 + 5 * 2 + 8


def test_tensors_that_do_not_fit_are_refused_with_both_sizes():
    check_device_memory(100, 100)
    with pytest.raises(SessionError, match="the tensors take 3072 MiB and the GPU has 2048 MiB free; close other"):
        check_device_memory(3 << 30, 2 << 30)


def test_an_integrated_gpu_without_pycuda_gets_advice(caplog):
    with caplog.at_level(logging.WARNING):
        assert not is_shared(integrated=True, has_pycuda=False)

    assert "relume[jetson]" in caplog.text


def test_tensors_are_copied_once_each_way_and_not_at_all_where_memory_is_shared(fake_gpu):
    stream = sys.modules["cupy"].cuda.Stream()
    buffers = open_buffers(TENSORS[:2], TENSORS[2:], stream)
    given = {one.name: np.ones(one.shape, one.dtype) for one in TENSORS[:2]}
    fake_gpu.log.clear()

    buffers.upload(given)
    for one in TENSORS[:2]:
        np.testing.assert_array_equal(fake_gpu.at(buffers.addresses[one.name]), given[one.name])
    fake_gpu.at(buffers.addresses["one"])[...] = 7
    first = buffers.download()
    fake_gpu.at(buffers.addresses["one"])[...] = 8

    assert (first["one"], buffers.download()["one"]) == (7, 8)  # a result of its own each time
    expected = ["wait", "wait"] if fake_gpu.integrated else ["up", "up", "down", "wait", "down", "wait"]
    assert [event.kind for event in fake_gpu.log] == expected


def test_memory_is_released_when_tensors_are_closed(fake_gpu):
    stream = sys.modules["cupy"].cuda.Stream()
    buffers = open_buffers(TENSORS[:2], TENSORS[2:], stream)
    assert fake_gpu.used >= tensor_bytes(TENSORS)

    buffers.close()

    assert fake_gpu.used == 0
    buffers.close()
