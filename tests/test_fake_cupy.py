"""The fake of CuPy counts what is requested of a GPU, and refuses what would be slow or wrong."""

from importlib.util import find_spec

import numpy as np
import pytest

from tests.fake_cupy import Event, FakeCupy

SOURCE = """
extern "C" __global__ void scale(const float* from, float factor, int count, float* to) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = factor * from[i];
}
"""


@pytest.fixture
def scale(fake_cupy):
    return fake_cupy.RawModule(code=SOURCE, options=("--fmad=false",)).get_function("scale")


def test_transfers_and_waits_are_logged_with_their_bytes(fake_cupy):
    array = fake_cupy.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))

    total = float((array[:, 1:] * 2).sum())

    assert total == 24
    assert fake_cupy.log == [
        Event("up", "", 24), Event("array", "mul"), Event("array", "sum"), Event("down", "", 4), Event("wait"),
    ]  # fmt: skip
    assert (fake_cupy.bytes("up"), fake_cupy.count("array", "mul")) == (24, 1)


def test_views_share_memory_and_keep_their_strides(fake_cupy):
    array = fake_cupy.zeros((4, 6))

    array[1:3, ::2] = 5
    array[0, 0] = 7

    assert array.get()[:, 0].tolist() == [7, 5, 5, 0]
    assert array[1:].strides == (24, 4)
    assert array[1, 2].data.ptr == array.data.ptr + 32
    assert array[1, 2].shape == ()


def test_numpy_is_kept_out(fake_cupy):
    array, host = fake_cupy.zeros(3), np.zeros(3, np.float32)

    for work in (
        lambda: np.asarray(array), lambda: array + host, lambda: host + array, lambda: np.sqrt(array),
        lambda: array.__setitem__(0, host),
    ):  # fmt: skip
        with pytest.raises(TypeError):
            work()
    assert fake_cupy.get_array_module(array) is fake_cupy
    assert fake_cupy.get_array_module(host) is np
    assert find_spec("cupy") is not None


def test_a_download_is_there_only_after_the_stream_was_waited_for(fake_cupy):
    array, stream = fake_cupy.ones(3), fake_cupy.cuda.Stream(non_blocking=True)
    host = __import__("cupyx").empty_pinned(3, np.float32)

    array.get(stream=stream, out=host, blocking=False)
    array.fill(9)  # later work does not change a pending download
    before = host.copy()
    stream.synchronize()

    assert not np.isin(before, (0, 1)).any()
    assert host.tolist() == [1, 1, 1]


def test_a_kernel_runs_on_the_current_stream_and_is_logged(fake_cupy, scale):
    source, target = fake_cupy.asarray(np.arange(5, dtype=np.float32)), fake_cupy.zeros(5)

    scale((1,), (32,), (source, np.float32(3), np.int32(5), target))

    assert target.get().tolist() == [0, 3, 6, 9, 12]
    assert fake_cupy.count("launch", "scale") == 1


@pytest.mark.parametrize(
    ("place", "value"), [(1, 3.0), (1, np.float64(3)), (2, 5), (2, np.int64(5)), (0, np.zeros(5, np.float32)), (3, 0)]
)
def test_an_argument_of_another_type_than_the_parameters_is_refused(fake_cupy, scale, place, value):
    arguments = [fake_cupy.zeros(5), np.float32(3), np.int32(5), fake_cupy.zeros(5)]
    arguments[place] = value

    with pytest.raises(TypeError, match=f"argument {place} of scale"):
        scale((1,), (32,), tuple(arguments))
    with pytest.raises(TypeError, match=r"takes 4 arguments \(PfiP\), got 3"):
        scale((1,), (32,), tuple(arguments[:3]))


def test_captured_work_is_done_when_the_graph_is_launched_and_counts_as_one(fake_cupy, scale):
    source, target = fake_cupy.ones(4), fake_cupy.zeros(4)
    stream = fake_cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        scale((1,), (32,), (source, np.float32(3), np.int32(4), target))
        fake_cupy.enqueue("engine", lambda: fake_cupy.at(target.data.ptr).__iadd__(1), stream.ptr)
        with pytest.raises(RuntimeError, match="an allocation is not allowed while a stream is captured"):
            fake_cupy.zeros(3)
        with pytest.raises(RuntimeError, match="the loading of a module is not allowed"):
            fake_cupy.RawModule(code=SOURCE, options=("--fmad=false",)).compile()
        with pytest.raises(RuntimeError, match="a wait is not allowed while a stream is captured"):
            stream.synchronize()
        graph = stream.end_capture()
        assert not target.get().any()
        fake_cupy.log.clear()
        source.fill(2)
        graph.launch()

    assert target.get().tolist() == [7, 7, 7, 7]
    assert fake_cupy.count("launch") == 0
    assert fake_cupy.count("graph") == 1
    assert [event.name for event in graph.events] == ["scale", "engine"]


def test_released_memory_stays_in_the_pool_until_it_is_freed(fake_cupy):
    array = fake_cupy.zeros(1000)
    view = array[10:]
    del array
    assert fake_cupy.used == 4000
    del view

    assert (fake_cupy.used, fake_cupy.pooled) == (4000, 4000)
    fake_cupy.get_default_memory_pool().free_all_blocks()
    assert fake_cupy.used == 0
    assert fake_cupy.cuda.runtime.memGetInfo() == (1 << 30, 1 << 30)


def test_late_work_is_done_in_order_when_it_is_waited_for(kernel_folder):
    cupy = FakeCupy(kernel_folder, lazy=True)
    one, two, event = cupy.cuda.Stream(), cupy.cuda.Stream(), cupy.cuda.Event()
    array, host = cupy.zeros(2), cupy.empty_pinned(2)
    cupy.cuda.get_current_stream().synchronize()
    with one:
        array.fill(1)
        event.record(one)
        array.fill(2)  # may come before or after the download
    two.wait_event(event)
    array.get(stream=two, out=host, blocking=False)
    assert not array.host.any()

    two.synchronize()

    assert host.tolist() == [1, 1]
    assert cupy.asnumpy(array[0]) == 1  # another stream, and no event between them


def test_late_uploads_take_what_page_locked_memory_then_holds(kernel_folder):
    cupy = FakeCupy(kernel_folder, lazy=True)
    array, host, pageable = cupy.zeros(2), cupy.empty_pinned(2), np.ones(2, np.float32)

    array.set(host)
    host[:] = 3
    assert array.get().tolist() == [3, 3]
    array.set(pageable)
    pageable[:] = 3
    assert array.get().tolist() == [1, 1]
