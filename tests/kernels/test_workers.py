"""The parts cover all the work once, for any number of threads."""

import numpy as np
import pytest

from kernels.workers import SINGLE, Workers


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 64])
def test_every_row_is_worked_on_once(threads, count):
    rows = np.zeros(count, np.int64)

    def add(begin, end):
        rows[begin:end] += 1

    with Workers(threads) as workers:
        workers.run(add, count)

    assert (rows == 1).all()


def test_small_work_stays_on_the_thread_that_asks():
    parts = []

    with Workers(4) as workers:
        workers.run(lambda begin, end: parts.append((begin, end)), 7, least=4)

    assert parts == [(0, 7)]


def test_an_error_of_a_thread_reaches_the_caller_after_all_have_ended():
    done = []

    def fail(begin, end):
        if begin:
            raise ValueError(f"rows {begin} to {end}")
        done.append(end)

    with Workers(2) as workers, pytest.raises(ValueError, match="rows 5 to 10"):
        workers.run(fail, 10)
    assert done == [5]


def test_one_thread_needs_no_pool():
    parts = []

    SINGLE.run(lambda begin, end: parts.append((begin, end)), 3)
    SINGLE.close()

    assert parts == [(0, 3)]
